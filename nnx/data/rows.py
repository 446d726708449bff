"""The rows of CSV, cell by cell as Python's csv module gives them; `open(path, newline="")` and a strict reader.

polars reads what is plain: quotes, if any, stand around whole cells, no line ends within them, and every row has its
cells. Python's csv module reads every other piece, and says which row is wrong.
"""

import csv
import io
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import numpy as np

from nnx.data.header import Header, beginning, first_line
from nnx.errors import InputError, size

AT_ONCE = 2**18
"""The cells that Python's csv module reads at once."""


class Rows:
    """The rows of a CSV file, read once, in time that grows with its length alone.

    Parameters
    ----------
    called : str
        What errors call the file.
    file : binary file
        At the begin of the first row.
    header : Header
    at_once : int
        The bytes that are read at once.
    longest : int
        The bytes that a row may have.

    Attributes
    ----------
    read : int
        The bytes of the rows that have been given.
    """

    def __init__(self, called: str, file: BinaryIO, header: Header, at_once: int, longest: int) -> None:
        self.called, self._file, self.header = called, file, header
        self._at_once, self._longest = at_once, longest
        self.read = 0
        self._row = 1  # the number of the next one
        self._rest = b""

    def frames(self) -> Iterator[tuple[int, Any]]:
        """Yield (the number of its first row, from 1, a polars DataFrame of text) for each piece.

        The columns are called 0, 1, ...; an empty cell is null or an empty text.
        """
        while piece := self._piece():
            frame, used = plain(piece, self.header.delimiter, len(self.header.names))
            if frame is None:
                yield from self._careful(piece)
                continue
            self._rest = piece[used:] + self._rest
            self.read += used
            yield self._row, frame
            self._row += frame.height

    def _piece(self) -> bytes:
        """Return the next bytes, up to the end of a line; none at the end of the file."""
        parts, length = [self._rest], len(self._rest)
        self._rest = b""
        while block := self._file.read(self._at_once):
            # A carriage return at the end may be half of a line's end.
            end = max(block.rfind(b"\n"), block.rfind(b"\r", 0, len(block) - 1)) + 1
            if end:
                self._rest = block[end:]
                return b"".join([*parts, block[:end]])
            parts.append(block)
            length += len(block)
            if length > self._longest:
                begins = b"".join(parts)[:80].decode("utf-8", "replace")
                raise self._wrong(self._row, begins, _reason(_Long(self._longest)))
        return b"".join(parts)

    def _careful(self, piece: bytes) -> Iterator[tuple[int, Any]]:
        """Yield the rows that begin in a piece, read by Python's csv module."""
        lines, before, n = _Lines(piece, self._piece, self._longest), self.read, len(self.header.names)
        reader = csv.reader(iter(lines), delimiter=self.header.delimiter, strict=True)
        rows: list[list[str]] = []
        over = False
        while not over:
            try:
                for row in reader:
                    if len(row) != n or lines.odd:
                        self._check(self._row + len(rows), row, lines)
                    if row:
                        rows.append(row)
                    over = lines.end_row()
                    if over or len(rows) * n >= AT_ONCE:
                        break
            except csv.Error as error:
                raise self._wrong(self._row + len(rows), lines.row(), _reason(error)) from error
            self.read = before + lines.begin
            if rows:
                yield self._row, _frame(rows)
                self._row += len(rows)
                rows = []
        self._rest = lines.rest() + self._rest

    def _check(self, number: int, row: list[str], lines: "_Lines") -> None:
        """Raise an InputError if a row has another number of cells than there are names, or no text in them."""
        n, begin = len(self.header.names), lines.row()
        if not row and n == 1:
            why = "which may be a missing value where there is but one column; write NA, or remove it"
            raise self._wrong(number, "", f"is a blank line, {why}")
        if row and len(row) != n:
            more = "more" if len(row) > n else "fewer"
            hint = f". Are these the names: {self.header.first_line!r}?" if number == 1 else ""
            what = f"has {more} cells than the header has names: {len(row)}, and not {n}{hint}"
            raise self._wrong(number, begin, what)
        try:
            "".join(row).encode()
        except UnicodeEncodeError:
            where = f"row {number}: {beginning(begin)}"
            raise InputError(
                f"{self.called} is not in UTF-8 ({where}); save it in UTF-8 (in Excel: CSV UTF-8)"
            ) from None
        if any("\0" in cell for cell in row):
            raise self._wrong(number, begin, "holds the character NUL, which text has not; remove it")

    def _wrong(self, number: int, row: str, what: str) -> InputError:
        begins = f"{'' if what.endswith('?') else '.'} It begins with {beginning(row)}" if row else ""
        return InputError(
            f"row {number} of {self.called} (counted from 1, without the header) {what}{begins}"
        )


class _Long(csv.Error):
    """A row has more bytes than this."""


def _reason(error: csv.Error) -> str:
    """Return the fault of a row that Python's csv module refuses."""
    said = str(error)
    if isinstance(error, _Long):
        return f'has more than {size(error.args[0])}; is a quote (") not closed?'
    if "field larger" in said:
        return f'has a cell of more than {csv.field_size_limit():,} characters; is a quote (") not closed?'
    if "unexpected end" in said:
        return 'opens a quote (") that is not closed to the end of the file; close it, or remove it'
    if "expected after" in said:
        return 'has text behind a closing quote ("); quotes stand around whole cells, and twice within: "5"" pipe"'
    return f"cannot be read as CSV: {said}"


class _Lines:
    """The lines of a piece, and of those behind it as far as its last row goes on there.

    Attributes
    ----------
    begin : int
        The character at which the row begins that is being read.
    odd : bool
        Whether some bytes are no UTF-8, or NUL.
    """

    def __init__(self, piece: bytes, more: Callable[[], bytes], longest: int) -> None:
        self.begin, self.odd, self._more, self._longest = 0, False, more, longest
        self._before, self._row, self._further = 0, "", False
        self._open(piece)

    def _open(self, piece: bytes) -> None:
        try:
            self._text = piece.decode()
        except UnicodeDecodeError:
            self._text = piece.decode("utf-8", "surrogateescape")
            self.odd = True
        self.odd = self.odd or "\0" in self._text
        self._lines = io.StringIO(self._text, newline="")

    def __iter__(self) -> Iterator[str]:
        while True:
            yield from self._lines
            end = self._before + len(self._text)
            if end - self.begin > self._longest:
                raise _Long(self._longest)
            piece = self._more()  # the row goes on in the next piece
            if not piece:
                return
            self._row, self._before, self._further = self.row(), end, True
            self._open(piece)

    def end_row(self) -> bool:
        """Note that a row ends here; return whether all lines of the piece have been given."""
        at = self._lines.tell()
        self.begin, self._row = self._before + at, ""
        return self._further or at == len(self._text)

    def row(self) -> str:
        """Return the beginning of the row that is being read, up to the end of its first line."""
        at = max(0, self.begin - self._before)
        return self._row or first_line(self._text[at : at + 80])

    def rest(self) -> bytes:
        """Return the part of the piece that has not been read yet."""
        return self._lines.read().encode("utf-8", "surrogateescape")


def plain(piece: bytes, delimiter: str, n: int) -> tuple[Any, int]:
    """Return the rows of a piece of CSV, read by polars, and how many bytes they are.

    None and 0 unless polars and Python's csv module read it alike: quotes begin no cell or stand around whole ones, no
    carriage return is within them, and each row has n cells. A row whose quotes are not closed in the piece is left.
    """
    import polars as pl

    nothing = None, 0
    if piece.startswith(BOM_UTF8):
        return nothing  # polars leaves it out
    if b"\0" in piece or len(delimiter.encode()) > 1 or not _is_utf8(piece):
        return nothing
    if n == 1 and (piece.startswith((b"\n", b"\r")) or b"\n\n" in piece or b"\n\r" in piece):
        return nothing  # a blank line
    text = piece if piece.endswith(b"\n") else piece + b"\n"
    letters = np.frombuffer(text, np.uint8)
    if b"\r" in text and not (letters[1:] == ord("\n"))[letters[:-1] == ord("\r")].all():
        return nothing
    marks, quotes = (letters == ord("\n")) | (letters == ord(delimiter)), letters == ord('"')
    # A quote that begins no cell is text.
    quoted = b'"' in text and bool(quotes[0] or (quotes[1:] & marks[:-1]).any())
    at = np.flatnonzero(marks | quotes | (letters == ord("\r")) if quoted else marks)
    kinds = letters[at]
    if quoted:
        within = _within_quotes(at, kinds)
        if within is None:
            return nothing
        at, kinds = at[: len(within)], kinds[: len(within)]
        hidden = at[within & (kinds == ord("\n"))]
        kinds = kinds[~within & (kinds != ord('"')) & (kinds != ord("\r"))]
        text = text[: at[-1] + 1]
        if len(hidden):  # polars' threads would guess whether a row ends there
            without = letters[: len(text)].copy()
            without[hidden] = 0
            text = without.tobytes()
    # The delimiters and the ends of rows in their order: each n-th is an end, and no other one.
    ends = kinds == ord("\n")
    rows = np.count_nonzero(ends)
    if len(ends) != rows * n or not ends[n - 1 :: n].all():
        return nothing
    try:
        frame = pl.read_csv(
            text.replace(b"\r\n", b"\n") if b"\r" in text else text,
            has_header=False,
            separator=delimiter,
            quote_char='"' if quoted else None,
            schema={str(j): pl.String for j in range(n)},
        )
    except (pl.exceptions.PolarsError, OSError):
        return nothing
    if quoted and len(hidden):
        frame = frame.with_columns(pl.all().str.replace_all("\0", "\n", literal=True))
    return (frame, min(len(text), len(piece))) if frame.height == rows else nothing


def _within_quotes(at: Any, kinds: Any) -> Any:
    """Return which marks are within quotes, their opening one among them, up to the last end of a row.

    None if there is none, if a quote stands elsewhere than around a whole cell or twice within, or if a carriage return
    is within quotes.

    Parameters
    ----------
    at : array (marks,) of int
        Where the delimiters, quotes and ends of lines (both characters) are. The last one is an end.
    kinds : array (marks,) of uint8
    """
    quotes = kinds == ord('"')
    within = (np.cumsum(quotes, dtype=np.uint8) & 1).view(bool)
    ends = np.flatnonzero((kinds == ord("\n")) & ~within)
    if not len(ends):
        return None
    stop = int(ends[-1]) + 1
    quotes, within = quotes[:stop], within[:stop]
    # Before an opening quote, and behind a closing one, stands the begin or the end of a cell, or another quote.
    beside = np.diff(at[:stop]) == 1
    opening, closing = np.flatnonzero(quotes & within), np.flatnonzero(quotes & ~within)
    if at[0] == 0 and quotes[0]:
        opening = opening[1:]
    elif len(opening) and opening[0] == 0:
        return None
    if not beside[opening - 1].all() or not beside[closing].all():
        return None
    return None if (within & (kinds[:stop] == ord("\r"))).any() else within


def _is_utf8(piece: bytes) -> bool:
    try:
        return piece.isascii() or bool(piece.decode())
    except UnicodeDecodeError:
        return False


def _frame(rows: list[list[str]]) -> Any:
    """Return rows as a frame."""
    import polars as pl

    columns = zip(*rows, strict=True)
    return pl.DataFrame([pl.Series(str(j), column, pl.String) for j, column in enumerate(columns)])
