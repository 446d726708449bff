"""What several threads do together, in a compiled step: shares of loops and products, and waiting for each other.

Every thread runs the same text with its own number t of T, does its share of each loop and each product, and meets the
others where one reads what another has written. BLAS itself has one thread then. This file's text stands before that of
every compiled step.
"""

# ruff: noqa: F401
# mypy: ignore-errors

import sys

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy import float32, float64, int8, int16, int32, int64, uint8, uint16, uint32, uint64

PLAIN = {
    "error_model": "numpy",
    "fastmath": {"contract", "nsz"},
    "nogil": True,
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}
CALLED = {**PLAIN, "no_cpython_wrapper": False}
"""The same of what is called from Python: the step."""

_yield = types.ExternalFunction("sched_yield" if sys.platform != "win32" else "SwitchToThread", types.int32())
# numba's own door to the BLAS of SciPy: kind, transposed or not, sizes, and where the numbers are.
_gemm = types.ExternalFunction(
    "numba_xxgemm", types.int32(*[types.int32] * 3, *[types.int64] * 3, *[types.intp] * 8)
)
_gemv = types.ExternalFunction(
    "numba_xxgemv", types.int32(*[types.int32] * 2, *[types.int64] * 2, *[types.intp] * 6)
)


@intrinsic
def _arrived(context, sync):
    """Count this thread in; of an int64 array's first element."""

    def made(context, builder, signature, args):
        array = cgutils.create_struct_proxy(signature.args[0])(context, builder, args[0])
        one = ir.Constant(ir.IntType(64), 1)
        return builder.atomic_rmw("add", array.data, one, "seq_cst")

    return types.int64(sync), made


@intrinsic
def _arrivals(context, sync):
    """Return how many have been counted."""

    def made(context, builder, signature, args):
        array = cgutils.create_struct_proxy(signature.args[0])(context, builder, args[0])
        return builder.load_atomic(array.data, "acquire", 8)

    return types.int64(sync), made


@njit(**PLAIN)
def meet(sync, T, met):
    """Wait until all threads are here, for the met-th time; return the number of the next time."""
    if T > 1:
        _arrived(sync)
        looks = 0
        while _arrivals(sync) < T * met:
            looks += 1
            if looks > 2000:  # somebody else has that thread's core
                _yield()
    return met + 1


@njit(**PLAIN)
def share(t, T, n, grain=16):
    """Return where the share of thread t in n elements begins and ends: whole cache lines, or grains."""
    if T == 1:
        return int64(0), int64(n)
    each = (-(-n // T) + grain - 1) // grain * grain
    return min(n, t * each), min(n, (t + 1) * each)


# A row of the table D says where an array lies in memory, from where to where, and its rows and columns.


@njit(**PLAIN)
def by_rows(t, T, d):
    """Return the rows and columns that are the share of thread t: whole rows."""
    i0, i1 = share(t, T, d[2])
    return i0, i1, int64(0), d[3]


@njit(**PLAIN)
def by_columns(t, T, d):
    """Return the rows and columns that are the share of thread t: whole columns."""
    j0, j1 = share(t, T, d[3])
    return int64(0), d[2], j0, j1


@njit(**PLAIN)
def by_length(t, T, d):
    """Return the rows and columns that are the share of thread t: along the longer side."""
    return by_columns(t, T, d) if d[3] >= d[2] else by_rows(t, T, d)


@njit(**PLAIN)
def by_one(t, T, d):
    """Return all rows and columns."""
    return int64(0), d[2], int64(0), d[3]


@njit(**PLAIN)
def part(x, d):
    """Return a slice of a vector."""
    return x[d[0] : d[1]]


@njit(**PLAIN)
def matrix(x, d):
    """Return a slice of a vector as a matrix."""
    return x[d[0] : d[1]].reshape((d[2], d[3]))


@njit(**PLAIN)
def as_vector(x, d):
    """Return an array as a vector."""
    return x.reshape((d[3],))


@njit(**PLAIN)
def as_matrix(x, d):
    """Return an array as a matrix."""
    return x.reshape((d[2], d[3]))


@njit(**PLAIN)
def where(x):
    """Return where a matrix lies, its strides and its sizes."""
    return int64(x.ctypes.data), x.strides[0], x.strides[1], x.shape[0], x.shape[1]


@njit(**PLAIN)
def pieces(n, k, m, small, mixed):
    """Return the rows, inner numbers and columns of the pieces in which a product (n, k) (k, m) is done.

    OpenBLAS copies what it multiplies, but not for up to `small` = 100^3 multiplications (0: no such limit is known,
    and the product is one piece). So done, a product of 16 or 20 columns takes half the time, a large one some percent
    less. What is `mixed`, a by rows and b by columns, must be smaller still, and have more inner numbers.
    """
    if small == 0 or (mixed and (k < 128 or min(n, m) > (128 if k % 1024 else 32))):
        return n, k, m
    if mixed:
        j = min(m, 32)
        i = min(n, max(16, 1200 // j // 16 * 16))
        return i, k if i * k * j <= small else min(k, 512), j
    j, q = min(m, 64), min(k, 256)
    i = min(n, 96, max(16, small // (q * j) // 16 * 16))
    return i, q, min(m, max(j, small // (i * q) // 64 * 64))


@njit(**PLAIN)
def product(t, T, a, b, out, units):
    """Write the share of thread t of a product a b; out is row-major, of a and b one stride is an element.

    `units` are 1, 0, and the `small` of `pieces`.
    """
    item = units.itemsize
    kind = int32(115 if item == 4 else 100)  # s, d
    one = int64(units.ctypes.data)
    zero = one + item
    (A, a_down, a_right, n, k), (B, b_down, b_right, _, m), (C, c_down, _, _, _) = a, b, out
    i0, i1, j0, j1 = int64(0), n, int64(0), m
    rows, columns = share(0, T, n, 4)[1] * m, share(0, T, m, 8)[1] * n
    if columns < rows or (columns == rows and m >= n):
        j0, j1 = share(t, T, m, 8)
    else:
        i0, i1 = share(t, T, n, 4)
    if i0 >= i1 or j0 >= j1:
        return
    A, B, C, n, m = A + i0 * a_down, B + j0 * b_right, C + i0 * c_down + j0 * item, i1 - i0, j1 - j0
    a_row = a_right == item or k == 1
    lda = max(a_down // item, k) if a_row else max(a_right // item, n)
    # BLAS counts columns first: of rows it sees the transpose.
    if m == 1 and b_down == item and c_down == item:
        if a_row:
            _gemv(kind, 116, k, n, one, A, lda, B, zero, C)
        else:
            _gemv(kind, 110, n, k, one, A, lda, B, zero, C)
        return
    b_row = b_right == item
    ldb = max(b_down // item, m) if b_row else max(b_right // item, k)
    ldc = max(c_down // item, m)
    A_op, B_op = int32(110 if a_row else 116), int32(110 if b_row else 116)
    I, K, J = pieces(n, k, m, int64(units[2]), a_row and not b_row)
    for j in range(0, m, J):
        for i in range(0, n, I):
            for q in range(0, max(k, 1), max(K, 1)):
                a_at, b_at = A + i * a_down + q * a_right, B + q * b_down + j * b_right
                c_at, add = C + i * c_down + j * item, zero if q == 0 else one
                columns, rows, inner = min(J, m - j), min(I, n - i), min(K, k - q)
                _gemm(kind, B_op, A_op, columns, rows, inner, one, b_at, ldb, a_at, lda, add, c_at, ldc)


@njit(**PLAIN)
def gathered(t, T, rows, order, start, out):
    """Copy this thread's share of the samples order[start:], which are rows, to the rows of out."""
    j0, j1 = share(t, T, out.shape[0])
    for j in range(j0, j1):
        row = order[start + j]
        for i in range(out.shape[1]):
            out[j, i] = rows[row, i]


@njit(**PLAIN)
def picked1(y, order, start, out):
    """Copy what belongs to the samples of a batch, out of an array (m,)."""
    for j in range(out.shape[0]):
        out[j] = y[order[start + j] if order.size > 0 else start + j]


@njit(**PLAIN)
def picked2(y, order, start, out):
    """Copy what belongs to the samples of a batch, out of an array (n, m)."""
    for i in range(out.shape[0]):
        picked1(y[i], order, start, out[i])


@njit(**PLAIN)
def kept(t, T, new, old):
    """Write this thread's share of a new state over the old one."""
    new, old = new.reshape(-1), old.reshape(-1)
    j0, j1 = share(t, T, old.size)
    old[j0:j1] = new[j0:j1]
