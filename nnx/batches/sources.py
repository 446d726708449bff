"""What samples are read from besides arrays: files, sparse matrices and data frames, by what they look like.

None of their libraries is imported here: the caller who has one of their objects has imported it.
"""

import mmap
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from array_api_compat import is_array_api_obj

from nnx.array import host
from nnx.array.namespace import Array
from nnx.batches import frames
from nnx.errors import InputError, first_line, shown

SPAN = 2**25
"""The bytes of a file that are read at once where other things lie between the samples."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Says that the samples of x are its rows: x (m, n[0]), or (m,).

    nnx has samples as columns. HDF5 and Zarr files mostly hold them as rows, and so do the batches of PyTorch's
    DataLoader: hand those in as ``nnx.Rows(x)``. An array's or memmap's transpose ``x.T`` needs no wrapper; a data
    frame's samples are its rows anyway.

    Parameters
    ----------
    x : h5py.Dataset, Zarr array, sparse matrix, array-like, or an iterable of batches
        Of an iterable, X and Y of every batch.

    Examples
    --------
    >>> import numpy as np
    >>> recognise("X", Rows(np.ones((5, 2)))).shape  # 5 samples, n[0] = 2
    (2, 5)
    """

    x: Any


class Source:
    """Samples that are read piece by piece.

    Attributes
    ----------
    shape : tuple of int
        (n[0], m), or (m,).
    where : str
        What it is, for people.
    """

    shape: tuple[int, ...]
    where: str

    @property
    def m(self) -> int:
        """The number of samples."""
        return self.shape[-1]

    def read(self, start: int, stop: int) -> Any:
        """Return the samples start to stop - 1 as NumPy, (n[0], k) or (k,).

        Raises
        ------
        InputError
            When they cannot be read: which, from where, and why.
        """
        raise NotImplementedError

    def take(self, order: Any) -> Any:
        """Return the samples of these numbers, where all are in memory."""
        raise NotImplementedError

    def _unread(self, start: int, stop: int, why: str) -> InputError:
        return InputError(f"samples {start} to {stop - 1} of {self.where} cannot be read: {why}")


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
            raise self._unread(start, stop, _said(error)) from error
        strides = (self._step, self._x.itemsize)
        return np.ascontiguousarray(
            np.ndarray((stop - start, self._n), self._x.dtype, found, strides=strides)
        )

    def _cut(self, start: int, stop: int, expected: int, found: int) -> InputError:
        return self._unread(start, stop, _was_cut(expected, found))


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
            raise self._unread(start, stop, self._check() or _said(error)) from error
        x = x.T if self._rows else x
        why = self._check()  # after reading: it may have happened meanwhile
        if not why and x.shape != (*self.shape[:-1], stop - start):
            why = f"it has become smaller than {self.shape}"
        if why:
            raise self._unread(start, stop, why)
        return x


def _hdf5(x: Any, rows: bool) -> Dataset:
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
        return _was_cut(expected, found)

    return Dataset(x, where, rows, check)


def _zarr(x: Any, rows: bool) -> Dataset:
    """Return a Zarr array as a source. Zarr reads fill values from a store that is no longer there."""
    # Zarr 3 has a store_path, Zarr 2 mostly a store with a path.
    where = str(getattr(x, "store_path", None) or f"{getattr(x.store, 'path', x.store)}/{x.path}")

    def check() -> str:
        try:
            sys.modules["zarr"].open_array(x.store, path=x.path, mode="r")
        except Exception as error:
            return _said(error)
        return ""

    return Dataset(x, repr(where), rows, check)


class Sparse(Source):
    """A SciPy sparse matrix or array (n[0], m), kept sparse, in rows (m, n[0]); dense one batch at a time."""

    def __init__(self, x: Any, rows: bool) -> None:
        x = (x if rows else x.T).tocsr()
        if not x.has_canonical_format:  # entries that are there twice are added up, not in what was handed in
            x = x.copy()
            x.sum_duplicates()
        self._x = x
        self.shape, self.where = self._x.shape[::-1], "a sparse matrix"

    def read(self, start: int, stop: int) -> Any:
        """Return the samples start to stop - 1, dense."""
        return self._x[start:stop].toarray().T

    def take(self, order: Any) -> Any:
        """Return the samples of these numbers, dense."""
        return self._x[order].toarray().T

    def only(self, places: Any) -> "Sparse":
        """Return the samples of these numbers, sparse."""
        return Sparse(self._x[places], rows=True)

    def doubtful(self) -> list[int]:
        """Return the samples that hold a number which is not finite in float32."""
        numbers = np.asarray(self._x.data)
        if numbers.dtype.kind != "f":
            return []
        bad = np.flatnonzero(~(np.abs(numbers) <= np.finfo(np.float32).max))
        return sorted({int(row) for row in np.searchsorted(self._x.indptr, bad, side="right") - 1})


Samples: TypeAlias = Array | Source


Find: TypeAlias = Callable[[str, list[str]], list[str] | None]
"""What a column finder is: of a table's name and the names of its columns it returns those to take, None: all."""


def recognise(name: str, x: Any, rows: bool = False, find: Find | None = None) -> Samples:
    """Return what x holds with samples as columns: an array in memory, or a `Source` that reads them.

    Parameters
    ----------
    name : str
        "X", "Y", ... for errors.
    x : array-like of any library, or
        numpy.memmap, h5py.Dataset, Zarr array or SciPy sparse matrix, (n[0], m) or (m,) as an array, with `Rows`
        (m, n[0]); or a table (m, n[0]) with named columns, which becomes a NumPy array: a pandas or polars DataFrame,
        an Arrow table or record batch, or a dict of columns; or a Series or Arrow array (m,).
    rows : bool
        Whether the samples of x are its rows, as in ``Rows(x)``.
    find : function (name, names of columns) -> names or None
        Which columns of a table to take, and in which order; None: all as they come.

    Raises
    ------
    InputError
        When x holds several arrays, is an iterator, has more axes than two; or when a table lacks a column, has two of
        one name, or one that holds no numbers.

    Examples
    --------
    >>> import numpy as np
    >>> recognise("X", [[1, 2, 3]])
    [[1, 2, 3]]
    """
    if isinstance(x, Rows):
        return recognise(name, x.x, rows=True, find=find)
    if isinstance(x, Source):
        return x
    if isinstance(x, type):
        raise InputError(f"{name} is the class {shown(x)}; expected an array of numbers")
    if isinstance(x, str | os.PathLike):
        raise InputError(
            f"{name} is the path {shown(str(x))}, which is not read; open the file, and hand in what it holds"
        )
    library = frames.library(x)
    if library == "h5py" and not x:
        raise InputError(f"{name} is of an HDF5 file that is closed; open it for as long as it is read")
    if hasattr(x, "collect") and library == "polars":
        raise InputError(
            f"{name} is a polars LazyFrame, which holds no samples yet; hand in {name}.collect()"
        )
    if (table := frames.frame(x)) is not None:
        return frames.numbers(name, table, None if find is None else find(name, table.names))
    if library in ("pandas", "polars", "pyarrow") and frames.is_column(x):
        return frames.column_of_numbers(name, x, getattr(x, "name", None))
    if callable(getattr(x, "keys", None)) and library != "scipy":  # a dok_array has keys, too
        raise InputError(
            f"{name} is a {type(x).__name__} that holds {', '.join(map(repr, list(x.keys())[:5])) or 'nothing'}; "
            f"hand in one of them, such as {name}=file['{name}']"
        )
    if hasattr(x, "__next__") or callable(x):
        raise InputError(
            f"{name} is a {type(x).__name__}. Batches, each (X, Y) or (X, Y, w), are handed in alone, without Y, to "
            "fit and evaluate; predict takes none"
        )
    if library in ("h5py", "zarr", "scipy") or isinstance(x, np.memmap):
        shape = getattr(x, "shape", None)
        if shape is None or len(shape) not in (1, 2):
            raise InputError(f"{name} has shape {shape}; expected two axes, (n[0], m), or one, (m,)")
        if isinstance(x, np.memmap):
            mapping = _mapping(x)
            return np.asarray(x) if mapping is None else MappedFile(x.T if rows else x, mapping)
        if library == "scipy" and hasattr(x, "tocsr"):
            return Sparse(x, rows) if len(shape) == 2 else x.toarray()
        if library != "scipy":
            return _hdf5(x, rows) if library == "h5py" else _zarr(x, rows)
    if not rows:
        return x
    x = x if is_array_api_obj(x) else host.as_numbers(name, x)
    return x.T if x.ndim == 2 else x


def whole(x: Samples) -> Array:
    """Return all samples as an array in memory."""
    return x.read(0, x.m) if isinstance(x, Source) else x


def cut(x: Any, part: Any) -> Any:
    """Return those samples that a slice, or a NumPy array of numbers, names; of what is no array: itself."""
    if isinstance(x, Source):
        return x.read(part.start, part.stop) if isinstance(part, slice) else x.take(part)
    if not hasattr(x, "shape"):
        return x
    return x[..., part] if isinstance(part, slice) else x.T[part].T


def converted(x: Array, dtype: str) -> Array:
    """Return x, if it is a NumPy array, in this dtype: here, before it is copied to a device."""
    return host.as_dtype(x, dtype) if isinstance(x, np.ndarray) else x


def placeholder(x: Source) -> Array:
    """Return zeros for the first sample of a source, if it has one: they have the width to be checked."""
    return np.zeros((*x.shape[:-1], min(x.m, 1)))


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)}"


def _was_cut(expected: int, found: int) -> str:
    return f"expected {expected:,} bytes in the file, found {found:,}; it was cut after it was opened"


def _mapping(x: Any) -> mmap.mmap | None:
    """Return the mapping that a memmap's memory belongs to; None for a copy."""
    while x is not None and not isinstance(x, mmap.mmap):
        x = getattr(x, "base", None)
    return x
