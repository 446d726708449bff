"""NumPy's .npz: a zip file with an .npy file for each array. Arrays of Python objects are not read.

The first bytes of each .npy file say its array's shape and dtype. They are checked before the numbers are unpacked.
"""

import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from nnx.data.idx import BLOCK, Header
from nnx.errors import InputError, first_line, listed

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
"""How the first bytes are read, by the version of .npy. (3, 0) is of structured types alone."""


@dataclass(frozen=True)
class Packed(Header):
    """An array in the file: also its order in memory, and how many bytes stand before its numbers."""

    order: Literal["C", "F"]
    start: int


def npz_headers(path: Path) -> dict[str, Packed]:
    """Return the header of each array of an .npz file, without reading numbers.

    Raises
    ------
    InputError
        When it cannot be read, holds something else, or an array is not as long as it says.
    """
    with _zip(path) as file:
        names = [one.filename for one in file.infolist()]
        strange = [name for name in names if not name.endswith(".npy")]
        if strange or not names:
            raise InputError(
                f"{str(path)!r} is a zip file, but no .npz: it holds {listed(map(readable, strange), 6) or 'nothing'}"
            )
        if twice := {name for name in names if names.count(name) > 1}:
            raise InputError(f"{str(path)!r} is damaged: it holds {min(twice)!r} more than once")
        return {one.filename.removesuffix(".npy"): _packed(path, file, one) for one in file.infolist()}


def npz_array(path: Path, name: str, packed: Packed) -> Any:
    """Return one array of an .npz file, in this machine's byte order.

    Raises
    ------
    InputError
        When it is damaged: zip files have a checksum of each array.
    """
    data = bytearray()
    with _zip(path) as file, file.open(f"{name}.npy") as member:
        member.read(packed.start)
        while len(data) <= packed.nbytes and (block := member.read(BLOCK)):
            data += block
        if len(data) != packed.nbytes:
            raise InputError(
                f"{str(path)!r} is damaged: {name!r} does not have the {packed.nbytes} bytes that its header says"
            )
    return packed.array(data, packed.order)


def readable(name: str) -> str:
    """Return the name of an array as an error shows it: in one line, not too long."""
    return name if name.isprintable() and len(name) <= 80 else repr(name[:80])


@contextmanager
def _zip(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as file:
            yield file
    except (InputError, MemoryError):
        raise
    except Exception as error:  # a damaged file makes zipfile raise errors of many kinds
        why = "a password is needed" if "password" in str(error) else first_line(error)
        raise InputError(f"{str(path)!r} cannot be read as .npz: {why}") from error


def _packed(path: Path, file: zipfile.ZipFile, one: zipfile.ZipInfo) -> Packed:
    """Return the header of an .npy file in the zip file, from its first bytes."""
    called = f"{one.filename.removesuffix('.npy')!r} of {str(path)!r}"
    with file.open(one) as member:
        version = np.lib.format.read_magic(member)
        if version not in _HEADERS:
            raise InputError(
                f"{called} is an .npy file of version {version}; expected one of {', '.join(map(str, _HEADERS))}: "
                "save plain arrays of numbers or text"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python 2 wrote the file, or its header is damaged
            shape, fortran, dtype = _HEADERS[version](member)
        start = member.tell()
    if min(shape, default=0) < 0:
        raise InputError(f"{called} is damaged: its shape is {shape}")
    found = Packed(shape, dtype, "F" if fortran else "C", start)
    if dtype.hasobject:
        return found  # pickled objects have no length to compare; they are refused where they are read
    if start + found.nbytes != one.file_size:
        raise InputError(
            f"{called} is truncated or damaged: it has {one.file_size} bytes; expected {start + found.nbytes} for "
            f"shape {shape} of {dtype}"
        )
    return found
