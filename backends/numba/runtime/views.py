"""Parts of arrays, as vectors, matrices and addresses. A row d of the table D says which part: see `partition`."""

# mypy: ignore-errors

from numba import njit
from numpy import int64

from nnx.backends.numba.runtime.options import SHARED


@njit(**SHARED)
def part(x, d):
    """Return a part of a vector."""
    return x[d[0] : d[1]]


@njit(**SHARED)
def matrix(x, d):
    """Return a part of a vector as a matrix."""
    return x[d[0] : d[1]].reshape((d[2], d[3]))


@njit(**SHARED)
def as_vector(x, d):
    """Return an array as a vector."""
    return x.reshape((d[3],))


@njit(**SHARED)
def as_matrix(x, d):
    """Return an array as a matrix."""
    return x.reshape((d[2], d[3]))


@njit(**SHARED)
def operand(x, d):
    """Return a matrix as products take it: address, strides in bytes, rows and columns; x may have longer rows."""
    return int64(x.ctypes.data), x.strides[0], x.strides[1], d[2], d[3]
