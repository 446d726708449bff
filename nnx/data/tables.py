"""Reading tables by polars: CSV piece by piece, in memory that does not grow with the file, and Parquet.

CSV is taken as text first, and becomes numbers by one rule, whatever the file: a column whose values are all numbers
(quoted or not) holds numbers, one of true and false alone (in any case) booleans, and any other one text.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from nnx.data import memory
from nnx.errors import INSTALL, InputError, first_line, size

MISSING = ["", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NULL", "null"]
"""What means, in a CSV file, that there is no value."""

PIECE = 2**22
"""The bytes of CSV that are read at once."""

LONGEST = 2**26
"""The bytes that a row may have."""

LONGEST_HEADER = 2**20 - 2**10
"""The bytes that the first line may have, of those that are looked at."""

ROWS = 2**17
"""The rows of Parquet that are read at once."""

_COMMA = r"^[+-]?(\d+|\d{1,3}(\.\d{3})+)?,\d+([eE][+-]?\d+)?$"


def polars(where: str) -> Any:
    """Return the library, or raise an InputError that says how to install it."""
    try:
        import polars
    except ImportError as error:
        raise InputError(f"reading {where!r} needs polars: {INSTALL}") from error
    return polars


STANDARD_INPUT = "the standard input"
"""What is read from a pipe is called."""


class CSV:
    """A CSV file whose first line has been looked at.

    Parameters
    ----------
    where : str
        What it is called.
    head : bytes
        Its first bytes.
    begin : callable
        Returns it as a binary file, at its begin.
    decimal_comma : bool
        Whether 3,14 is a number (and 1.234,5 is one above a thousand).

    Attributes
    ----------
    names : list of str
        The columns; what has no name is "Unnamed: 0", as pandas calls it.
    """

    def __init__(self, where: str, head: bytes, begin: Callable[[], BinaryIO], decimal_comma: bool) -> None:
        self.where, self.begin, self.decimal_comma = where, begin, decimal_comma
        called = self.called = where if where == STANDARD_INPUT else repr(where)
        if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise InputError(f"{called} is in UTF-16; save it in UTF-8")
        if b"\0" in head:
            raise InputError(
                f"{called} is none of CSV, Parquet, .npz and IDX, which are what can be read; it begins with "
                f"{head[:8]!r}"
            )
        self.bom = 3 * head.startswith(b"\xef\xbb\xbf")
        blank = len(head[self.bom :]) - len(head[self.bom :].lstrip(b"\r\n"))
        self.start = self.bom + blank
        end = _ends(head[self.start :], first=True) or len(head) - self.start
        if end > LONGEST_HEADER:
            raise InputError(f"the first line of {called} has more than {size(LONGEST_HEADER)}; is it CSV?")
        first = head[self.start : self.start + end].decode("utf-8", "replace").strip("\r\n")
        self.start += end
        if not first.strip():
            raise InputError(f"{called} is empty: it holds nothing but blank lines")
        self.separator = max(",;\t|", key=first.count)
        try:
            cells = [cell.strip() for cell in next(csv.reader(io.StringIO(first), delimiter=self.separator))]
        except (csv.Error, StopIteration) as error:
            raise InputError(f"the first line of {called} cannot be read as CSV ({error})") from error
        if all(_is_number(cell) for cell in cells):
            raise InputError(
                f"the first line of {called} holds numbers ({first[:40]!r} ...); expected the names of the "
                "columns: add a first line with them"
            )
        if "\ufffd" in first:
            raise InputError(f"{called} is not in UTF-8 ({first[:40]!r} ...); save it in UTF-8")
        self.names = [name or f"Unnamed: {j}" for j, name in enumerate(cells)]
        name, times = Counter(self.names).most_common(1)[0]
        if times > 1:
            raise InputError(f"{called} has {times} columns named {name!r}; rename all but one")
        quoted = ('"' + name.replace('"', '""') + '"' for name in self.names)
        self._header = (self.separator.join(quoted) + "\n").encode()
        self._library = polars(where)

    def frames(self) -> Iterator[tuple[int, Any]]:
        """Yield (the number of its first row, from 1, a frame of text) for each piece."""
        first = 1
        for piece in self._pieces():
            frame = self._parse(piece, first)
            if frame.height:
                yield first, frame
            first += frame.height
        if first == 1:
            raise InputError(f"{self.called} has the names of columns, and no rows")

    def _pieces(self) -> Iterator[bytes]:
        with self.begin() as file:
            rest = file.read(self.start)[self.start :]
            while block := file.read(PIECE):
                rest += block
                end = _ends(rest)
                if end:
                    yield rest[:end]
                    rest = rest[end:]
                elif len(rest) > LONGEST:
                    raise InputError(
                        f'{self.called} has a row of more than {size(LONGEST)}; is a quote (") not closed? It '
                        f"begins with {rest[:40].decode('utf-8', 'replace')!r}"
                    )
            if rest.strip():
                yield rest

    def _parse(self, piece: bytes, first: int) -> Any:
        pl, n = self._library, len(self.names)
        try:
            frame = pl.read_csv(
                self._header + piece,  # since polars counts the cells of the first line
                separator=self.separator,
                schema=dict.fromkeys(self.names, pl.String),
                null_values=MISSING,
            )
        except pl.exceptions.NoDataError:
            return pl.DataFrame()
        except (pl.exceptions.PolarsError, OSError) as error:
            raise self._wrong(piece, first, error) from error
        # polars takes blank lines, and cells that a row lacks, as missing values.
        cells = piece.count(self.separator.encode())
        if (
            n > 1
            and frame[self.names[-1]].null_count()
            and (b'"' in piece or cells != frame.height * (n - 1))
        ):
            sizes = self._sizes(piece, first)
            if len(sizes) == frame.height and 0 in sizes:
                frame = frame.filter(pl.Series([size > 0 for size in sizes]))
        if b" " in piece or b"\t" in piece:
            frame = frame.with_columns(pl.all().str.strip_chars().replace(MISSING, [None] * len(MISSING)))
        if self.decimal_comma and b"," in piece:
            cell = pl.all()
            plain = cell.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True)
            frame = frame.with_columns(pl.when(cell.str.contains(_COMMA)).then(plain).otherwise(cell))
        return frame

    def _sizes(self, piece: bytes, first: int) -> list[int]:
        """Return how many cells each line has, 0 if blank; raise an InputError if one has too few or many."""
        sizes: list[int] = []
        n = len(self.names)
        try:
            for row in csv.reader(io.StringIO(piece.decode("utf-8"), newline=""), delimiter=self.separator):
                if len(row) not in (0, n):
                    number = first + sum(size > 0 for size in sizes)
                    raise InputError(
                        f"row {number} of {self.called} (counted from 1, without the header) has "
                        f"{'more' if len(row) > n else 'fewer'} cells than the header has names: {len(row)}, and not "
                        f"{n}. It begins with {self.separator.join(row)[:40]!r}"
                    )
                sizes.append(len(row))
        except (csv.Error, UnicodeDecodeError):
            return []
        return sizes

    def _wrong(self, piece: bytes, first: int, error: Exception) -> InputError:
        """Return what is wrong with a piece that polars cannot read."""
        try:
            piece.decode("utf-8")
        except UnicodeDecodeError as wrong:
            begin = piece.rfind(b"\n", 0, wrong.start) + 1
            line = piece[begin : begin + 60].split(b"\n")[0].decode("utf-8", "replace")[:40]
            row = first + piece.count(b"\n", 0, wrong.start)
            return InputError(f"{self.called} is not in UTF-8 (row {row}: {line!r} ...); save it in UTF-8")
        try:
            self._sizes(piece, first)
        except InputError as found:
            return found
        apart = re.escape(self.separator.encode())
        if stray := re.search(rb'[^\r\n"%b]"[^\r\n"%b]' % (apart, apart), piece):
            begin = piece.rfind(b"\n", 0, stray.start()) + 1
            line = piece[begin : begin + 60].split(b"\n")[0].decode("utf-8", "replace")[:40]
            row = first + piece.count(b"\n", 0, begin)
            return InputError(
                f"{self.called} has a quote within a cell (row {row}: {line!r} ...); "
                'quotes stand around whole cells, no space beside them, and twice within: "5"" pipe"'
            )
        return InputError(
            f"{self.called} cannot be read as CSV in the rows from {first}: {first_line(error)}"
        )


def _ends(text: bytes, first: bool = False) -> int:
    """Return where the last row of a piece ends (or its first one), 0 if none does: at a line's end, out of quotes."""
    if first:
        at = text.find(b"\n")
        while at >= 0 and text.count(b'"', 0, at) % 2:
            at = text.find(b"\n", at + 1)
        return at + 1
    at = text.rfind(b"\n")
    quotes = text.count(b'"', 0, at) if at >= 0 else 0
    while at >= 0 and quotes % 2:
        before = text.rfind(b"\n", 0, at)
        quotes -= text.count(b'"', max(before, 0), at)
        at = before
    return at + 1


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def as_numbers(values: Any) -> Any | None:
    """Return a polars Series of text as whole numbers or else floats; None if some are neither."""
    import polars as pl

    for kind in (pl.Int64, pl.Float64):
        found = values.cast(kind, strict=False)
        if found.null_count() == values.null_count():
            return found
    return None


def has_decimal_commas(values: Any) -> bool:
    """Whether the values of a polars Series of text are all numbers with a decimal comma, or whole."""
    values = values.drop_nulls()
    comma = values.str.contains(_COMMA)
    return bool(comma.any()) and bool((comma | values.str.contains(r"^[+-]?\d+$")).all())


def whole(table: CSV, length: int) -> Any:
    """Return a CSV file as a frame of numbers, booleans and text; length is that of the file in bytes.

    Raises
    ------
    InputError
        When it would take more memory than there is, or cannot be read.
    """
    import polars as pl

    kinds: dict[str, str] = {}
    while True:
        parts: list[Any] = []
        changed = False
        for first, frame in table.frames():
            known = dict(kinds)
            typed = _typed(frame, kinds)
            changed = changed or any(kinds[name] != kind for name, kind in known.items())
            if changed:  # what has become numbers was text after all: from the beginning, then
                parts = []
                continue
            parts.append(typed)
            if first == 1:
                share = typed.estimated_size() / max(1, min(length, PIECE))
                # Beside the table there is X, in half of its bytes or as many.
                memory.check(
                    2 * share * length,
                    f"training on {table.called} ({size(length)})",
                    "Close other programs, or take a part of its rows or columns",
                )
        if not changed:
            break
    of_kind = {"text": pl.String, "boolean": pl.Boolean, "numbers": pl.Int64}
    schema = {name: of_kind[kinds.get(name, "text")] for name in table.names}  # text: no value at all
    for part in parts:
        schema |= {name: kind for name, kind in part.schema.items() if kind == pl.Float64}
    return pl.concat([part.cast(schema) for part in parts], rechunk=False)


def _typed(frame: Any, kinds: dict[str, str]) -> Any:
    """Return a piece with the columns in their types, noting in kinds what each has been found to be."""
    import polars as pl

    missing = dict(zip(frame.columns, frame.null_count().row(0), strict=True))
    left = [name for name, n in missing.items() if n < frame.height and kinds.get(name) != "text"]
    for kind in (pl.Int64, pl.Float64):
        found = frame.select(pl.col(left).cast(kind, strict=False))
        lost = dict(zip(left, found.null_count().row(0), strict=True)) if left else {}
        good = [name for name in left if lost[name] == missing[name]]
        for name in good:
            kinds[name] = "numbers" if kinds.get(name, "numbers") == "numbers" else "text"
        frame = frame.with_columns(found.select(name for name in good if kinds[name] == "numbers"))
        left = [name for name in left if lost[name] > missing[name]]
    lower = frame.select(pl.col(left).str.to_lowercase())
    for name in left:
        boolean = lower[name].drop_nulls().is_in(["true", "false"]).all()
        found_to_be = "boolean" if boolean else "text"
        kinds[name] = found_to_be if kinds.get(name, found_to_be) == found_to_be else "text"
    return frame.with_columns(
        lower.select(pl.col(name) == "true" for name in left if kinds[name] == "boolean")
    )


def tidied(frame: Any) -> Any:
    """Return a frame whose text is as that of CSV: without spaces around it, missing where nothing is left."""
    import polars as pl

    return frame.with_columns(pl.col(pl.String).str.strip_chars().replace("", None))


def read_parquet(path: Path) -> Any:
    """Return what a Parquet file holds."""
    pl = polars(str(path))
    frame = _parquet(path, lambda: pl.read_parquet(path, glob=False))
    if frame.height == 0:
        raise InputError(f"{str(path)!r} has the names of columns, and no rows")
    return tidied(frame)


def parquet_frames(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield (the number of its first row, from 1, a frame) for each piece of a Parquet file."""
    pl = polars(str(path))
    lazy = _parquet(path, lambda: pl.scan_parquet(path, glob=False))
    m = _parquet(path, lambda: lazy.select(pl.len()).collect().item())
    if m == 0:
        raise InputError(f"{str(path)!r} has the names of columns, and no rows")
    for start in range(0, m, ROWS):
        yield start + 1, tidied(_parquet(path, lazy.slice(start, ROWS).collect))


def _parquet(path: Path, read: Callable[[], Any]) -> Any:
    pl = polars(str(path))
    try:
        return read()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"{str(path)!r} cannot be read as Parquet: {first_line(error)}") from error
