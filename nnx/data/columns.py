"""Rows of a table, whose columns have types of their own."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from nnx.data import dates
from nnx.data.dialect import options
from nnx.errors import InputError


@dataclass(frozen=True, eq=False)
class Columns:
    """Rows of a table, whose columns have types of their own.

    Attributes
    ----------
    where : str
        What the table is called.
    frame : polars.DataFrame
    rows : array of int, or None
        Which of its rows; None: all.
    first : int
        The number in the file of the frame's first row.
    orders : dict of str
        How dates were read that were text, by column.
    """

    where: str
    frame: Any
    rows: Any = None
    first: int = 1
    orders: Mapping[str, str] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int]:
        """(m, columns)."""
        return self.frame.height if self.rows is None else len(self.rows), self.frame.width

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> "Columns":
        """Return these rows; nothing is copied but their numbers."""
        rows = np.arange(self.frame.height)[rows] if self.rows is None else self.rows[rows]
        return replace(self, rows=rows)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        """Return all columns as numbers (m, columns), NaN where they are missing."""
        table = np.column_stack([self.numbers(name) for name in self.frame.columns])
        return table if dtype is None else table.astype(dtype)

    def series(self, name: str) -> Any:
        """Return a column's values, without its name: polars takes some names for patterns."""
        values = self.frame[name].alias("")
        return values if self.rows is None else values.gather(self.rows)

    def row(self, at: int) -> int:
        """Return the number in the file of one of these rows."""
        return self.first + int(at if self.rows is None else self.rows[at])

    def numbers(self, name: str, boolean: bool = False) -> Any:
        """Return a column as floats (m,), NaN where it is missing; text must be of numbers, none is infinite.

        Raises
        ------
        InputError
            Which row holds what instead.
        """
        values = self.series(name)
        kind = str(values.dtype)
        found = values
        if kind == "String" and boolean:
            found = values.str.to_lowercase().replace(["true", "false"], ["1", "0"])
        if kind == "String":
            found = found.cast(float, strict=False)
        elif kind == "Null" or kind == "Boolean" or values.dtype.is_numeric():
            found = values.cast(float)
        elif kind.startswith("Duration"):
            return dates.moments(values) / dates.DAY
        else:
            raise InputError(f"the column {name!r} of {self.where} holds {kind}; expected numbers")
        if found.null_count() > values.null_count():
            at = (found.is_null() & values.is_not_null()).arg_max()
            hint = f"; give {needed}" if (needed := options(values)) else ""
            expected = "true or false" if boolean else "numbers"
            raise self._holds(name, at, f"{expected}, as the model was trained on{hint}")
        numbers = found.to_numpy()
        if np.isinf(numbers).any():
            infinite = np.flatnonzero(np.isinf(numbers))
            raise InputError(
                f"infinite numbers in the features of {self.where}: {len(infinite)} in the column {name!r}, the first "
                f"in row {self.row(infinite[0])} (counted from 1, without the header). Correct them, or leave the "
                "cells empty"
            )
        return numbers

    def moments(self, name: str, order: str) -> Any:
        """Return a column of dates or times of day as moments (m,), NaN where they are missing.

        Raises
        ------
        InputError
            Which row holds what instead.
        """
        values = self.series(name)
        kind = str(values.dtype)
        bad, found = np.zeros(len(values), bool), np.full(len(values), np.nan)
        if kind == "String":
            read = dates.read(values, order)
            bad = (read.is_null() & values.is_not_null()).to_numpy()
            found = read.cast(float).to_numpy()
        elif (kind == "Time") == (order == "time") and kind.startswith(("Date", "Time")):
            found = dates.moments(values)
            bad = ~(np.isnan(found) | ((found >= dates.EARLIEST) & (found < dates.LATEST)))
        elif kind != "Null":
            bad[:] = True
        if bad.any():
            raise self._holds(name, int(bad.argmax()), dates.ORDERS[order])
        return found

    def _holds(self, name: str, at: int, expected: str) -> InputError:
        """Return the error for a value that is not as expected."""
        shown = str(self.series(name).slice(at, 1).cast(str)[0])[:40]
        return InputError(
            f"the column {name!r} of {self.where} holds {shown!r} in row {self.row(at)} (counted from 1, without the "
            f"header); expected {expected}"
        )

    def text(self, name: str) -> Any:
        """Return a column as a polars Series of text."""
        from polars.exceptions import PolarsError

        values = self.series(name)
        try:
            return values if str(values.dtype) == "String" else values.cast(str)
        except PolarsError as error:
            raise InputError(
                f"the column {name!r} of {self.where} holds {values.dtype}, of which some is no text"
            ) from error
