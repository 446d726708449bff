"""Reading tables by polars: CSV piece by piece, in memory that does not grow with the file, and Parquet.

CSV is taken as text first, and becomes numbers by one rule, whatever the file: a column whose values are all numbers
(quoted or not) holds numbers, one of true and false alone (in any case) booleans, and any other one text.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from nnx.data import memory
from nnx.data.dialect import PLAIN, Dialect, contradiction
from nnx.data.header import BLANK, Header, read_header
from nnx.data.rows import Rows
from nnx.errors import InputError, first_line, size
from nnx.port.base import require

MISSING = ["", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NULL", "null"]
"""The texts for a missing value in a CSV file."""

PIECE = 2**22
"""The bytes of CSV that are read at once."""

LONGEST = 2**26
"""The bytes that a row may have."""

ROWS = 2**17
"""The rows of Parquet that are read at once."""


STANDARD_INPUT = "the standard input"
"""The name of data from a pipe."""


class CSV:
    """A CSV file whose first lines have been looked at.

    Parameters
    ----------
    where : str
        What it is called.
    head : bytes
        Its first bytes.
    begin : callable
        Returns it as a binary file, at its begin.
    dialect : Dialect

    Attributes
    ----------
    names : list of str
        The columns; what has no name is "Unnamed: 0", as pandas calls it.
    read : int
        How many bytes the frames given so far stood in.
    """

    def __init__(
        self,
        where: str,
        head: bytes,
        begin: Callable[[], BinaryIO],
        dialect: Dialect = PLAIN,
    ) -> None:
        self.where, self.begin, self.dialect = where, begin, dialect
        self.called = where if where == STANDARD_INPUT else repr(where)
        self._header = self._read_header(head)
        self.names, self.read = self._header.names, 0
        require("polars", "cli")

    def _read_header(self, head: bytes) -> Header:
        if self.dialect.delimiter is None and self.dialect.usual is not None:
            with suppress(InputError):  # which reading without it says
                header = read_header(self.called, head, self.dialect.usual)
                if len(header.names) > 1:
                    return header
        return read_header(self.called, head, self.dialect.delimiter)

    def frames(self) -> Iterator[tuple[int, Any]]:
        """Yield (the number of its first row, from 1, a frame of text) for each piece."""
        first = None
        with self.begin() as file:
            file.read(self._header.start)
            rows = Rows(self.called, file, self._header, PIECE, LONGEST)
            for first, frame in rows.frames():
                self.read = rows.read
                yield first, self._cleaned(frame)
        if first is None:
            raise InputError(f"{self.called} has the names of columns, and no rows")

    def _cleaned(self, frame: Any) -> Any:
        """Return cells under their names: without blanks around them, null where a value is missing."""
        import polars as pl

        cell = pl.all().str.strip_chars(BLANK)
        frame = frame.with_columns(cell.replace(MISSING, [None] * len(MISSING)))
        if self.dialect.decimal_comma and not self.dialect.thousands:
            for name, values in zip(self.names, frame, strict=True):
                if (found := contradiction(values)) is not None:
                    raise InputError(
                        f"the column {name!r} of {self.called} has decimal commas, and {found!r}; give --thousands, "
                        f"too: it is {found.replace('.', '')} then"
                    )
        frame = frame.with_columns(self.dialect.numbers(pl.all()))
        frame.columns = self.names
        return frame


def as_numbers(values: Any) -> Any | None:
    """Return a polars Series of text as whole numbers or else floats; None if some are neither."""
    import polars as pl

    for kind in (pl.Int64, pl.Float64):
        found = values.cast(kind, strict=False)
        if found.null_count() == values.null_count():
            return found
    return None


def whole(table: CSV, length: int, target: str | None = None) -> Any:
    """Return a CSV file as a frame of numbers, booleans and text; length is that of the file in bytes.

    The column `target` stays text, as it stands in the file.

    Raises
    ------
    InputError
        When it would take more memory than there is, or cannot be read.
    """
    import polars as pl

    kinds = {name: "text" for name in table.names if name == target}
    what = (
        f"training on {table.called} ({size(length)})",
        "Close other programs, or take a part of its rows or columns",
    )
    while True:
        parts: list[Any] = []
        changed, held = False, 0
        for first, frame in table.frames():
            known = dict(kinds)
            typed = _typed(frame, kinds)
            changed = changed or any(kinds[name] != kind for name, kind in known.items())
            if changed:  # what has become numbers was text after all: from the beginning, then
                parts = []
                continue
            parts.append(typed)
            own = typed.estimated_size()
            held += own
            # Beside the table there is X, in half of its bytes or as many. The length of a gzipped file is not certain,
            # so that X must fit beside the pieces so far, too.
            memory.check(2 * own / max(1, table.read) * length if first == 1 else held, *what)
        if not changed:
            break
    of_kind = {"text": pl.String, "boolean": pl.Boolean, "numbers": pl.Int64}
    schema = {name: of_kind[kinds.get(name, "text")] for name in table.names}  # text: no value at all
    for part in parts:
        schema |= {name: kind for name, kind in part.schema.items() if kind == pl.Float64}
    cast = (pl.DataFrame([column.cast(schema[column.name]) for column in part]) for part in parts)
    return pl.concat(cast, rechunk=False)


def _typed(frame: Any, kinds: dict[str, str]) -> Any:
    """Return a piece with the columns in their types, and note the kind of each in kinds."""
    import polars as pl

    # By number, since polars takes names such as * and ^a.*$ for patterns of names.
    names = dict(zip(map(str, range(frame.width)), frame.columns, strict=True))
    frame = frame.clone()
    frame.columns = list(names)
    missing = dict(zip(names, frame.null_count().row(0), strict=True))
    left = [j for j, n in missing.items() if n < frame.height and kinds.get(names[j]) != "text"]
    for kind in (pl.Int64, pl.Float64):
        found = frame.select(pl.col(left).cast(kind, strict=False))
        lost = dict(zip(left, found.null_count().row(0), strict=True)) if left else {}
        good = [j for j in left if lost[j] == missing[j]]
        for name in map(names.__getitem__, good):
            kinds[name] = "numbers" if kinds.get(name, "numbers") == "numbers" else "text"
        frame = frame.with_columns(found.select(j for j in good if kinds[names[j]] == "numbers"))
        left = [j for j in left if lost[j] > missing[j]]
    lower = frame.select(pl.col(left).str.to_lowercase())
    for j in left:
        boolean = lower[j].drop_nulls().is_in(["true", "false"]).all()
        found_to_be = "boolean" if boolean else "text"
        kinds[names[j]] = found_to_be if kinds.get(names[j], found_to_be) == found_to_be else "text"
    frame = frame.with_columns(
        lower.select(pl.col(j) == "true" for j in left if kinds[names[j]] == "boolean")
    )
    frame.columns = list(names.values())
    return frame


def typed_by(frame: Any, rows: Any) -> Any:
    """Return a frame in which columns of text have the types that these rows of theirs have, null in the other rows."""
    import polars as pl

    wanted = pl.Series([False]).new_from_index(0, frame.height).scatter(rows, True)
    nothing = pl.Series([None], dtype=pl.String).new_from_index(0, frame.height)
    text = [column for column in frame if column.dtype == pl.String]
    if not text:
        return frame
    of_rows = [column.alias("").zip_with(wanted, nothing).alias(column.name) for column in text]
    return frame.with_columns(_typed(pl.DataFrame(of_rows), {}).get_columns())


def tidied(frame: Any) -> Any:
    """Return a frame whose text is as that of CSV: without blanks around it, missing where nothing is left."""
    import polars as pl

    return frame.with_columns(pl.col(pl.String).str.strip_chars(BLANK).replace("", None))


def read_parquet(path: Path, dialect: Dialect) -> Any:
    """Return the table of a Parquet file; text that the dialect reads as numbers becomes numbers."""
    pl = require("polars", "cli")
    frame = _parquet(path, lambda: pl.read_parquet(path, glob=False))
    if frame.height == 0:
        raise InputError(f"{str(path)!r} has the names of columns, and no rows")
    return typed_as(tidied(frame), dialect)


def typed_as(frame: Any, dialect: Dialect) -> Any:
    """Return a frame in which text that the dialect makes numbers of is numbers."""
    if dialect == PLAIN:
        return frame
    read = [column for column in _read(frame, dialect) if not column.equals(frame[column.name])]
    found = [numbers for column in read if (numbers := as_numbers(column)) is not None]
    return frame.with_columns(found)


def _read(frame: Any, dialect: Dialect) -> Any:
    """Return a frame whose text has numbers as 1234.5."""
    import polars as pl

    return frame.with_columns(dialect.numbers(pl.col(pl.String)))


def parquet_frames(path: Path, dialect: Dialect) -> Iterator[tuple[int, Any]]:
    """Yield (the number of its first row, from 1, a frame) for each piece of a Parquet file."""
    pl = require("polars", "cli")
    lazy = _parquet(path, lambda: pl.scan_parquet(path, glob=False))
    m = _parquet(path, lambda: lazy.select(pl.len()).collect().item())
    if m == 0:
        raise InputError(f"{str(path)!r} has the names of columns, and no rows")
    for start in range(0, m, ROWS):
        yield start + 1, _read(tidied(_parquet(path, lazy.slice(start, ROWS).collect)), dialect)


def parquet_memory(path: Path) -> float:
    """Return the bytes that a Parquet file takes in memory at the least: its rows and types say so, unread."""
    pl = require("polars", "cli")
    lazy = _parquet(path, lambda: pl.scan_parquet(path, glob=False))
    schema = _parquet(path, lazy.collect_schema)
    rows = _parquet(path, lambda: lazy.select(pl.len()).collect().item())
    text = sum(kind in (pl.String, pl.Binary) for kind in schema.values())
    numbers = pl.DataFrame(schema=schema).clear(1024).estimated_size() / 1024
    return float(rows * (16 * text + numbers))


def _parquet(path: Path, read: Callable[[], Any]) -> Any:
    pl = require("polars", "cli")
    panic = getattr(pl.exceptions, "PanicException", Exception)  # no Exception: Rust's, of damaged files
    try:
        with _silent():
            return read()
    except MemoryError:
        raise
    except (Exception, panic) as error:
        raise InputError(f"{str(path)!r} cannot be read as Parquet: {first_line(error)}") from error


@contextmanager
def _silent() -> Iterator[None]:
    """Discard the standard error output: Rust prints its stack there before it raises."""
    try:
        kept = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
