"""dW = dZ A^T tile by tile: the optimizer's loop uses each tile while it is in the cache.

A tile lies over the tile before it, where the thread's part of dtheta begins. For many samples the whole part is one
tile, in its own place.
"""

# mypy: ignore-errors

from numba import njit
from numpy import int64, uint64

from nnx.backends.numba.runtime.gemm import gemm
from nnx.backends.numba.runtime.options import LINE, SHARED
from nnx.backends.numba.runtime.partition import partition, partition_matrix
from nnx.compiler.thresholds import PREFER_ROWS, TILE, TILE_OF_ONE_SAMPLE, TILE_SAMPLES


@njit(**SHARED)
def tiling(t, T, d, m):
    """Return thread t's part of a dW of m samples as (i0, i1, j0, j1), a tile's rows and columns, and the tiles' place.

    The place is an element of dtheta; -1: each tile lies in its own place.
    """
    n, k = d[2], d[3]
    i0, i1, j0, j1 = partition_matrix(t, T, n, k, PREFER_ROWS)
    if m > TILE_SAMPLES:
        if k > n:  # so that one thread reads each part of A
            i0, i1, (j0, j1) = int64(0), n, partition(t, T, k, LINE)
        return i0, i1, j0, j1, max(i1 - i0, 1), max(j1 - j0, 1), int64(-1)
    rows, columns = min(i1 - i0, 32), j1 - j0
    if m == 1:
        rows, columns = max(TILE_OF_ONE_SAMPLE // max(columns, 1), 1), min(columns, TILE_OF_ONE_SAMPLE)
    elif columns * 8 <= TILE:
        rows = max(TILE // max(columns, 1) // 8, 1) * 8
    else:
        columns = TILE // max(rows, 1) // LINE * LINE
    return i0, i1, j0, j1, max(rows, 1), max(columns, 1), i0 * k + j0 * n


@njit(**SHARED)
def tile(d, r, c, rows, columns, place):
    """Return where a tile lies in dtheta, and which runs of theta it belongs to.

    Returns
    -------
    at, width : int
        The tile's first element in dtheta, and the elements from one row to the next.
    first, length, count : int
        The first run's first element in theta, and a run's elements, which follow each other; the number of runs, each
        a row of W behind the one before.
    """
    start, k = d[0], d[3]
    at, width = (start + place, columns) if place >= 0 else (start + r * k + c, k)
    whole_rows = columns == k
    return at, width, start + r * k + c, rows * k if whole_rows else columns, int64(1) if whole_rows else rows


@njit(**SHARED)
def tile_gemm(a, b, r, rows, c, columns, out, at, width, scalars):
    """Write a[r : r + rows] b[:, c : c + columns] into out, from element `at` on."""
    (A, a_down, a_right, _, k), (B, b_down, b_right, _, _), item = a, b, scalars.itemsize
    a, b = (A + r * a_down, a_down, a_right, rows, k), (B + c * b_right, b_down, b_right, k, columns)
    gemm(a, b, (int64(out.ctypes.data) + at * item, width * item, item, rows, columns), scalars)


@njit(**SHARED)
def tile_outer(a, b, r, rows, c, columns, out, at, width):
    """Write the same product of a single sample: a column times a row."""
    row = b[0, c : c + columns]
    for i in range(rows):
        x, to = a[r + i, 0], out[at + i * width : at + i * width + columns]
        for j in range(uint64(columns)):  # unsigned, since no index counts from the end
            to[j] = x * row[j]
