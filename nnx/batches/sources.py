"""What samples are read from besides arrays: files, sparse matrices and data frames, by what they look like.

None of their libraries is imported here: the caller who has one of their objects has imported it.
"""

import os
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from array_api_compat import is_array_api_obj

from nnx.array import host
from nnx.array.namespace import Array
from nnx.batches import frames
from nnx.batches.file_sources import MappedFile, hdf5_dataset, mapping_of, zarr_dataset
from nnx.batches.source import Rows, Source
from nnx.errors import InputError, shown


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
            mapping = mapping_of(x)
            return np.asarray(x) if mapping is None else MappedFile(x.T if rows else x, mapping)
        if library == "scipy" and hasattr(x, "tocsr"):
            return Sparse(x, rows) if len(shape) == 2 else x.toarray()
        if library != "scipy":
            return hdf5_dataset(x, rows) if library == "h5py" else zarr_dataset(x, rows)
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
