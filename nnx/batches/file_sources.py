"""Samples in files: memory-mapped arrays, HDF5 and Zarr."""

import mmap
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from nnx.batches.source import Source
from nnx.errors import InputError, first_line

SPAN = 2**25
"""The bytes of a file that are read at once where other things lie between the samples."""


class MappedFile(Source):
    """A numpy.memmap.

    Where each sample lies in one piece, it is read from the file rather than through the mapping: touching the
    pages of a file that was cut kills the process, and mapped pages count as its memory.
    """

    def __init__(self, x: "np.memmap[Any, Any]", mapping: mmap.mmap) -> None:
        self._x, self._mapping, self.shape = x, mapping, x.shape
        self._path = None if x.filename is None else Path(x.filename)
        self.where = f"{str(self._path) if self._path else 'a mapped file'!r}"
        # NumPy maps from a whole page on: where in the file x's bytes begin and end.
        mapped_from = x.offset - x.offset % mmap.ALLOCATIONGRANULARITY
        address = np.frombuffer(mapping, np.uint8).__array_interface__["data"][0]
        low, high = (mapped_from + bound - address for bound in np.lib.array_utils.byte_bounds(x))
        self._first, self._end = low, high
        self._n = x.shape[0] if x.ndim == 2 else 1
        self._size = self._n * x.itemsize  # bytes of a sample
        self._step = x.strides[-1]  # from one to the next
        in_one_piece = self._step >= self._size and (self._n == 1 or x.strides[0] == x.itemsize)
        # Mode "c" keeps what was written into x from the file.
        self._by_mapping = not in_one_piece or x.mode == "c" or not (self._path and self._path.is_file())

    def read(self, start: int, stop: int) -> Any:
        """Return the samples start to stop - 1."""
        if self._by_mapping:
            if self._mapping.size() < self._end:
                raise self._cut(start, stop, self._end, self._mapping.size())
            return np.array(self._x[..., start:stop])
        some = stop - start if self._step == self._size else max(1, SPAN // self._step)
        parts = [self._rows(at, min(at + some, stop)) for at in range(start, stop, some)]
        rows = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return rows.T if len(self.shape) == 2 else rows[:, 0]

    def _rows(self, start: int, stop: int) -> Any:
        """Return (k, n[0])."""
        offset = self._first + start * self._step
        count = (stop - start - 1) * self._step + self._size
        try:
            found = np.fromfile(str(self._path), np.uint8, count, offset=offset)
            if found.size < count:
                raise self._cut(start, stop, offset + count, Path(str(self._path)).stat().st_size)
        except OSError as error:
            raise self._unread(start, stop, said_by(error)) from error
        strides = (self._step, self._x.itemsize)
        return np.ascontiguousarray(
            np.ndarray((stop - start, self._n), self._x.dtype, found, strides=strides)
        )

    def _cut(self, start: int, stop: int, expected: int, found: int) -> InputError:
        return self._unread(start, stop, was_cut(expected, found))


class Dataset(Source):
    """An h5py.Dataset or a Zarr array, (n[0], m) or (m,); with samples as rows (m, n[0])."""

    def __init__(self, x: Any, where: str, rows: bool, check: Callable[[], str]) -> None:
        shape = tuple(int(size) for size in x.shape)
        self.shape, self.where = shape[::-1] if rows else shape, where
        self._x, self._rows, self._check = x, rows or len(shape) == 1, check

    def read(self, start: int, stop: int) -> Any:
        """Return the samples start to stop - 1."""
        try:
            x = np.asarray(self._x[start:stop] if self._rows else self._x[:, start:stop])
        except MemoryError:
            raise
        except Exception as error:  # whatever the library, its filters or its store may raise
            raise self._unread(start, stop, self._check() or said_by(error)) from error
        x = x.T if self._rows else x
        why = self._check()  # after reading: it may have happened meanwhile
        if not why and x.shape != (*self.shape[:-1], stop - start):
            why = f"it has become smaller than {self.shape}"
        if why:
            raise self._unread(start, stop, why)
        return x


def hdf5_dataset(x: Any, rows: bool) -> Dataset:
    """Return an h5py.Dataset as a source. HDF5 reads zeros behind the end of a file that was cut."""
    where = f"{x.file.filename!r}, {x.name!r}"

    def size() -> int | None:
        try:
            return os.fstat(x.file.id.get_vfd_handle()).st_size if x.file.driver == "sec2" else None
        except Exception:  # closed
            return None

    expected = size()

    def check() -> str:
        found = size()
        if expected is None or found is None or found >= expected:
            return ""
        return was_cut(expected, found)

    return Dataset(x, where, rows, check)


def zarr_dataset(x: Any, rows: bool) -> Dataset:
    """Return a Zarr array as a source. Zarr reads fill values from a store that is no longer there."""
    # Zarr 3 has a store_path, Zarr 2 mostly a store with a path.
    where = str(getattr(x, "store_path", None) or f"{getattr(x.store, 'path', x.store)}/{x.path}")

    def check() -> str:
        try:
            sys.modules["zarr"].open_array(x.store, path=x.path, mode="r")
        except Exception as error:
            return said_by(error)
        return ""

    return Dataset(x, repr(where), rows, check)


def said_by(error: Exception) -> str:
    """Return an error as its name and its first line."""
    return f"{type(error).__name__}: {first_line(error)}"


def was_cut(expected: int, found: int) -> str:
    """Return the message for a file that has become shorter."""
    return f"expected {expected:,} bytes in the file, found {found:,}; it was cut after it was opened"


def mapping_of(x: Any) -> mmap.mmap | None:
    """Return the mapping that a memmap's memory belongs to; None for a copy."""
    while x is not None and not isinstance(x, mmap.mmap):
        x = getattr(x, "base", None)
    return x
