"""Reading data files: CSV and Parquet (by polars), .npz (by NumPy, never unpickled) and IDX, MNIST's format.

The content decides which of them a file is, not its name.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from nnx.data import memory
from nnx.data.array_files import arrays_of
from nnx.data.dialect import PLAIN, Dialect
from nnx.data.gzipped import is_gzipped, length, opened
from nnx.data.header import DELIMITERS
from nnx.data.idx import begins
from nnx.data.npz import readable
from nnx.data.path_checks import regular
from nnx.data.source import Arrays, Table
from nnx.data.tables import CSV, STANDARD_INPUT, parquet_frames, parquet_memory, read_parquet, whole
from nnx.errors import InputError

HEAD = 2**20
"""The number of first bytes, which show a file's format and contain the first line of CSV."""

ENDINGS = {
    ".csv": "CSV", ".tsv": "CSV", ".parquet": "Parquet", ".pq": "Parquet", ".npz": ".npz",
    ".png": "a PNG image", ".xlsx": "an Excel workbook", ".zip": "a zip file",
}  # fmt: skip
"""The usual formats of files with these endings."""

_OTHERS = {
    b"\x89PNG": "a PNG image", b"\xff\xd8\xff": "a JPEG image", b"GIF8": "a GIF image", b"%PDF": "a PDF document",
    b"\x89HDF": "an HDF5 file", b"BZh": "a bzip2 file: unpack it", b"\xfd7zXZ": "an xz file: unpack it",
    b"\x28\xb5\x2f\xfd": "a Zstandard file: unpack it", b"7z\xbc\xaf": "a 7z file: unpack it",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook or another Office document: save its sheet as CSV",
    b"ARROW1": "an Arrow (Feather) file: save it as Parquet", b"\x93NUMPY": "a .npy file: save X and y in an .npz",
    b"SQLite": "an SQLite database: write its table as CSV", b"<!": "a web page", b"<html": "a web page",
    b"<?xml": "XML", b'{"': "JSON: save it as CSV", b"[": "JSON: save it as CSV",
}  # fmt: skip
"""Formats that cannot be read, by their first bytes, and the remedy."""


def read(
    path: Path,
    target: str | None = None,
    dialect: Dialect = PLAIN,
) -> Arrays | Table:
    """Return the data of a file; its content decides the format, not its name.

    Parameters
    ----------
    path : Path
        CSV, Parquet, .npz or IDX; CSV and IDX also gzipped.
    target : str or None
        For .npz: the array with the targets (None: "y", if there is one). For IDX: the file with the labels
        (None: the one named after MNIST's custom, if there is one). For CSV: the column that stays text.
    dialect : Dialect
        How CSV is written, and numbers in the text of Parquet.

    Raises
    ------
    InputError
        When there is no such file, or it cannot be read, or would take more memory than there is.
    """
    kind, head = look(path)
    if kind == "CSV":
        frame = whole(_csv(path, head, dialect), length(path), target)
        return Table(str(path), frame, of_text=True, dialect=dialect)
    if kind == "Parquet":
        memory.check(
            max(3 * path.stat().st_size, 2 * parquet_memory(path)),  # at the least, with X beside the table
            f"reading {str(path)!r}",
            "Close other programs, or take a part of its rows or columns",
        )
        return Table(str(path), read_parquet(path, dialect), dialect=dialect)
    return arrays_of(path, kind, target)


def pieces(
    path: Path,
    target: str | None = None,
    predicting: bool = True,
    dialect: Dialect = PLAIN,
) -> Iterator[Arrays | Table]:
    """Yield the data of a file, as `read`, a table in pieces: in memory that does not grow with the file.

    Where `predicting`, the targets may as well be absent.
    """
    kind, head = look(path)
    if kind == "CSV":
        yield from csv_pieces(_csv(path, head, dialect))
    elif kind == "Parquet":
        for first, frame in parquet_frames(path, dialect):
            yield Table(str(path), frame, first)
    else:
        yield arrays_of(path, kind, target, predicting)


def csv_pieces(table: CSV) -> Iterator[Table]:
    """Yield a CSV file in pieces, all columns as text."""
    for first, frame in table.frames():
        yield Table(table.where, frame, first, of_text=True)


def look(path: Path) -> tuple[str, bytes]:
    """Return a file's format, "CSV", "Parquet", ".npz" or "IDX", and its first bytes, unzipped if it is gzipped.

    Raises
    ------
    InputError
        When there is no such file, it is empty, or it holds nothing that can be read.
    """
    regular(path)
    with opened(path) as file:
        head = file.read(HEAD)
    if not head:
        raise InputError(f"{str(path)!r} is empty")
    kind = kind_of(str(path), head)
    if kind != "CSV" and kind != "IDX" and is_gzipped(path):
        raise InputError(f"{str(path)!r} holds {kind}, gzipped; unpack it: only CSV and IDX are read gzipped")
    return kind, head


def kind_of(where: str, head: bytes) -> str:
    """Return the format of data with this beginning, or raise an InputError that names another format."""
    where = where if where == STANDARD_INPUT else repr(where)
    if head[:4] == b"PK\x03\x04":
        if any(part in head for part in (b"xl/", b"[Content_Types].xml")):
            raise InputError(
                f"{where} is an Excel workbook (or another Office document): save its sheet as CSV"
            )
        first = head[30 : 30 + int.from_bytes(head[26:28], "little")]
        if len(head) > 30 and not first.endswith(b".npy"):
            name = readable(first.decode("utf-8", "replace"))
            raise InputError(f"{where} is a zip file, but no .npz: it holds {name}. Unpack it first")
        return ".npz"
    if _has_names(head):
        return "CSV"
    if head[:4] == b"PAR1":
        return "Parquet"
    if begins(head):
        return "IDX"
    for begin, what in _OTHERS.items():
        if head.startswith(begin):
            raise InputError(
                f"{where} is {what}{'' if ':' in what else ', no table'}. It is none of CSV, Parquet, .npz and IDX, "
                "which are what can be read"
            )
    return "CSV"


_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f]")
_JSON = re.compile(rb'\{"|\[\s*([\[{"\]\d-]|true|false|null)')
_BRACKETS = re.compile(rb'\[[^][{"\r\n]*\][,;\t|]')


def _has_names(head: bytes) -> bool:
    """Whether data that begin like another format begin with names of columns, such as [a],[b] or PAR1,PAR2."""
    if head[:1] in (b"[", b"{"):
        return not _JSON.match(head) or bool(_BRACKETS.match(head))
    end = _CONTROL.search(head)
    if end is None or end[0] not in b"\r\n" or head.startswith(b"<"):
        return False
    try:
        return any(delimiter in head[: end.start()].decode() for delimiter in DELIMITERS)
    except UnicodeDecodeError:
        return False


def misnamed(path: Path) -> str | None:
    """Return a note for a file that can be read but holds something else than its ending says."""
    ending = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    said, kind = ENDINGS.get(ending.lower()), look(path)[0]
    if said in (None, kind):
        return None
    return f"{str(path)!r} holds {kind}, not {said} as its name says; it is read as {kind}"


def _csv(path: Path, head: bytes, dialect: Dialect) -> CSV:
    return CSV(str(path), head, lambda: cast("BinaryIO", opened(path)), dialect)
