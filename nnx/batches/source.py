"""Samples that are read piece by piece, and the word that samples are rows."""

from dataclasses import dataclass
from typing import Any

from nnx.errors import InputError


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
    >>> from nnx.batches.sources import recognise
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
