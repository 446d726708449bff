"""IDX, the format of MNIST (http://yann.lecun.com/exdb/mnist/).

Two zero bytes, the type, the number of axes, the length of each axis as a big-endian uint32, then the numbers,
big-endian, the last axis running fastest.
"""

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from nnx.data.gzipped import Opened, is_gzipped, opened
from nnx.errors import InputError

DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
MOST_AXES = 8
BLOCK = 2**20


@dataclass(frozen=True)
class Header:
    """The header of an array in a file: its shape and dtype.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy.dtype
    """

    shape: tuple[int, ...]
    dtype: Any

    @property
    def nbytes(self) -> int:
        """The bytes of the numbers."""
        return math.prod(self.shape) * int(self.dtype.itemsize)

    def array(self, data: bytearray, order: Literal["C", "F"] = "C") -> Any:
        """Return the array whose numbers these bytes are, in this machine's byte order."""
        if not self.nbytes:
            return np.zeros(self.shape, self.dtype)
        found = np.frombuffer(data, self.dtype).reshape(self.shape, order=order)
        return found.astype(self.dtype.newbyteorder("="), copy=False)


def begins(head: bytes) -> bool:
    """Whether a file that begins so is IDX."""
    return head[:2] == b"\0\0" and head[2:3] != b"" and head[2] in DTYPES


def idx_header(path: Path) -> Header:
    """Return the header of an IDX file, gzipped or not, without reading its numbers.

    Raises
    ------
    InputError
        When it is no IDX file, or (unless it is gzipped) has another length than its header says.
    """
    with opened(path) as file:
        found = _header(file)
    if not is_gzipped(path):
        _check(file.called, found, path.stat().st_size)
    return found


def read_idx(path: Path) -> Any:
    """Return the array of an IDX file, gzipped or not; it never takes more memory than its header says.

    Raises
    ------
    InputError
        As `idx_header`, and when it is cut off, damaged or longer than its header says.
    """
    with opened(path) as file:
        found = _header(file)
        start = _start(found)
        data = bytearray()
        while len(data) <= found.nbytes and (block := file.read(BLOCK)):
            data += block
        _check(file.called, found, start + len(data))
    return found.array(data)


def _header(file: Opened) -> Header:
    begin = file.read(4)
    if len(begin) < 4 or not begins(begin):
        raise InputError(f"{file.called} is no IDX file: it begins with {begin.hex(' ')!r}")
    axes = begin[3]
    if not 1 <= axes <= MOST_AXES:
        raise InputError(f"{file.called} is damaged: an IDX file has 1 to {MOST_AXES} axes; it says {axes}")
    lengths = file.read(4 * axes)
    if len(lengths) < 4 * axes:
        raise InputError(f"{file.called} is truncated or damaged: it ends within its header of {axes} axes")
    return Header(struct.unpack(f">{axes}I", lengths), np.dtype(DTYPES[begin[2]]))


def _start(found: Header) -> int:
    return 4 + 4 * len(found.shape)


def _check(called: str, found: Header, length: int) -> None:
    """Raise an InputError unless a file has the length that its header says."""
    expected = _start(found) + found.nbytes
    if length != expected:
        has = f"more than {expected}" if length > expected else f"{length}"
        raise InputError(
            f"{called} is truncated or damaged: it has {has} bytes; expected {expected} for shape {found.shape}"
        )
