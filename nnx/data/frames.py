"""Tables from Python become polars tables as files do: columns of numbers, booleans and text."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nnx.array import host
from nnx.batches import frames
from nnx.data.dialect import PLAIN, Dialect
from nnx.data.source import Table
from nnx.data.tables import tidied, typed_as
from nnx.errors import InputError, first_line
from nnx.port.base import require

pl = require("polars", "cli")

WHERE = "the data frame"


def table(found: frames.Frame, read: Callable[[str], bool], dialect: Dialect = PLAIN) -> Table:
    """Return a table; the columns for which `read` is true are read, and the others are empty.

    Raises
    ------
    InputError
        When several columns have one name, or one holds values that polars has no type for.
    """
    names = frames.distinct(WHERE, found.names)
    empty = pl.repeat(None, found.m, eager=True)
    columns = [
        _series(name, found.column(j)) if read(name) else empty.alias(name) for j, name in enumerate(names)
    ]
    return Table(WHERE, typed_as(tidied(pl.DataFrame(columns)), dialect), dialect=dialect)


def _series(name: str, x: Any) -> Any:
    """Return a column as a polars Series, null where it is missing.

    Raises
    ------
    InputError
        When it holds something that polars has no type for, or values of several kinds.
    """
    of = frames.library(x)
    try:
        if of in ("polars", "pyarrow"):
            found = x.rename(name) if of == "polars" else pl.Series(name, pl.from_arrow(x))
            return found.cast(pl.String) if found.dtype in (pl.Categorical, pl.Enum) else found
        if of == "pandas" and getattr(x.dtype, "tz", None) is not None:
            x = x.dt.tz_convert(None)  # to UTC
        values = x.to_numpy() if of == "pandas" else host.as_host(x)
        if values.dtype.kind in "biuf":
            return _numbers(name, values, of == "pandas")
        if values.dtype.kind in "mM":
            return pl.Series(name, values.astype(f"{values.dtype.kind}8[us]"))
        return _objects(name, values.tolist())
    except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"the column {name!r} of {WHERE} cannot be read: {first_line(error)}") from error


def _numbers(name: str, values: Any, of_pandas: bool) -> Any:
    if values.dtype.kind == "f" and values.dtype.itemsize not in (4, 8):
        values = values.astype(np.float64)
    values = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("=")))
    found = pl.Series(name, values, nan_to_null=of_pandas)
    kept = found.drop_nulls()
    if of_pandas and found.null_count() and bool(((kept.abs() < 2**53) & (kept == kept.floor())).all()):
        return found.cast(pl.Int64)  # pandas has integers as floats where some are missing
    return found


def _objects(name: str, values: Sequence[Any]) -> Any:
    cells = [None if _is_missing(cell) else cell for cell in values]
    if any(isinstance(cell, str) for cell in cells):
        cells = [cell if cell is None else str(cell) for cell in cells]
    found = pl.Series(name, cells, strict=False)
    if found.null_count() > sum(cell is None for cell in cells):
        kinds = sorted({type(cell).__name__ for cell in cells if cell is not None})
        raise TypeError(f"it holds values of several kinds: {', '.join(kinds)}")
    return found


def _is_missing(cell: Any) -> bool:
    """Whether a cell is None, NaN, NaT or pandas' NA."""
    return (
        cell is None
        or type(cell).__name__ in ("NAType", "NaTType")
        or (isinstance(cell, float) and cell != cell)
    )
