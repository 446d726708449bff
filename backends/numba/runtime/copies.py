"""Copies: gathered samples, transposed matrices, the state."""

# mypy: ignore-errors

from numba import njit, types
from numpy import int64, uint64

from nnx.backends.numba.runtime.gemm import is_cache_friendly
from nnx.backends.numba.runtime.options import LINE, SHARED
from nnx.backends.numba.runtime.parts import operand, partition

_copy = types.ExternalFunction("memcpy", types.intp(types.intp, types.intp, types.intp))


@njit(**SHARED)
def gather(t, T, rows, order, start, out):
    """Copy this thread's part of the samples order[start:], which are rows, to the rows of out."""
    j0, j1 = partition(t, T, out.shape[0], LINE)
    to, of = int64(out.ctypes.data), int64(rows.ctypes.data)
    for j in range(j0, j1):
        _copy(to + j * out.strides[0], of + order[start + j] * rows.strides[0], out.shape[1] * rows.itemsize)


@njit(**SHARED)
def gather1(y, order, start, out):
    """Copy the elements of a batch out of an array (m,)."""
    for j in range(out.shape[0]):
        out[j] = y[order[start + j] if order.size > 0 else start + j]


@njit(**SHARED)
def gather2(y, order, start, out):
    """Copy the columns of a batch out of an array (n, m)."""
    for i in range(out.shape[0]):
        gather1(y[i], order, start, out[i])


@njit(**SHARED)
def transpose(t, T, a, out, d):
    """Copy this thread's part of A^T = a to out, unless out is empty or the copy needless; return A^T's operand."""
    found = operand(a, d)
    if out.shape[0] == 0 or (a.strides[1] == a.itemsize and d[2] > 1 and is_cache_friendly(found)):
        return found
    i0, i1 = partition(t, T, d[3], LINE)
    i0, i1, m, eight, sixteen = uint64(i0), uint64(i1), uint64(d[2]), uint64(8), uint64(16)
    for jj in range(uint64(0), m, sixteen):  # by blocks, whose cache lines stay until they are full
        for ii in range(i0, i1, eight):
            for j in range(jj, min(jj + sixteen, m)):
                for i in range(ii, min(ii + eight, i1)):
                    out[j, i] = a[j, i]
    return operand(out, d)


@njit(**SHARED)
def copy_state(t, T, new, old):
    """Copy this thread's part of a vector of the state over another."""
    j0, j1 = partition(t, T, old.size, LINE)
    for j in range(uint64(j0), uint64(j1)):  # numba takes two seconds longer to compile a copy of slices
        old[j] = new[j]


@njit(**{**SHARED, "fastmath": {"nsz", "reassoc"}})
def add_in_any_order(sum, x):
    """Return sum + x; the order of a sum may change, so that a vector of partial sums is added at once."""
    return sum + x
