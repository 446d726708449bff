"""dW = dZ A^T tile by tile: the optimizer's loop uses each tile while it is in the cache.

A tile lies over the tile before it, where the thread's part of dtheta begins. For many samples the whole part is one
tile, in its own place.
"""

# mypy: ignore-errors

from numba import njit
from numpy import int64, uint64

from nnx.backends.numba.runtime.gemm import gemm
from nnx.backends.numba.runtime.options import LINE, PLAIN, SHARED, ZERO
from nnx.backends.numba.runtime.parts import block, partition, partition_matrix
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
def tile_gemm(a, b, r, rows, c, columns, out, at, width, scalars):
    """Write a[r : r + rows] b[:, c : c + columns] into out, from element `at` on."""
    k, item = a[4], scalars.itemsize
    place = int64(out.ctypes.data) + at * item, width * item, item, rows, columns
    gemm(block(a, r, r + rows, ZERO, k), block(b, ZERO, k, c, c + columns), place, scalars)


@njit(**SHARED)
def tile_outer(a, b, r, rows, c, columns, out, at, width, scalars):
    """Write the same product of a single sample, whose factors are arrays: a column times a row."""
    row = b[0, c : c + columns]
    for i in range(rows):
        x, to = a[r + i, 0], out[at + i * width : at + i * width + columns]
        for j in range(uint64(columns)):  # unsigned, since no index counts from the end
            to[j] = x * row[j]


# A step makes the functions that follow with its own `update`, so that they are forgotten with it.


def over_tiles(product, update):
    """Return a function that makes thread t's tiles of a dW, and updates the runs of theta that each belongs to.

    update(arguments, low, high, ahead) is called for theta[low:high], whose derivative begins at dtheta[ahead].
    """

    @njit(**PLAIN)
    def update_tiles(t, T, arguments, d, m, a, b, dtheta, scalars):
        i0, i1, j0, j1, R, C, place = tiling(t, T, d, m)
        start, k = d[0], d[3]
        for above in range(
            (i1 - i0 + R - 1) // R
        ):  # from the last rows up, since the forward pass read those last
            r = i0 + ((i1 - i0 - 1) // R - above) * R
            for c in range(j0, j1, C):
                rows, columns, first = min(R, i1 - r), min(C, j1 - c), start + r * k + c
                at, width = (start + place, columns) if place >= 0 else (first, k)
                product(a, b, r, rows, c, columns, dtheta, at, width, scalars)
                # Whole rows of W are one run.
                length, runs = (rows * k, int64(1)) if columns == k else (columns, rows)
                for q in range(runs):
                    low = first + q * k
                    update(arguments, low, low + length, at + q * width)

    return update_tiles


def over_ranges(update):
    """Return a function that updates thread t's part of the ranges of theta in some rows of D.

    Their derivatives are in their own places.
    """

    @njit(**PLAIN)
    def update_ranges(t, T, arguments, D, first, last):
        for k in range(first, last):
            low, high = partition(t, T, D[k][3], LINE)
            update(arguments, D[k][0] + low, D[k][0] + high, D[k][0] + low)

    return update_ranges
