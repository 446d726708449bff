"""How the columns of a table become a network's inputs: numbers scaled robustly, categories as one input each.

After RealMLP-TD-S (Holzmueller et al., 2024, https://arxiv.org/abs/2407.04491, section 3). Added here: missing numbers,
and a limit of the categories.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np

from nnx.array.host import quiet
from nnx.batches import frames
from nnx.errors import InputError, shown
from nnx.support.warned import warn

MOST_CATEGORIES = 100
"""The categories of a column that have an input: the most frequent ones. Others are as a missing value."""

NUMBERS = Real, Decimal, np.bool_
"""The types of numbers, by value."""

DATES = date, time, timedelta, np.datetime64, np.timedelta64
"""The types of dates and times; pandas' own derive from them, but for its periods."""


@dataclass(frozen=True)
class Numbers:
    """A column of numbers: the number, and with missing ones in training an input that is 1 where they are.

    Attributes
    ----------
    fill : float
        The median, which stands for a missing number.
    missing : bool
        Whether any was missing in training.
    """

    fill: float
    missing: bool

    @classmethod
    def learn(cls, x: Any) -> "Numbers":
        """Learn it from the numbers (m,), NaN where they are missing."""
        absent = np.isnan(x)
        return cls(0.0 if absent.all() else float(np.median(x[~absent])), bool(absent.any()))

    def expand(self, column: "Column") -> Any:
        """Return the inputs (m, 1) or (m, 2)."""
        x = column.numbers
        if x is None:
            example = next(one for one in column.values if one is not None and _kind(one) != "numbers")
            raise InputError(f"{column.where} holds {shown(example)}; expected numbers, as in fit")
        absent = np.isnan(x)
        inputs = (
            [np.where(absent, self.fill, x), absent] if self.missing else [np.where(absent, self.fill, x)]
        )
        return np.stack(inputs, axis=1)


@dataclass(frozen=True)
class Categories:
    """A column of categories: an input each, 1 where the sample has it; of two categories one input, 1 or -1.

    All are 0 for a missing value, and for one that the training did not have.

    Attributes
    ----------
    known : tuple
        The categories, compared by value: 1 is 1.0, and not "1".
    kinds : tuple of str
        The kinds of the training's values: "numbers", "text", or the name of a type.
    """

    known: tuple[Any, ...]
    kinds: tuple[str, ...]

    @classmethod
    def learn(cls, values: Sequence[Any]) -> "Categories":
        """Learn it from the values (m,), None where they are missing."""
        counts = Counter(one for one in values if one is not None)
        frequent = sorted(sorted(counts, key=_order), key=lambda one: -counts[one])[:MOST_CATEGORIES]
        return cls(tuple(sorted(frequent, key=_order)), tuple(sorted({_kind(one) for one in counts})))

    def expand(self, column: "Column") -> Any:
        """Return the inputs (m, categories), or (m, 1) of two; warn of categories that the fit did not have.

        Raises
        ------
        InputError
            When none of the values is of a kind that the training had.
        """
        places, values = {one: k for k, one in enumerate(self.known)}, column.values
        codes = np.array([places.get(one, -1) for one in values], dtype=np.int64)
        if self.kinds and (codes < 0).all():
            present = [one for one in values if one is not None]
            if present and not any(_kind(one) in self.kinds for one in present):
                expected = " or ".join(self.kinds)
                raise InputError(f"{column.where} holds {shown(present[0])}; expected {expected}, as in fit")
        if len(self.known) < MOST_CATEGORIES:  # else the fit may have had it
            self._warn_of_unseen(
                column.where, (one for one, code in zip(values, codes, strict=True) if code < 0)
            )
        inputs = (codes[:, None] == np.arange(len(self.known))).astype(float)
        return inputs[:, :1] - inputs[:, 1:] if len(self.known) == 2 else inputs

    @staticmethod
    def _warn_of_unseen(where: str, unknown: Iterable[Any]) -> None:
        first = next((one for one in unknown if one is not None), None)
        if first is not None:
            warn(
                f"{where} holds values that the fit did not have, such as {shown(first)}; they count as missing"
            )


class TableInputs:
    """The inputs of a table's columns, learned from the training's rows.

    Parameters
    ----------
    X : data frame, or NumPy array (m, n)
        Columns of text and of a categorical dtype are categories, and so are those of objects that are not all numbers.
    """

    def __init__(self, X: Any) -> None:
        columns = read(X)
        self.columns: list[Numbers | Categories] = [
            Categories.learn(one.values)
            if one.numbers is None or one.categorical
            else Numbers.learn(one.numbers)
            for one in columns
        ]
        with quiet():
            self.center, self.factor = robust_scale(self._expand(columns))

    def __call__(self, X: Any) -> Any:
        """Return the inputs (m, n[0]) of a table, between -3 and 3."""
        with quiet():
            return smooth_clip(self.factor * (self._expand(read(X)) - self.center))

    def _expand(self, columns: Sequence["Column"]) -> Any:
        parts = [how.expand(column) for how, column in zip(self.columns, columns, strict=True)]
        found = np.concatenate(parts, axis=1)
        return found if found.shape[1] else np.zeros((len(found), 1))  # all columns are empty


def robust_scale(X: Any) -> tuple[Any, Any]:
    """Return the center and the factor of each input: the median, and 1 / (the 75 % quantile - that of 25 %).

    Where the quantiles are equal the factor is 2 / (max - min), and 0 for a constant.

    Examples
    --------
    >>> robust_scale(
    ...     np.array([[0.0, 0.0, 7.0], [1.0, 0.0, 7.0], [2.0, 0.0, 7.0], [4.0, 1.0, 7.0], [9.0, 0.0, 7.0]])
    ... )
    (array([2., 0., 7.]), array([0.33333333, 2.        , 0.        ]))
    """
    low, center, high = np.quantile(X, (0.25, 0.5, 0.75), axis=0)
    width = np.where(high > low, high - low, (X.max(axis=0) - X.min(axis=0)) / 2)
    good = (width > 0) & np.isfinite(width)
    return center, np.where(good, 1 / np.where(good, width, 1.0), 0.0)


def smooth_clip(x: Any) -> Any:
    """Return x / sqrt(1 + (x/3)^2), which is x near 0, and 3 or -3 far from it.

    Examples
    --------
    >>> smooth_clip(np.array([0.1, 3.0, -1e6])).round(3)
    array([ 0.1  ,  2.121, -3.   ])
    """
    return x / np.hypot(1.0, x / 3)


# --- columns ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes
    ----------
    where : str
        Its name, for errors.
    numbers : array (m,) or None
        float64, NaN where they are missing; None: it holds other values.
    categorical : bool
        Whether its dtype says that its values are categories.
    source : callable
        Returns the values as a list.
    """

    where: str
    numbers: Any
    categorical: bool
    source: Any

    @property
    def values(self) -> list[Any]:
        """The values, None where they are missing."""
        return [None if is_missing(one) else one for one in self.source()]


def read(X: Any) -> list[Column]:
    """Return the columns of a data frame or of a NumPy array (m, n)."""
    found = None if isinstance(X, np.ndarray) else frames.frame(X)
    if found is not None:
        return [_column(f"X, column {name!r},", found.column(j)) for j, name in enumerate(found.names)]
    return [_column(f"X, column {j},", X[:, j]) for j in range(X.shape[1])]


def _column(where: str, x: Any) -> Column:
    dtype = str(getattr(x, "dtype", None) or getattr(x, "type", None)).lower()
    categorical = dtype.startswith(("categor", "enum", "dictionary"))
    if not categorical and any(word in dtype for word in ("date", "time", "duration", "period")):
        raise _dates(where, dtype)
    source = getattr(x, "to_pylist", None) or getattr(x, "to_list", None) or x.tolist
    try:
        numbers = None if dtype == "object" else frames.column_of_numbers("X", x, None)
        numbers = None if numbers is None or numbers.dtype.kind not in "biuf" else numbers.astype(np.float64)
    except (InputError, TypeError, ValueError):  # a dtype of other values
        numbers = None
    if numbers is None:
        numbers = _numbers_of(where, source(), categorical)
    if numbers is not None and np.isinf(numbers).any():
        raise ValueError(
            f"Input X contains infinity or a value too large for dtype('float64'): see {where[:-1]}"
        )
    return Column(where, numbers, categorical, source)


def dates(X: Any) -> InputError | None:
    """Return the error of the first column that holds dates; None if there is none."""
    try:
        read(np.array(X, dtype=object) if isinstance(X, list | tuple) else X)
    except InputError as error:
        return error
    except Exception:  # X has another fault
        return None
    return None


def _dates(where: str, what: str) -> InputError:
    return InputError(
        f"{where} holds {what}; hand in numbers, such as the year, the month or the days since a date. Or train with "
        "nnx.Tabular or `nnx train`, which take dates"
    )


def _numbers_of(where: str, values: Sequence[Any], categorical: bool) -> Any:
    """Return objects as numbers (m,), or None if one of them is no number; dates are an error, but as categories."""
    present = [one for one in values if not is_missing(one)]
    for one in present:
        if isinstance(one, complex):
            raise ValueError(f"Complex data not supported\n{where} holds {one!r}")
        if not categorical and (isinstance(one, DATES) or type(one).__name__ == "Period"):
            raise _dates(where, f"{type(one).__name__} such as {one}")
        if _kind(one) not in ("numbers", "text"):
            try:
                hash(one)
            except TypeError:
                kind = type(one).__name__
                raise TypeError(f"{where} argument must be a string or a real number, not {kind!r}") from None
    if not present or not all(_kind(one) == "numbers" for one in present):
        return None if present else np.full(len(values), np.nan)
    return np.array([np.nan if is_missing(one) else float(one) for one in values])


def is_missing(x: Any) -> bool:
    """Whether a value is missing: None, NaN, or one of pandas' marks.

    Examples
    --------
    >>> [is_missing(x) for x in (None, float("nan"), "", 0)]
    [True, True, False, False]
    """
    return x is None or type(x).__name__ in ("NAType", "NaTType") or (isinstance(x, NUMBERS) and x != x)


def _kind(value: Any) -> str:
    """Return "numbers", "text", or the name of another type."""
    if isinstance(value, NUMBERS):
        return "numbers"
    return "text" if isinstance(value, str) else type(value).__name__


def _order(value: Any) -> tuple[int, Any]:
    """Return the key by which values of several types are in one order."""
    place = {"numbers": 0, "text": 1}.get(_kind(value), 2)
    return place, repr(value) if place == 2 else value
