"""Reading data files: CSV and Parquet (by polars), .npz (by NumPy, never unpickled) and IDX, MNIST's format.

The content decides which of them a file is, not its name.
"""

import gzip
import math
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from nnx.data.source import Arrays, Table
from nnx.errors import InputError, first_line

_IDX_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read(path: Path, target: str | None = None, predicting: bool = False) -> Arrays | Table:
    """Return what a file holds.

    Parameters
    ----------
    path : Path
        CSV, Parquet, .npz or IDX; CSV and IDX also gzipped.
    target : str or None
        For .npz: the array with the targets (None: "y", if there is one). For IDX: the file with the labels
        (None: the one named after MNIST's custom, if there is one). For tables not used here.
    predicting : bool
        Whether the targets may as well be absent.

    Raises
    ------
    InputError
        When there is no such file, or it cannot be read.
    """
    if path.is_dir():
        raise InputError(f"{str(path)!r} is a folder; expected a file")
    if not path.is_file():
        raise InputError(f"there is no file {str(path)!r}")
    head = _read(path, 65536)
    if not head:
        raise InputError(f"{str(path)!r} is empty")
    if head[:4] == b"PK\x03\x04":
        return _npz(path, target, predicting)
    if head[:4] == b"PAR1":
        return Table(str(path), _polars(path, "read_parquet"))
    if head[:2] == b"\0\0" and head[2:3] and head[2] in _IDX_DTYPES:
        return _images(path, None if predicting else target)
    return _csv(path, head)


def _read(path: Path, size: int = -1) -> bytes:
    """Return the first bytes, or all, of a file, unzipped if it is gzipped."""
    try:
        with path.open("rb") as file:
            gzipped = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if gzipped else path.open("rb") as opened:
            return opened.read(size)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{str(path)!r} cannot be read: {error}") from error


def _polars(path: Path, reader: str, **options: Any) -> Any:
    try:
        import polars
    except ImportError as error:
        raise InputError(f"reading {str(path)!r} needs polars: pip install 'nnx-array[cli]'") from error
    try:
        frame = getattr(polars, reader)(path, glob=False, **options)
    except (polars.exceptions.PolarsError, OSError) as error:
        reason = first_line(error)
        if "more fields" in reason:
            reason = "a row has more cells than the header has names"
        raise InputError(
            f"{str(path)!r} cannot be read as {reader.removeprefix('read_')}: {reason}"
        ) from error
    if frame.height == 0:
        raise InputError(f"{str(path)!r} has no rows")
    return frame


def _csv(path: Path, head: bytes) -> Table:
    if b"\0" in head:
        raise InputError(f"{str(path)!r} is none of CSV, Parquet, .npz and IDX, which are what can be read")
    first = head.split(b"\n", 1)[0].decode("utf-8", "replace").strip()
    separator = max(",;\t|", key=first.count)
    if all(_is_number(cell.strip(' "')) for cell in first.split(separator)):
        raise InputError(
            f"the first line of {str(path)!r} holds numbers ({first[:40]!r} ...); expected the names of the "
            "columns: add a first line with them"
        )
    if "\ufffd" in first:
        raise InputError(f"{str(path)!r} is not in UTF-8 ({first[:40]!r} ...); save it in UTF-8")
    missing = ["", "NA", "N/A", "NaN", "nan", "null"]
    frame = _polars(path, "read_csv", separator=separator, null_values=missing, infer_schema_length=None)
    # polars renames the second "a" to "a_duplicated_0"
    twice = [name.rpartition("_duplicated_")[0] for name in frame.columns if "_duplicated_" in name]
    if twice:
        raise InputError(f"{str(path)!r} has more than one column named {twice[0]!r}; rename all but one")
    return Table(str(path), frame)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


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
    key = target or "y"
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
    if y is not None and y.dtype.kind in "Sb":
        y = y.astype(str)  # labels are text, which JSON has
    one_unit = X.dtype == np.uint8 or X.ndim > 2  # images
    return Arrays(where, X.reshape(len(X), -1), None if y is None else y.reshape(-1), key, one_unit)


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
    return Arrays(where, X.reshape(len(X), -1), y, "label", one_unit=True)


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
