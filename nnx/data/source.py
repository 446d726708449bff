"""Where samples come from: a table with named columns, or plain arrays. Samples are rows here, as in files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from nnx.batches import frames
from nnx.batches.frames import some
from nnx.data import labels as label
from nnx.data.column_checks import checked, dated, not_numbers
from nnx.data.columns import Columns
from nnx.data.dialect import PLAIN, Dialect, options
from nnx.data.tables import as_numbers, typed_by
from nnx.errors import InputError, count, did_you_mean


@dataclass
class Samples:
    """Features and targets to train on.

    Attributes
    ----------
    X : array (m, n[0]) of real numbers, or Columns
    y : array (m,) of labels or numbers
        Labels as they come out again.
    features : list of str
    target : str
    named : bool
        Whether the features' names are the data's own, by which other files are matched.
    one_unit : bool
        Whether all features are measured in one unit, as pixels are, and so are scaled alike.
    image_shape : tuple of int, or None
        (h, w) or (h, w, channels), where each sample is an image.
    numbers : array (m,) or None
        Of targets that CSV has as text: the numbers that they mean, if they all are numbers.
    left_out : int
        How many other rows there are, which have no target.
    unused : dict of str
        The columns that are left out, since nothing could be learned of them, and why.
    dialect : Dialect
        How the file is written.
    """

    X: Any
    y: Any
    features: list[str]
    target: str
    named: bool = True
    one_unit: bool = False
    image_shape: tuple[int, ...] | None = None
    numbers: Any | None = None
    left_out: int = 0
    unused: Mapping[str, str] = field(default_factory=dict)
    dialect: Dialect = PLAIN

    @cached_property
    def classes(self) -> tuple[list[Any], Any]:
        """The labels in the order of their classes, and the class of each sample (m,)."""
        return label.classes(self.y)

    def as_numbers(self) -> "Samples":
        """Return the same with the numbers that text means as targets."""
        return self if self.numbers is None else replace(self, y=self.numbers)


@dataclass
class Arrays:
    """Features (m, n[0]) and targets (m,), from an array file or a built-in data set.

    If some rows are left out, `rows` has the places of the others.
    `ready` are the parts "validation" and "test" that a file has beside these samples; `note` is what is to be said.
    """

    where: str
    X: Any
    y: Any | None
    target: str = "y"
    one_unit: bool = False
    names: Sequence[str] | None = None
    image_shape: tuple[int, ...] | None = None
    rows: Any = None
    ready: "Mapping[str, Arrays]" = field(default_factory=dict)
    note: str = ""

    def __len__(self) -> int:
        return len(self.X)

    def part(self, start: int, stop: int) -> "Arrays":
        """Return the samples from start to stop."""
        return replace(self, X=self.X[start:stop], y=None if self.y is None else self.y[start:stop])

    def joined(self, more: "Arrays | Table") -> "Arrays":
        """Return these samples and those of the next piece."""
        assert isinstance(more, Arrays)
        y = None if self.y is None or more.y is None else np.concatenate([self.y, more.y])
        return replace(self, X=np.concatenate([self.X, more.X]), y=y)

    def labelled(self, target: str) -> "Arrays":
        """Return the samples that have a target: neither NaN nor an empty text."""
        if self.y is None or self.y.dtype.kind not in "fU":
            return self
        missing = np.isnan(self.y) if self.y.dtype.kind == "f" else self.y == ""
        if not missing.any():
            return self
        rows = np.flatnonzero(~missing)
        return replace(self, X=self.X[rows], y=self.y[rows], rows=rows)

    def training(self, target: str | None, drop: Sequence[str], day_first: bool | None = None) -> Samples:
        """Return all samples that have a target."""
        if drop:
            raise InputError(f"{self.where} has no named columns to drop; given {', '.join(drop)}")
        if self.y is None:
            raise InputError(f"{self.where} has no targets to learn")
        found = self.labelled(self.target)
        if not len(found):
            raise none_labelled(self.target, len(self), self.where)
        return found._samples(len(self) - len(found))

    def _samples(self, left_out: int) -> Samples:
        features = list(self.names or (f"x{j}" for j in range(self.X.shape[1])))
        return Samples(
            finite(self.where, self.X, features, self.rows),
            self.y,
            features,
            self.target,
            self.names is not None,
            self.one_unit,
            self.image_shape,
            left_out=left_out,
        )

    def values(self, features: Sequence[str], named: bool) -> Any:
        """Return the features (m, n[0]) that a model was trained on."""
        X, names = self.X, self.names
        if named and names is not None:
            X = X[:, frames.places(self.where, names, features)]
        if X.shape[1] != len(features):
            which = f": {frames.some(features)}" if named else ""
            raise InputError(
                f"{self.where} has {count(X.shape[1], 'feature')}; the model was trained on {len(features)}{which}"
            )
        return finite(self.where, X, features, self.rows)

    def targets(self, target: str, labels: Sequence[Any] | None) -> Any:
        """Return the targets (m,) of samples to test a model on; labels are those that it knows, None for numbers."""
        if self.y is None:
            raise InputError(f"{self.where} has no targets to compare the predictions with")
        if labels is not None or self.y.dtype.kind in "biuf":
            return self.y
        try:
            return self.y.astype(float)
        except ValueError:
            raise InputError(
                f"the targets of {self.where} are text such as {str(self.y[0])!r}; the model was trained on numbers"
            ) from None


@dataclass
class Table:
    """A polars DataFrame, or a piece of one whose first row is that number of a file.

    Where `of_text` is true its targets are text as CSV has it, whatever they mean. If some rows are left out, `rows`
    has the places of the others.
    """

    where: str
    frame: Any
    first: int = 1
    of_text: bool = False
    rows: Any = None
    dialect: Dialect = PLAIN

    def __len__(self) -> int:
        return int(self.frame.height) if self.rows is None else len(self.rows)

    def part(self, start: int, stop: int) -> "Table":
        """Return the rows from start to stop."""
        return replace(self, frame=self.frame.slice(start, stop - start), first=self.first + start)

    def joined(self, more: "Arrays | Table") -> "Table":
        """Return these rows and those of the next piece."""
        import polars

        assert isinstance(more, Table)
        return replace(self, frame=polars.concat([self.frame, more.frame])) if len(self) else more

    def training(self, target: str | None, drop: Sequence[str], day_first: bool | None = None) -> Samples:
        """Return all columns but the target and the dropped ones, and the target.

        day_first says what 1/3/2024 means, None: what the column's other dates say.
        """
        columns = self.frame.columns
        known = ", ".join(columns)
        if target is None:
            raise InputError(
                f"which column of {self.where} is the target? Give --target COLUMN, one of: {known}"
            )
        for name in (target, *drop):
            if name not in columns:
                hint = did_you_mean(name, columns)
                its = f". {hint}Its" if hint else "; its"
                if "," in name and name in drop:
                    each = " ".join(f"--drop {one.strip()!r}" for one in name.split(",") if one.strip())
                    its = f"; of several give each by itself: {each}. Its"
                elif "," in name:
                    its = f"; a model has one target. {hint}Its"
                raise InputError(f"{self.where} has no column {name!r}{its} columns are: {known}")
        if target in drop:
            raise InputError(f"the target {target!r} cannot be left out; name other columns in --drop")
        left_out = {target, *drop}
        features = [name for name in columns if name not in left_out]
        if not features:
            raise InputError(f"{self.where} has no feature left beside {target!r}; it has: {known}")
        found = self.labelled(target)
        if not len(found):
            raise none_labelled(target, len(self), self.where)
        return found._samples(target, features, len(self) - len(found), day_first)

    def labelled(self, target: str) -> "Table":
        """Return the rows that have a target."""
        y = self._target(target)
        missing = y.is_null()
        if y.dtype.is_float():
            missing |= y.is_nan().fill_null(True)
        return replace(self, rows=np.flatnonzero(~missing.to_numpy())) if missing.any() else self

    def _samples(self, target: str, features: list[str], left_out: int, day_first: bool | None) -> Samples:
        frame = self.frame[features]
        if self.of_text and self.rows is not None:
            frame = typed_by(frame, self.rows)
        X = Columns(self.where, frame, self.rows)
        whole, y = Columns(self.where, self.frame, self.rows), self._target(target)
        if y.dtype.is_nested():
            raise InputError(
                f"the target {target!r} of {self.where} holds {y.dtype}; expected text or numbers"
            )
        if y.dtype.is_temporal() or (str(y.dtype) == "String" and any(dated(whole, target)[::2])):
            raise InputError(
                f"the target {target!r} of {self.where} holds dates or times such as {str(y[0])!r}; expected classes "
                "or numbers. Turn it into numbers, such as days since a date"
            )
        if not y.dtype.is_numeric() and (why := not_numbers(whole, target)):
            raise InputError(f"the target {target!r} of {self.where} holds {why}")
        X, unused = checked(X, day_first)
        features = X.frame.columns
        if self.of_text or _is_beyond_numpy(y):
            values, numbers = _read(y)
        else:
            values, numbers = _typed(y, self._called(target)), None
        more = {"numbers": numbers, "left_out": left_out, "unused": unused, "dialect": self.dialect}
        return Samples(X, values, features, target, **more)

    def values(self, features: Sequence[str], named: bool) -> Columns:
        """Return the columns that a model was trained on, in its order; other columns do not matter."""
        names = self.frame.columns
        features = [names[j] for j in frames.found(self.where, names, features, named)]
        return Columns(self.where, self.frame[features], self.rows, self.first)

    def targets(self, target: str, labels: Sequence[Any] | None) -> Any:
        """Return the targets (m,) of `labelled` rows to test a model on; labels are those that it knows."""
        y = self._target(target)
        if labels is not None:
            return _typed(y.cast(str) if _is_beyond_numpy(y) else y, self._called(target))
        found = as_numbers(y) if str(y.dtype) == "String" else y.cast(float)
        if found is None:
            at = (y.cast(float, strict=False).is_null()).arg_max()
            hint = f"; give {needed}" if (needed := options(y)) else ""
            raise InputError(
                f"the target {target!r} of {self.where} is {y[at]!r} in row {self._row(at)} (counted from 1, without "
                f"the header); the model was trained on numbers{hint}"
            )
        return found.to_numpy()

    def _called(self, target: str) -> str:
        return f"the target {target!r} of {self.where}"

    def _target(self, target: str) -> Any:
        if target not in self.frame.columns:
            raise InputError(
                f"{self.where} lacks the column {target!r}, the target to compare the predictions with; it has "
                f"{some(self.frame.columns)}. {did_you_mean(target, self.frame.columns)}Give --target "
                "COLUMN if it has another name"
            )
        y = self.frame[target].alias("")  # polars takes some names for patterns
        return y if self.rows is None else y.gather(self.rows)

    def _row(self, at: int) -> int:
        """Return the number in the file of one of these rows."""
        return self.first + int(at if self.rows is None else self.rows[at])


def none_labelled(target: str, m: int, where: str) -> InputError:
    """Return the error for data whose target is missing everywhere."""
    return InputError(
        f"the target {target!r} is missing in all {count(m, 'row')} of {where}; expected some that have it"
    )


def left_out(n: int, target: str) -> str:
    """Return the note on rows without a target."""
    return f"{count(n, 'row')} without the target {target!r} left out"


def finite(where: str, X: Any, features: Sequence[str], rows: Any = None) -> Any:
    """Return X (m, n[0]), or raise an InputError unless all its numbers are finite; rows are its places in the file."""
    bad = ~np.isfinite(X)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        row = row if rows is None else rows[row]
        raise InputError(
            f"missing or infinite numbers in the features of {where}: {bad.sum()}, the first in row {row + 1} "
            f"(counted from 1, without the header), column {features[column]!r}. Fill them in, or remove these "
            "rows or columns"
        )
    return X


def _is_beyond_numpy(y: Any) -> bool:
    """Whether a Series holds exact numbers that no NumPy array can hold: decimals, and integers of 128 bits."""
    return bool(y.dtype.is_decimal()) or str(y.dtype) in ("Int128", "UInt128")


def _typed(y: Any, called: str) -> Any:
    """Return a Series as an array of its numbers, booleans or text."""
    if y.dtype.is_numeric() or str(y.dtype) == "Boolean":
        return y.to_numpy()
    try:
        return y.cast(str).to_numpy().astype(str)
    except Exception as error:  # whatever polars has no text for
        raise InputError(f"{called} holds {y.dtype}; expected text or numbers") from error


def _read(y: Any) -> tuple[Any, Any]:
    """Return the labels of a Series of text, or of exact numbers, and the numbers that they mean, if they all are."""
    text = y.cast(str)
    numbers = as_numbers(text)
    if numbers is not None and numbers.dtype.is_float() and bool((numbers != numbers.floor()).any()):
        return numbers.to_numpy(), numbers.to_numpy()  # fractions, which are no labels
    if numbers is not None and numbers.dtype.is_integer() and bool((numbers.cast(str) == text).all()):
        return numbers.to_numpy(), numbers.to_numpy()
    if numbers is not None and bool((numbers.is_infinite() & text.str.contains("[0-9]")).any()):
        numbers = None  # codes such as 7e999, which no float holds
    cells = text.unique(maintain_order=True)
    found = label.of_text(cells.to_list())
    codes = text.replace_strict(cells, range(len(cells))).to_numpy()
    return np.array(found, label.dtype_of(found))[codes], None if numbers is None else numbers.to_numpy()
