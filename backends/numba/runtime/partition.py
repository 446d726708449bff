"""Which part of a loop or a product belongs to which thread."""

# mypy: ignore-errors

from numba import njit
from numpy import int64

from nnx.backends.numba.runtime.options import EIGHT, FOUR, LINE, SHARED, ZERO

EVEN = 1.0
"""How uneven the parts of a product may be so that they are whole rows; of one with the shape of a W: `PREFER_ROWS`."""


@njit(**SHARED)
def partition(t, T, n, grain):
    """Return where thread t's part of n elements begins and ends: a whole number of grains, except the last part."""
    if T == 1:
        return int64(0), int64(n)
    each = (-(-n // T) + grain - 1) // grain * grain
    return min(n, t * each), min(n, (t + 1) * each)


# A row d of the table D describes an array: its first element, the one behind its last, its rows and its columns.


@njit(**SHARED)
def by_rows(t, T, d):
    """Return thread t's part as (i0, i1, j0, j1): whole rows."""
    i0, i1 = partition(t, T, d[2], LINE)
    return i0, i1, int64(0), d[3]


@njit(**SHARED)
def by_columns(t, T, d):
    """Return thread t's part as (i0, i1, j0, j1): whole columns."""
    j0, j1 = partition(t, T, d[3], LINE)
    return int64(0), d[2], j0, j1


@njit(**SHARED)
def by_elements(t, T, d):
    """Return thread t's part as (i0, i1, j0, j1): along the longer side."""
    return by_columns(t, T, d) if d[3] >= d[2] else by_rows(t, T, d)


@njit(**SHARED)
def by_one(t, T, d):
    """Return all rows and columns as (i0, i1, j0, j1): one thread does them."""
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
