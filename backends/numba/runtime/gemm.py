"""Matrix products: a thread's part of them, each in blocks that suit BLAS.

Of a and b one stride is an element; the result is row-major. `scalars` is an array of 1, 0 and the copy limit: of it
BLAS reads alpha and beta, and its dtype is that of the product.
"""

# mypy: ignore-errors

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy import int32, int64, uint64

from nnx.backends.numba.blas import bind
from nnx.backends.numba.runtime.blocks import gemm_in_registers
from nnx.backends.numba.runtime.options import LINE, SHARED, ZERO
from nnx.backends.numba.runtime.parts import EVEN, block, partition, partition_matrix
from nnx.compiler.thresholds import FEW_COLUMNS, MKL_FEW_ROWS, MKL_LONG_ROWS, PREFER_ROWS

ALWAYS_COPIES, MKL = -1, -2
"""Copy limits: BLAS copies all that it multiplies; it is MKL, whose products are done whole. 0: no limit is known."""

NO_TRANSPOSE, TRANSPOSE = 110, 116
"""BLAS's letters: n, t."""

SYMBOLS = {"float32": "nnx_sgemm", "float64": "nnx_dgemm"}
bind(SYMBOLS)

# numba's own name for gemv of SciPy's BLAS: kind, transposed or not, sizes, and addresses.
_gemv = types.ExternalFunction(
    "numba_xxgemv", types.int32(*[types.int32] * 2, *[types.int64] * 2, *[types.intp] * 6)
)


@intrinsic
def _gemm(context, scalars, b_op, a_op, columns, rows, inner, alpha, b, ldb, a, lda, beta, c, ldc):
    """Call a product of BLAS in Fortran's way: letters and whole numbers by reference, the rest are addresses."""
    byte, whole = ir.IntType(8), ir.IntType(32)
    kinds = byte, byte, whole, whole, whole, None, None, whole, None, whole, None, None, whole

    def made(context, builder, signature, args):
        given = []
        for kind, x in zip(kinds, args[1:], strict=True):
            if kind is None:
                given.append(builder.inttoptr(x, byte.as_pointer()))
            else:
                place = cgutils.alloca_once(builder, kind)
                builder.store(builder.trunc(x, kind), place)
                given.append(builder.bitcast(place, byte.as_pointer()))
        function = ir.FunctionType(ir.VoidType(), [byte.as_pointer()] * len(given))
        name = SYMBOLS[str(scalars.dtype)]
        builder.call(cgutils.get_or_insert_function(builder.module, function, name), given)
        return context.get_dummy_value()

    return types.none(scalars, *[types.int64] * 13), made


@njit(**SHARED)
def is_cache_friendly(b):
    """Return whether each row of b begins with a cache line, and not all rows at a few places of the cache."""
    return b[0] % 64 == 0 and b[1] % 64 == 0 and b[1] % 4096 != 0


@njit(**SHARED)
def gemm_blocks(n, k, m, copy_limit, is_mixed, page_strided, unaligned):
    """Return the rows, terms and columns of the blocks in which a product (n, k) (k, m) is done.

    OpenBLAS copies what it multiplies, except in products of up to `copy_limit` = 100^3 multiplications. In such blocks
    a product of 16 or 20 columns takes half the time, a large one some percent less. But it copies, too, where a is
    row-major and b column-major (`is_mixed`), unless the product is even smaller and has more terms. If the columns of
    a are whole pages apart (`page_strided`), few of them fit into the cache together. And b is better copied whole if
    its rows begin within cache lines, or all at a few places of the cache (`unaligned`).
    """
    if copy_limit == MKL:
        return n, min(k, 128 if n <= MKL_FEW_ROWS and m > MKL_LONG_ROWS else k), m
    if copy_limit <= 0 or (unaligned and k >= 64):
        return n, k, m
    if is_mixed:
        if k < 64 or min(n, m) > (128 if k % 1024 else 32):
            return n, k, m
        j = min(m, 32)
        i = min(n, max(16, 1200 // j // 16 * 16))
        return i, k if i * k * j <= copy_limit else min(k, 512), j
    j, q = min(m, 64), min(k, 64 if page_strided and m <= FEW_COLUMNS else 256)
    i = min(n, 192 if q == 64 else 96, max(16, copy_limit // (q * j) // 16 * 16))
    return i, q, min(m, max(j, copy_limit // (i * q) // 64 * 64))


@njit(**SHARED)
def gemm(a, b, out, scalars):
    """Write a product with one thread: out = a b."""
    item, one = scalars.itemsize, int64(scalars.ctypes.data)
    zero = one + item
    (A, a_down, a_right, n, k), (B, b_down, b_right, _, m), (C, c_down, _, _, _) = a, b, out
    if n <= 0 or m <= 0:
        return
    a_in_rows, b_in_rows = a_right == item or k == 1, b_right == item
    lda = max(a_down // item, k) if a_in_rows else max(a_right // item, n)
    # BLAS counts columns first: a row-major matrix is its transpose there.
    if m == 1 and b_down == item and c_down == item:
        kind = int32(115 if item == 4 else 100)  # s, d
        if a_in_rows:
            _gemv(kind, TRANSPOSE, k, n, one, A, lda, B, zero, C)
        else:
            _gemv(kind, NO_TRANSPOSE, n, k, one, A, lda, B, zero, C)
        return
    if scalars[2] == ALWAYS_COPIES and gemm_in_registers(a, b, out, scalars):
        return
    ldb = max(b_down // item, m) if b_in_rows else max(b_right // item, k)
    ldc = max(c_down // item, m)
    a_op = int64(NO_TRANSPOSE if a_in_rows else TRANSPOSE)
    b_op = int64(NO_TRANSPOSE if b_in_rows else TRANSPOSE)
    page_strided = not a_in_rows and a_right % 4096 == 0
    unaligned = a_in_rows and b_in_rows and m > FEW_COLUMNS and not is_cache_friendly(b)
    rows, terms, columns = gemm_blocks(
        n, k, m, int64(scalars[2]), a_in_rows and not b_in_rows, page_strided, unaligned
    )
    for j in range(0, m, columns):
        for i in range(0, n, rows):
            for q in range(0, max(k, 1), max(terms, 1)):
                a_at, b_at = A + i * a_down + q * a_right, B + q * b_down + j * b_right
                c_at, beta = C + i * c_down + j * item, zero if q == 0 else one
                width, height, length = min(columns, m - j), min(rows, n - i), min(terms, k - q)
                _gemm(scalars, b_op, a_op, width, height, length, one, b_at, ldb, a_at, lda, beta, c_at, ldc)


@njit(**SHARED)
def gemm_partition(t, T, a, b, out, scalars):
    """Write thread t's part of a product."""
    i0, i1, j0, j1 = partition_matrix(t, T, out[3], out[4], EVEN)
    gemm(block(a, i0, i1, ZERO, a[4]), block(b, ZERO, a[4], j0, j1), block(out, i0, i1, j0, j1), scalars)


@njit(**SHARED)
def gemm_owner_computes(t, T, a, b, out, partial_sums, scalars, transposed):
    """Write thread t's part of W A, or of W^T dZ (`transposed`), from the part of W that the thread updates itself.

    So no part of W goes from core to core, which costs more than all else for few samples. Where the thread owns a part
    of each sum, thread 0 writes its sums to `out`, the others to `partial_sums`: `add_partial_sums` adds them. Returned
    is how many partial sums there are. If `partial_sums` is too short, the product is divided as any other.
    """
    n, k, m = out[3], a[4], out[4]
    if T == 1 or partial_sums.size < (T - 1) * n * m:
        gemm_partition(t, T, a, b, out, scalars)
        return int64(1)
    if transposed:
        q0, q1, i0, i1 = partition_matrix(t, T, k, n, PREFER_ROWS)
        first = partition_matrix(ZERO, T, k, n, PREFER_ROWS)[1]
    else:
        i0, i1, q0, q1 = partition_matrix(t, T, n, k, PREFER_ROWS)
        first = partition_matrix(ZERO, T, n, k, PREFER_ROWS)[3]
    count = -(-k // first)
    if i0 < i1 and q0 < q1:
        if count > 1 and t > 0:
            place, item = int64(partial_sums.ctypes.data), scalars.itemsize
            out = place + (t - 1) * n * m * item, m * item, out[2], n, m
        gemm(block(a, i0, i1, q0, q1), block(b, q0, q1, ZERO, m), block(out, i0, i1, ZERO, m), scalars)
    return count


@njit(**SHARED)
def add_partial_sums(t, T, count, out, partial_sums, d):
    """Add the other threads' sums, (n, m) each, to this thread's part of out, whose rows may be longer."""
    n, m = d[2], d[3]
    i0, i1 = partition(t, T, n, LINE)
    for other in range(count - 1):
        for i in range(i0, i1):
            at = other * n * m + i * m
            sums = partial_sums[at : at + m]
            for j in range(uint64(m)):
                out[i, j] += sums[j]
