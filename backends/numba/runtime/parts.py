"""Parts of arrays: as vectors, matrices and addresses, and which belong to which thread.

A row d of the table D describes an array: its first element, the one behind its last, its rows and its columns.
A matrix of a product is (address, bytes from row to row, bytes from column to column, rows, columns): an operand.
"""

# mypy: ignore-errors

from numba import njit
from numpy import int64

from nnx.backends.numba.runtime.options import EIGHT, FOUR, LINE, SHARED, ZERO

EVEN = 1.0
"""How uneven the parts of a product may be so that they are whole rows; of one with the shape of a W: `PREFER_ROWS`."""


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
def operand(x, d):
    """Return a matrix as an operand; x may have longer rows."""
    return int64(x.ctypes.data), x.strides[0], x.strides[1], d[2], d[3]


@njit(**SHARED)
def block(a, i0, i1, j0, j1):
    """Return some rows and columns of an operand."""
    A, down, right, _, _ = a
    return A + i0 * down + j0 * right, down, right, i1 - i0, j1 - j0


@njit(**SHARED)
def partition(t, T, n, grain):
    """Return where thread t's part of n elements begins and ends: a whole number of grains, except the last part."""
    if T == 1:
        return int64(0), int64(n)
    each = (-(-n // T) + grain - 1) // grain * grain
    return min(n, t * each), min(n, (t + 1) * each)


# A thread's part of a loop as (i0, i1, j0, j1): its rows and columns.


@njit(**SHARED)
def by_rows(t, T, d):
    """Return thread t's part: whole rows."""
    i0, i1 = partition(t, T, d[2], LINE)
    return i0, i1, int64(0), d[3]


@njit(**SHARED)
def by_columns(t, T, d):
    """Return thread t's part: whole columns."""
    j0, j1 = partition(t, T, d[3], LINE)
    return int64(0), d[2], j0, j1


@njit(**SHARED)
def by_elements(t, T, d):
    """Return thread t's part: along the longer side."""
    return by_columns(t, T, d) if d[3] >= d[2] else by_rows(t, T, d)


@njit(**SHARED)
def by_one(t, T, d):
    """Return all rows and columns: one thread does them."""
    return int64(0), d[2], int64(0), d[3]


@njit(**SHARED)
def partition_matrix(t, T, n, m, bias):
    """Return thread t's part of a matrix (n, m) as (i0, i1, j0, j1): whole rows or whole columns.

    Columns, if the largest part of rows has more than `bias` times as many elements.
    """
    rows, columns = partition(ZERO, T, n, FOUR)[1] * m, partition(ZERO, T, m, EIGHT)[1] * n
    i0, i1, j0, j1 = int64(0), n, int64(0), m
    if columns * bias < rows or (bias == EVEN and columns == rows and m >= 2 * n):
        j0, j1 = partition(t, T, m, EIGHT)
    else:
        i0, i1 = partition(t, T, n, FOUR)
    return i0, i1, j0, j1
