"""Where samples come from: a table with named columns, or plain arrays. Samples are rows here, as in files."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnx.errors import InputError, count


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
    """Features (m, n[0]) and targets (m,), from an array file or a built-in data set."""

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
        return Samples(
            finite(self.where, self.X, features),
            self.y,
            features,
            self.target,
            self.names is not None,
            self.one_unit,
        )

    def values(self, features: Sequence[str], named: bool) -> Any:
        """Return the features (m, n[0]) that a model was trained on."""
        if self.X.shape[1] != len(features):
            raise InputError(
                f"{self.where} has {self.X.shape[1]} features; the model expects n[0] = {len(features)}"
            )
        if named and self.names is not None and list(self.names) != list(features):
            raise InputError(
                f"{self.where} has {_some(self.names)}; the model was trained on {_some(features)}"
            )
        return finite(self.where, self.X, features)


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
                hint = "; give --drop once for each" if name in drop and "," in name else ""
                raise InputError(f"{self.where} has no column {name!r}{hint}; its columns are: {known}")
        features = [name for name in columns if name != target and name not in drop]
        if not features:
            raise InputError(
                f"{self.where} has no column left as a feature beside {target!r}; it has: {known}"
            )
        X, y = self._numbers(features, droppable=True), self.frame[target]
        if y.null_count():
            raise InputError(
                f"the target {target!r} is missing in {count(y.null_count(), 'row')} of {self.where}, the first being "
                f"row {y.is_null().arg_max() + 1} (counted from 1, without the header); remove these rows"
            )
        if y.dtype.is_nested():
            raise InputError(
                f"the target {target!r} of {self.where} holds {y.dtype}; expected text or numbers"
            )
        if y.dtype.is_decimal():
            y = y.cast(float)
        if not y.dtype.is_numeric():
            return Samples(X, y.cast(str).to_numpy().astype(str), features, target)
        return Samples(X, y.to_numpy(), features, target)

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
        return self._numbers(features, droppable=False)

    def _numbers(self, features: Sequence[str], droppable: bool) -> Any:
        frame = self.frame.select(features)
        text = [
            name for name, kind in frame.schema.items() if not (kind.is_numeric() or str(kind) == "Boolean")
        ]
        if text:
            examples = ", ".join(f"{name} ({_first(frame[name])})" for name in text[:5])
            advice = "since the model was trained on numbers"
            if droppable:
                advice = "or leave them out: " + " ".join(f"--drop {name!r}" for name in text[:5])
            raise InputError(
                f"{count(len(text), 'feature column')} of {self.where} without numbers: {examples}"
                f"{', ...' if len(text) > 5 else ''}. Turn them into numbers, {advice}"
            )
        X = np.column_stack([frame[name].cast(float).to_numpy() for name in features])
        return finite(self.where, X, features)


def finite(where: str, X: Any, features: Sequence[str]) -> Any:
    """Return X (m, n[0]), or raise an InputError unless all its numbers are finite."""
    bad = ~np.isfinite(X)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise InputError(
            f"missing or infinite numbers in the features of {where}: {bad.sum()}, the first in row {row + 1} "
            f"(counted from 1, without the header), column {features[column]!r}. Fill them in, or remove these "
            "rows or columns"
        )
    return X


def _first(column: Any) -> str:
    return next((repr(str(value)) for value in column.drop_nulls()), "nothing but missing values")


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:8]))
    return f"the column{'s' * (len(names) > 1)} {shown}" + (
        f" and {len(names) - 8} more" if len(names) > 8 else ""
    )
