"""Reading data files: CSV and Parquet (by polars), .npz (by NumPy, never unpickled) and IDX, MNIST's format.

The content decides which of them a file is, not its name.
"""

import gzip
import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from nnx.data import memory
from nnx.data.source import Arrays, Table
from nnx.data.tables import CSV, STANDARD_INPUT, parquet_frames, read_parquet, whole
from nnx.errors import InputError

HEAD = 2**20
"""The first bytes, which tell what a file holds, and hold the first line of CSV."""
_IDX_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


ENDINGS = {
    ".csv": "CSV", ".tsv": "CSV", ".parquet": "Parquet", ".pq": "Parquet", ".npz": ".npz",
    ".png": "a PNG image", ".xlsx": "an Excel workbook", ".zip": "a zip file",
}  # fmt: skip
"""What files of these endings hold, by custom."""

_OTHERS = {
    b"\x89PNG": "a PNG image", b"\xff\xd8\xff": "a JPEG image", b"GIF8": "a GIF image", b"%PDF": "a PDF document",
    b"\x89HDF": "an HDF5 file", b"BZh": "a bzip2 file: unpack it", b"\xfd7zXZ": "an xz file: unpack it",
    b"\x28\xb5\x2f\xfd": "a Zstandard file: unpack it", b"7z\xbc\xaf": "a 7z file: unpack it",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook or another Office document: save its sheet as CSV",
    b"ARROW1": "an Arrow (Feather) file: save it as Parquet", b"\x93NUMPY": "a .npy file: save X and y in an .npz",
    b"SQLite": "an SQLite database: write its table as CSV", b"<!": "a web page", b"<html": "a web page",
    b"<?xml": "XML", b'{"': "JSON: save it as CSV", b"[": "JSON: save it as CSV",
}  # fmt: skip
"""What is no data that can be read, by its first bytes, and what to do."""


def read(path: Path, target: str | None = None, decimal_comma: bool = False) -> Arrays | Table:
    """Return what a file holds; its content decides what it is, not its name.

    Parameters
    ----------
    path : Path
        CSV, Parquet, .npz or IDX; CSV and IDX also gzipped.
    target : str or None
        For .npz: the array with the targets (None: "y", if there is one). For IDX: the file with the labels
        (None: the one named after MNIST's custom, if there is one). For tables not used here.
    decimal_comma : bool
        Of CSV: whether 3,14 is a number.

    Raises
    ------
    InputError
        When there is no such file, or it cannot be read, or would take more memory than there is.
    """
    kind, head = look(path)
    if kind == "CSV":
        return Table(str(path), whole(_csv(path, head, decimal_comma), _length(path)))
    if kind == "Parquet":
        memory.check(
            3 * path.stat().st_size,  # at the least
            f"reading {str(path)!r}",
            "Close other programs, or take a part of its rows or columns",
        )
        return Table(str(path), read_parquet(path))
    return _arrays(path, kind, target)


def pieces(
    path: Path, target: str | None = None, predicting: bool = True, decimal_comma: bool = False
) -> Iterator[Arrays | Table]:
    """Yield what a file holds, as `read`, a table in pieces: in memory that does not grow with the file.

    Where `predicting`, the targets may as well be absent.
    """
    kind, head = look(path)
    if kind == "CSV":
        yield from csv_pieces(_csv(path, head, decimal_comma))
    elif kind == "Parquet":
        for first, frame in parquet_frames(path):
            yield Table(str(path), frame, first)
    else:
        yield _arrays(path, kind, target, predicting)


def csv_pieces(table: CSV) -> Iterator[Table]:
    """Yield a CSV file in pieces, all columns as text."""
    for first, frame in table.frames():
        yield Table(table.where, frame, first)


def look(path: Path) -> tuple[str, bytes]:
    """Return what a file holds, "CSV", "Parquet", ".npz" or "IDX", and its first bytes, unzipped if it is gzipped.

    Raises
    ------
    InputError
        When there is no such file, it is empty, or it holds nothing that can be read.
    """
    if path.is_dir():
        raise InputError(f"{str(path)!r} is a folder; expected a file")
    if not path.exists():
        raise InputError(f"there is no file {str(path)!r}")
    if not path.is_file():
        raise InputError(f"{str(path)!r} is no regular file; write what it gives to one")
    head = _read(path, HEAD)
    if not head:
        raise InputError(f"{str(path)!r} is empty")
    kind = kind_of(str(path), head)
    if kind != "CSV" and kind != "IDX" and _is_gzipped(path):
        raise InputError(f"{str(path)!r} holds {kind}, gzipped; unpack it: only CSV and IDX are read gzipped")
    return kind, head


def kind_of(where: str, head: bytes) -> str:
    """Return what something that begins so holds, or raise an InputError that says what it is instead."""
    where = where if where == STANDARD_INPUT else repr(where)
    if head[:4] == b"PK\x03\x04":
        if any(part in head for part in (b"xl/", b"[Content_Types].xml")):
            raise InputError(
                f"{where} is an Excel workbook (or another Office document): save its sheet as CSV"
            )
        first = head[30 : 30 + int.from_bytes(head[26:28], "little")]
        if len(head) > 30 and not first.endswith(b".npy"):
            name = first.decode("utf-8", "replace")
            raise InputError(f"{where} is a zip file, but no .npz: it holds {name}. Unpack it first")
        return ".npz"
    if head[:4] == b"PAR1":
        return "Parquet"
    if head[:2] == b"\0\0" and head[2:3] and head[2] in _IDX_DTYPES:
        return "IDX"
    for begin, what in _OTHERS.items():
        if head.startswith(begin):
            raise InputError(
                f"{where} is {what}{'' if ':' in what else ', no table'}. It is none of CSV, Parquet, .npz and IDX, "
                "which are what can be read"
            )
    return "CSV"


def misnamed(path: Path) -> str | None:
    """Return a note for a file that can be read but holds something else than its ending says."""
    ending = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    said, kind = ENDINGS.get(ending.lower()), look(path)[0]
    if said in (None, kind):
        return None
    return f"{str(path)!r} holds {kind}, not {said} as its name says; it is read as {kind}"


def _is_gzipped(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _length(path: Path) -> int:
    """Return the bytes of a file, unpacked if it is gzipped (modulo 2^32, as gzip notes it)."""
    if not _is_gzipped(path):
        return path.stat().st_size
    with path.open("rb") as file:
        file.seek(-4, 2)
        return max(int.from_bytes(file.read(4), "little"), path.stat().st_size)


def _csv(path: Path, head: bytes, decimal_comma: bool) -> CSV:
    def begin() -> Any:
        return gzip.open(path) if _is_gzipped(path) else path.open("rb")

    return CSV(str(path), head, begin, decimal_comma)


def _arrays(path: Path, kind: str, target: str | None, predicting: bool = False) -> Arrays:
    return _npz(path, target, predicting) if kind == ".npz" else _images(path, None if predicting else target)


def _read(path: Path, size: int = -1) -> bytes:
    """Return the first bytes, or all, of a file, unzipped if it is gzipped."""
    try:
        with gzip.open(path) if _is_gzipped(path) else path.open("rb") as opened:
            return opened.read(size)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{str(path)!r} cannot be read: {error}") from error


def _npz(path: Path, target: str | None, predicting: bool) -> Arrays:
    where = str(path)
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{where!r} cannot be read as .npz without unpickling: {error}") from error
    strange = [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]
    if strange or not arrays:
        raise InputError(f"{where!r} is a zip file, but no .npz: it holds {', '.join(strange) or 'nothing'}")
    known = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
    if target is not None and target not in arrays and not predicting:
        raise InputError(f"{where} has no array {target!r}; its arrays are: {known}")
    # A model's target may have been called otherwise in the file that it was trained on.
    key = target if target is not None and target in arrays else "y"
    y = arrays.pop(key, None)
    if len(arrays) == 1:
        (X,) = arrays.values()
    elif "X" in arrays:
        X = arrays["X"]
    else:
        raise InputError(f"which array of {where} holds the features? Expected one named X; given: {known}")
    if X.ndim < 2 or X.size == 0 or X.dtype.kind not in "biuf":
        raise InputError(
            f"the features of {where} have shape {X.shape} and dtype {X.dtype}; expected numbers (m, n[0]), "
            "samples as rows"
        )
    if y is not None and y.shape not in ((len(X),), (len(X), 1)):
        hint = "; samples are rows in a file: save X.T" if X.shape[1:] == y.shape else ""
        raise InputError(
            f"the targets {key!r} of {where} have shape {y.shape}; expected ({len(X)},) for features {X.shape}{hint}"
        )
    if y is None and len(arrays) > 1 and not predicting:
        where = f"{where} (whose arrays are {known}; --target NAME says which has them)"
    if y is not None and y.dtype.kind in "Sb":
        y = y.astype(str)  # labels are text, which JSON has
    one_unit = X.dtype == np.uint8 or X.ndim > 2  # images
    y = None if y is None else y.reshape(-1)
    return Arrays(where, X.reshape(len(X), -1), y, key, one_unit, image_shape=_image_shape(X))


def _image_shape(X: Any) -> tuple[int, ...] | None:
    """Return (h, w) or (h, w, channels) of an array of images, samples first; None if it is none."""
    return tuple(X.shape[1:]) if X.ndim == 3 or (X.ndim == 4 and X.shape[3] in (1, 3, 4)) else None


def _images(path: Path, target: str | None) -> Arrays:
    X = read_idx(path)
    if X.ndim < 2:
        raise InputError(f"{str(path)!r} holds {X.shape} labels, no features; give the file with the images")
    custom = path.with_name(path.name.replace("images", "labels").replace(f"idx{X.ndim}", "idx1"))
    labels = Path(target) if target else custom
    if target and not labels.is_file():
        raise InputError(f"there is no file {target!r} with the labels of {str(path)!r}")
    y = None
    if labels != path and labels.is_file():
        y = read_idx(labels)
        if y.shape != (len(X),):
            raise InputError(f"{str(labels)!r} holds labels of shape {y.shape} for {len(X)} images")
    where = str(path) if y is not None else f"{path} (whose labels, --target FILE, would be in {custom.name})"
    return Arrays(where, X.reshape(len(X), -1), y, "label", one_unit=True, image_shape=_image_shape(X))


def read_idx(path: Path) -> Any:
    """Return the array of an IDX file, gzipped or not.

    The format (http://yann.lecun.com/exdb/mnist/): two zero bytes, the type, the number of axes, the length
    of each axis as a big-endian uint32, then the numbers, big-endian, the last axis running fastest.
    """
    data = _read(path)
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _IDX_DTYPES:
        raise InputError(f"{str(path)!r} is no IDX file: it begins with {data[:4].hex(' ')!r}")
    dtype, axes = np.dtype(_IDX_DTYPES[data[2]]), data[3]
    start = 4 + 4 * axes
    shape = struct.unpack(f">{axes}I", data[4:start]) if len(data) >= start else ()
    expected = start + dtype.itemsize * math.prod(shape)
    if len(data) != expected:
        raise InputError(
            f"{str(path)!r} is truncated or damaged: it has {len(data)} bytes; expected {expected} for shape {shape}"
        )
    return np.frombuffer(data[start:], dtype).reshape(shape).astype(dtype.newbyteorder("="))
