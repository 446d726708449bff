"""Where samples come from: a table with named columns, or plain arrays. Samples are rows here, as in files."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnx.errors import InputError


@dataclass
class Samples:
    """Features and targets to train on.

    Attributes
    ----------
    X : array (m, n[0]) of real numbers
    y : array (m,) of labels or numbers
    features : list of str
    target : str
    named : bool
        Whether the features' names are the data's own, by which other files are matched.
    one_unit : bool
        Whether all features are measured in one unit, as pixels are, and so are scaled alike.
    """

    X: Any
    y: Any
    features: list[str]
    target: str
    named: bool = True
    one_unit: bool = False


@dataclass
class Arrays:
    """Features (m, n[0]) and targets (m,) without names of their own."""

    where: str
    X: Any
    y: Any | None
    target: str = "y"
    one_unit: bool = False
    names: Sequence[str] | None = None

    def training(self, target: str | None, drop: Sequence[str]) -> Samples:
        """Return all samples with their targets."""
        if drop:
            raise InputError(f"{self.where} has no named columns to drop; given {', '.join(drop)}")
        if self.y is None:
            raise InputError(f"{self.where} has no targets to learn")
        features = list(self.names or (f"x{j}" for j in range(self.X.shape[1])))
        return Samples(self.X, self.y, features, self.target, self.names is not None, self.one_unit)

    def values(self, features: Sequence[str], named: bool) -> Any:
        """Return the features (m, n[0]) that a model was trained on."""
        if self.X.shape[1] != len(features):
            raise InputError(
                f"{self.where} has {self.X.shape[1]} features; the model expects n[0] = {len(features)}"
            )
        return self.X


@dataclass
class Table:
    """A polars DataFrame."""

    where: str
    frame: Any

    def training(self, target: str | None, drop: Sequence[str]) -> Samples:
        """Return all columns but the target and the dropped ones, and the target."""
        columns = self.frame.columns
        known = ", ".join(columns)
        if target is None:
            raise InputError(
                f"which column of {self.where} is the target? Give --target COLUMN, one of: {known}"
            )
        for name in (target, *drop):
            if name not in columns:
                raise InputError(f"{self.where} has no column {name!r}; its columns are: {known}")
        features = [name for name in columns if name != target and name not in drop]
        if not features:
            raise InputError(
                f"{self.where} has no column left as a feature beside {target!r}; it has: {known}"
            )
        X, y = self._numbers(features), self.frame[target]
        if y.null_count():
            raise InputError(
                f"the target {target!r} is missing in {y.null_count()} rows of {self.where}, the first being "
                f"row {y.is_null().arg_max() + 1}; remove these rows"
            )
        if not (y.dtype.is_numeric() or str(y.dtype) == "Boolean"):
            y = y.cast(str)
        labels = y.to_numpy()
        return Samples(X, labels.astype(str) if labels.dtype == object else labels, features, target)

    def values(self, features: Sequence[str], named: bool) -> Any:
        """Return the columns that a model was trained on, in its order; other columns do not matter."""
        if not named and len(features) == self.frame.width:
            features = self.frame.columns
        missing = [name for name in features if name not in self.frame.columns]
        if missing:
            raise InputError(
                f"{self.where} lacks {_some(missing)}, which the model was trained on; it has "
                f"{_some(self.frame.columns)}"
            )
        return self._numbers(features)

    def _numbers(self, features: Sequence[str]) -> Any:
        frame = self.frame.select(features)
        text = [
            name for name, kind in frame.schema.items() if not (kind.is_numeric() or str(kind) == "Boolean")
        ]
        if text:
            examples = ", ".join(f"{name} ({next(iter(frame[name].drop_nulls()), None)!r})" for name in text[:5])
            raise InputError(
                f"{len(text)} of the feature columns of {self.where} do not hold numbers: {examples}"
                f"{', ...' if len(text) > 5 else ''}. Turn them into numbers, or leave them out: "
                + " ".join(f"--drop {name!r}" for name in text[:5])
            )
        X = np.column_stack([frame[name].cast(float).to_numpy() for name in features])
        bad = ~np.isfinite(X)
        if bad.any():
            row, column = np.argwhere(bad)[0]
            raise InputError(
                f"{self.where} has {bad.sum()} missing or infinite numbers in its features, the first in row "
                f"{row + 1}, column {features[column]!r}. Fill them in, remove these rows, or leave out columns "
                "with --drop"
            )
        return X


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:8]))
    return f"the column{'s' * (len(names) > 1)} {shown}" + (
        f" and {len(names) - 8} more" if len(names) > 8 else ""
    )
