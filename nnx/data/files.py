"""Reading data files: CSV and Parquet (by polars), .npz (by NumPy, never unpickled) and IDX, MNIST's format.

The content decides which of them a file is, not its name.
"""

import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from nnx.data import memory
from nnx.data.dialect import PLAIN, Dialect
from nnx.data.gzipped import is_gzipped, length, opened
from nnx.data.header import DELIMITERS
from nnx.data.idx import Header, begins, idx_header, read_idx
from nnx.data.npz import Packed, npz_array, npz_headers, readable
from nnx.data.source import Arrays, Table
from nnx.data.tables import CSV, STANDARD_INPUT, parquet_frames, parquet_memory, read_parquet, whole
from nnx.errors import InputError, first_line, listed
from nnx.io.atomic_write import neighbours

HEAD = 2**20
"""The first bytes, which tell what a file holds, and hold the first line of CSV."""

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


def read(
    path: Path,
    target: str | None = None,
    dialect: Dialect = PLAIN,
) -> Arrays | Table:
    """Return what a file holds; its content decides what it is, not its name.

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
    return _arrays(path, kind, target)


def pieces(
    path: Path,
    target: str | None = None,
    predicting: bool = True,
    dialect: Dialect = PLAIN,
) -> Iterator[Arrays | Table]:
    """Yield what a file holds, as `read`, a table in pieces: in memory that does not grow with the file.

    Where `predicting`, the targets may as well be absent.
    """
    kind, head = look(path)
    if kind == "CSV":
        yield from csv_pieces(_csv(path, head, dialect))
    elif kind == "Parquet":
        for first, frame in parquet_frames(path, dialect):
            yield Table(str(path), frame, first)
    else:
        yield _arrays(path, kind, target, predicting)


def csv_pieces(table: CSV) -> Iterator[Table]:
    """Yield a CSV file in pieces, all columns as text."""
    for first, frame in table.frames():
        yield Table(table.where, frame, first, of_text=True)


def look(path: Path) -> tuple[str, bytes]:
    """Return what a file holds, "CSV", "Parquet", ".npz" or "IDX", and its first bytes, unzipped if it is gzipped.

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


def regular(path: Path, what: str = "") -> None:
    """Raise an InputError unless there is a regular file of this name; `what` says in it what is wanted."""
    called = repr(str(path))
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        link = (
            f": the link leads to {str(path.readlink())!r}, which is not there" if path.is_symlink() else ""
        )
        raise InputError(f"there is no file {called}{what}{link or neighbours(path)}") from error
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise InputError(
            f"{called} is no file that can be read: {getattr(error, 'strerror', error)}"
        ) from error
    if stat.S_ISDIR(mode):
        images = next((str(one) for one in sorted(path.glob("train-images*"))), None)
        hint = f", such as {images!r} in it" if images else ""
        raise InputError(f"{called} is a folder; expected a file{hint}")
    if not stat.S_ISREG(mode):
        raise InputError(f"{called} is no regular file; write what it gives to one")


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
    """Whether what begins as another format does begins with names of columns, such as [a],[b] or PAR1,PAR2."""
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


def _arrays(path: Path, kind: str, target: str | None, predicting: bool = False) -> Arrays:
    return (_npz if kind == ".npz" else _images)(path, target, predicting)


def _npz(path: Path, target: str | None, predicting: bool) -> Arrays:
    where, arrays = str(path), npz_headers(path)
    there = target is not None and any(f"{target}{end}" in arrays for end in ("", "_train", "_test"))
    if target is not None and not there and not predicting:
        raise InputError(f"{where} has no array {target!r}; its arrays are: {_known(arrays)}")
    # A model's target may have been called otherwise in the file that it was trained on.
    key = (target or "y").removesuffix("_train") if there else "y"
    ready = {}
    for part, names in _parts(arrays, key, predicting).items():
        its, note = (
            f"{where}: {names[0]}, {names[1]}",
            f"of the arrays of {where!r} {' and '.join(names)} are read",
        )
        ready[part] = replace(_part(path, arrays, *names, predicting), where=its, target=key, note=note)
    if predicting and ready:
        return ready["test"]
    if ready:
        return replace(ready.pop("training"), where=where, note="", ready=ready)
    others = [name for name in arrays if name != key]
    if len(others) != 1 and "X" not in others:
        raise InputError(
            f"which array of {where} holds the features? Expected one named X; given: {_known(arrays)}"
        )
    return _part(path, arrays, others[0] if len(others) == 1 else "X", key, predicting)


PARTS = {"training": ("_train", ""), "validation": ("_val", "_valid", "_validation"), "test": ("_test",)}
"""What the names of a part's arrays end with, as x_train and y_train."""


def _parts(arrays: Mapping[str, Any], key: str, predicting: bool) -> dict[str, tuple[str, str]]:
    """Return the names of the features and the targets of each part, where arrays are split."""
    found = {
        part: names
        for part, ends in PARTS.items()
        for names in [(f"{x}{end}", f"{key}{end}") for end in reversed(ends) for x in "xX"]
        if names[0] in arrays and names[1] in arrays
    }
    if predicting:
        return {part: names for part, names in found.items() if part == "test"}
    return found if "training" in found and len(found) > 1 else {}


def _part(path: Path, arrays: Mapping[str, Packed], named: str, key: str, predicting: bool) -> Arrays:
    """Return features and targets by the names of their arrays."""
    where = str(path)
    X, y = arrays[named], arrays.get(key)
    m = X.shape[0] if X.shape else 0
    if X.dtype.hasobject:
        raise InputError(
            f"the features of {where} are Python objects, which cannot be read without unpickling; save numbers: "
            "X.astype(float)"
        )
    if len(X.shape) < 2 or 0 in X.shape or X.dtype.kind not in "biuf":
        raise InputError(
            f"the features of {where} have shape {X.shape} and dtype {X.dtype}; expected numbers (m, n[0]), "
            "samples as rows"
        )
    if y is not None and y.shape not in ((m,), (m, 1)):
        hint = "; samples are rows in a file: save X.T" if X.shape[1:] == y.shape else ""
        raise InputError(
            f"the targets {key!r} of {where} have shape {y.shape}; expected ({m},) for features {X.shape}{hint}"
        )
    if y is not None and (y.dtype.kind not in "biufUS" or y.dtype.hasobject):
        if not predicting:
            raise InputError(f"the targets {key!r} of {where} hold {y.dtype}; expected numbers or text")
        where, y = f"{where} (whose array {key!r} holds {y.dtype}, no numbers and no text)", None
    if y is None and not predicting:
        hint = (
            f" (whose arrays are {_known(arrays)}; --target NAME says which has them)"
            if len(arrays) > 1
            else ""
        )
        raise InputError(f"{where}{hint} has no targets to learn")
    _check_memory(path, X, 0 if y is None else y.nbytes, predicting)
    return Arrays(
        where,
        _rows(npz_array(path, named, X)),
        None if y is None else _labels(path, key, y),
        key,
        one_unit=X.dtype == np.uint8 or len(X.shape) > 2,  # images
        image_shape=_image_shape(X.shape),
    )


def _known(arrays: Mapping[str, Packed]) -> str:
    return listed((f"{readable(name)} {array.shape}" for name, array in arrays.items()), 20)


def _labels(path: Path, key: str, packed: Packed) -> Any:
    """Return the targets (m,) of an .npz file; bytes become text, which they are in UTF-8."""
    y = npz_array(path, key, packed).reshape(-1)
    if y.dtype.kind == "f" and y.dtype.itemsize > 8:
        return y.astype(float)
    try:
        if y.dtype.kind == "S":
            y = np.array([one.decode("utf-8") for one in y.tolist()], dtype=str)
        elif y.dtype.kind == "U":
            "".join(y.tolist()).encode("utf-8")
    except (ValueError, SystemError) as error:  # SystemError: CPython's, of characters beyond Unicode
        raise InputError(
            f"the targets {key!r} of {str(path)!r} hold text that is not in UTF-8 ({first_line(error)}); save them "
            "as text: y.astype(str)"
        ) from error
    return y


def _rows(X: Any) -> Any:
    """Return an array whose first axis is the samples as one of two axes."""
    return X.reshape(len(X), -1)


def _check_memory(path: Path, X: Header, others: int, predicting: bool) -> None:
    """Raise an InputError if the features of a file are more than the memory holds."""
    copies = 0 if predicting else 8 * X.nbytes // X.dtype.itemsize  # as float64, to train on
    memory.check(
        X.nbytes + others + copies,
        f"reading {str(path)!r}, whose features have shape {X.shape},",
        "Close other programs, or take a part of its samples",
    )


def _image_shape(shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return (h, w) or (h, w, channels) of an array of images, samples first; None if it is none."""
    return shape[1:] if len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3, 4)) else None


def _images(path: Path, target: str | None, predicting: bool) -> Arrays:
    X = idx_header(path)
    if len(X.shape) < 2:
        raise InputError(f"{str(path)!r} holds {X.shape} labels, no features; give the file with the images")
    if 0 in X.shape:
        raise InputError(f"{str(path)!r} holds no images: its shape is {X.shape}")
    axes = len(X.shape)
    custom = path.with_name(path.name.replace("images", "labels").replace(f"idx{axes}", "idx1"))
    labels: Path | None = Path(target) if target and not predicting else custom
    if target and not predicting:
        regular(Path(target), f" with the labels of {str(path)!r}")
    elif custom == path or not custom.is_file():
        labels = None
    if labels is not None and (shape := idx_header(labels).shape) != X.shape[:1]:
        raise InputError(f"{str(labels)!r} holds labels of shape {shape} for {X.shape[0]} images")
    where = str(path)
    if labels is None:
        where = f"{path} (whose labels, --target FILE, would be in {custom.name})"
        if not predicting:
            raise InputError(f"{where} has no targets to learn")
    _check_memory(path, X, 0, predicting)
    y = None if labels is None else read_idx(labels)
    return Arrays(where, _rows(read_idx(path)), y, "label", one_unit=True, image_shape=_image_shape(X.shape))
