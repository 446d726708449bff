"""What several threads do together, in a compiled step: shares of loops and products, and waiting for each other.

Every thread runs the same text with its own number t of T, does its share of each loop and each product, and meets the
others where one reads what another has written. BLAS itself has one thread then. A copy of this file lies beside the
compiled steps, which share what is compiled of it.
"""

# ruff: noqa: F401
# mypy: ignore-errors

import platform
import sys

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy import empty, float32, float64, int8, int16, int32, int64, uint8, uint16, uint32, uint64

from nnx.backends.numba.blas import bind

PLAIN = {
    "error_model": "numpy",
    "fastmath": {"contract", "nsz"},
    "nogil": True,
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}
SHARED = {**PLAIN, "cache": __name__ != "nnx.backends.numba.runtime"}
"""The same of what all steps share: in that copy it is kept on disk, and so compiled once."""
CALLED = {**PLAIN, "cache": True, "no_cpython_wrapper": False}
"""The same of what is called from Python: the step."""

_yield = types.ExternalFunction("sched_yield" if sys.platform != "win32" else "SwitchToThread", types.int32())
_sleep = types.ExternalFunction("usleep" if sys.platform != "win32" else "Sleep", types.void(types.uint32))
NAP = 20 if sys.platform != "win32" else 1
# numba's own door to the BLAS of SciPy: kind, transposed or not, sizes, and where the numbers are.
_gemv = types.ExternalFunction(
    "numba_xxgemv", types.int32(*[types.int32] * 2, *[types.int64] * 2, *[types.intp] * 6)
)


SYMBOLS = {"float32": "nnx_sgemm", "float64": "nnx_dgemm"}
bind(SYMBOLS)


@intrinsic
def _gemm(context, units, b_op, a_op, columns, rows, inner, alpha, b, ldb, a, lda, beta, c, ldc):
    """Call a product of BLAS, which is handed all by reference: characters, whole numbers, and where the rest lies."""
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
        builder.call(
            cgutils.get_or_insert_function(builder.module, function, SYMBOLS[str(units.dtype)]), given
        )
        return context.get_dummy_value()

    return types.none(units, *[types.int64] * 13), made


_copy = types.ExternalFunction("memcpy", types.intp(types.intp, types.intp, types.intp))


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


LINGER = 5000
"""Looks, on x86 with a pause of some 20 to 50 ns after each; elsewhere the moment is a shorter one."""


@intrinsic
def _pause(context):
    """Leave what this core shares with another one to that for a moment."""

    def made(context, builder, signature, args):
        if ZERO:
            nothing = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, nothing, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.none(), made


ZERO = 0x8040 if platform.machine() in ("x86_64", "AMD64") else 0
"""The bits of x86's MXCSR that make numbers below the smallest normal one 0."""


@intrinsic
def _rounding(context):
    """Return how this thread's processor computes floats: MXCSR."""

    def made(context, builder, signature, args):
        word = cgutils.alloca_once_value(builder, ir.Constant(ir.IntType(32), 0))
        if ZERO:
            pointer = builder.bitcast(word, ir.IntType(8).as_pointer())
            store = ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer()])
            builder.call(
                cgutils.get_or_insert_function(builder.module, store, "llvm.x86.sse.stmxcsr"), [pointer]
            )
        return builder.load(word)

    return types.int32(), made


@intrinsic
def round_by(context, bits):
    """Let it compute so."""

    def made(context, builder, signature, args):
        if ZERO:
            word = cgutils.alloca_once_value(builder, args[0])
            pointer = builder.bitcast(word, ir.IntType(8).as_pointer())
            load = ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer()])
            builder.call(
                cgutils.get_or_insert_function(builder.module, load, "llvm.x86.sse.ldmxcsr"), [pointer]
            )
        return context.get_dummy_value()

    return types.none(types.int32), made


@njit(**SHARED)
def flushed():
    """Let this thread take numbers below the smallest normal one for 0, and return how it did before.

    Of units that are active no more, Adam's m and v fade to such numbers, and each costs a hundred times as much.
    """
    before = _rounding()
    round_by(int32(before | int32(ZERO)))
    return before


@njit(**SHARED)
def begun(t, T, sync):
    """Let those who linger know that the next call has begun."""
    if T > 1 and t == 0:
        _arrived(sync[8:])


@njit(types.void(types.int64[::1], types.int64), **{**CALLED, "cache": SHARED["cache"]})
def lingered(sync, calls):
    """Wait a moment for a call to begin after so many: to wake a thread up takes longer than a step of a small network.

    Python must not be asked for it: whoever calls has the interpreter's lock until the step has begun.
    """
    for _ in range(LINGER):
        if _arrivals(sync[8:]) != calls:
            return
        _pause()


@njit(**SHARED)
def meet(sync, T, met):
    """Wait until all threads are here, for the met-th time; return the number of the next time."""
    if T > 1:
        _arrived(sync)
        looks = 0
        while _arrivals(sync) < T * met:
            looks += 1
            if looks > 2400:  # Linux lets a thread that yields go on for up to 10 ms
                _sleep(uint32(NAP))
            elif looks > 2000:  # somebody else has that thread's core
                _yield()
    return met + 1


ZEROTH, ONE, FOUR, EIGHT, LINE = int64(0), int64(1), int64(4), int64(8), int64(16)
"""Numbers of one type: for 4 and 8 as they stand numba compiles what they are handed to once more."""


@njit(**SHARED)
def share(t, T, n, grain):
    """Return where the share of thread t in n elements begins and ends: whole cache lines, or grains."""
    if T == 1:
        return int64(0), int64(n)
    each = (-(-n // T) + grain - 1) // grain * grain
    return min(n, t * each), min(n, (t + 1) * each)


# A row of the table D says where an array lies in memory, from where to where, and its rows and columns.


@njit(**SHARED)
def by_rows(t, T, d):
    """Return the rows and columns that are the share of thread t: whole rows."""
    i0, i1 = share(t, T, d[2], LINE)
    return i0, i1, int64(0), d[3]


@njit(**SHARED)
def by_columns(t, T, d):
    """Return the rows and columns that are the share of thread t: whole columns."""
    j0, j1 = share(t, T, d[3], LINE)
    return int64(0), d[2], j0, j1


@njit(**SHARED)
def by_length(t, T, d):
    """Return the rows and columns that are the share of thread t: along the longer side."""
    return by_columns(t, T, d) if d[3] >= d[2] else by_rows(t, T, d)


@njit(**SHARED)
def by_one(t, T, d):
    """Return all rows and columns."""
    return int64(0), d[2], int64(0), d[3]


@njit(**SHARED)
def part(x, d):
    """Return a slice of a vector."""
    return x[d[0] : d[1]]


@njit(**SHARED)
def matrix(x, d):
    """Return a slice of a vector as a matrix."""
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
def where(x, d):
    """Return where a matrix lies, its strides and its sizes; its array may have a longer line."""
    return int64(x.ctypes.data), x.strides[0], x.strides[1], d[2], d[3]


@njit(**SHARED)
def lies_well(b):
    """Return whether the lines of b begin with a cache line each, and not all of them at a few places of the cache."""
    return b[0] % 64 == 0 and b[1] % 64 == 0 and b[1] % 4096 != 0


WHOLE = -2
"""The `small` of MKL, whose products are done whole."""

NARROW, LONG = 32, 4096
"""Rows up to which, and inner numbers or columns from which, MKL's products are quicker in parts, or transposed."""


@njit(**SHARED)
def pieces(n, k, m, small, mixed, far, amid):
    """Return the rows, inner numbers and columns of the pieces in which a product (n, k) (k, m) is done.

    OpenBLAS copies what it multiplies, but not for up to `small` = 100^3 multiplications (0, -1: no such limit is
    known, and the product is one piece; WHOLE: it is MKL's). So done, a product of 16 or 20 columns takes half the
    time, a large one some percent less. What is `mixed`, a by rows and b by columns, must be smaller still, and have
    more inner numbers. `far`: the columns of a lie whole pages apart, so that few of them fit into the cache together;
    `amid`: b's rows begin amid cache lines, or all at a few places of the cache, and are better copied whole.
    """
    if small == WHOLE:
        return n, min(k, 128 if n <= NARROW and m > LONG else k), m
    if small <= 0 or (amid and k >= 64) or (mixed and (k < 64 or min(n, m) > (128 if k % 1024 else 32))):
        return n, k, m
    if mixed:
        j = min(m, 32)
        i = min(n, max(16, 1200 // j // 16 * 16))
        return i, k if i * k * j <= small else min(k, 512), j
    j, q = min(m, 64), min(k, 64 if far and m <= FEW else 256)
    i = min(n, 192 if q == 64 else 96, max(16, small // (q * j) // 16 * 16))
    return i, q, min(m, max(j, small // (i * q) // 64 * 64))


@njit(**SHARED)
def shared(t, T, n, m, bias):
    """Return the rows and columns of a product (n, m) that are the share of thread t: whole rows, or whole columns.

    Columns, if the largest share of rows is more than `bias` times as large.
    """
    rows, columns = share(ZEROTH, T, n, FOUR)[1] * m, share(ZEROTH, T, m, EIGHT)[1] * n
    i0, i1, j0, j1 = int64(0), n, int64(0), m
    if columns * bias < rows or (bias == EVEN and columns == rows and m >= 2 * n):
        j0, j1 = share(t, T, m, EIGHT)
    else:
        i0, i1 = share(t, T, n, FOUR)
    return i0, i1, j0, j1


@njit(**SHARED)
def of_product(T, n, m, more):
    """Return whether `by_owner` does a product (n, m) as `product`: it has not the numbers for the threads' sums."""
    return T == 1 or more < (T - 1) * n * m


@njit(**SHARED)
def by_samples(T, d, more):
    """Return whether a product is shared out by whole columns, the samples, which a thread can pick out by itself."""
    n, m = d[2], d[3]
    return m > 1 and of_product(T, n, m, more) and shared(ZEROTH, T, n, m, EVEN)[1] == n


@njit(**SHARED)
def product(t, T, a, b, out, units, picks):
    """Write the share of thread t of a product a b; out is row-major, of a and b one stride is an element.

    `units` are 1, 0, and the `small` of `pieces`. `picks` are None, or those of `samples`: b's columns are picked out,
    each piece just before it is used.
    """
    (A, a_down, a_right, n, k), (B, b_down, b_right, _, m), (C, c_down, c_right, _, _) = a, b, out
    i0, i1, j0, j1 = shared(t, T, n, m, EVEN)
    a = A + i0 * a_down, a_down, a_right, i1 - i0, k
    b = B + j0 * b_right, b_down, b_right, k, j1 - j0
    out = C + i0 * c_down + j0 * c_right, c_down, c_right, i1 - i0, j1 - j0
    if picks is None:
        multiplied(a, b, out, units, None)
    else:
        multiplied(a, b, out, units, later(picks, j0))


@njit(**SHARED)
def by_owner(t, T, a, b, out, more, units, turned, picks):
    """Write the share of thread t of W A, or of W^T dZ (`turned`), out of that part of W which it updates itself.

    So no part of W is sent from core to core, which costs more than all else for few samples. Where that is a part of
    each sum, the threads' sums are in `out` and `more`, and must be added (`summed`): returned is how many they are.
    """
    (A, a_down, a_right, n, k), (B, b_down, b_right, _, m), (C, c_down, c_right, _, _) = a, b, out
    if of_product(T, n, m, more.size):
        product(t, T, a, b, out, units, picks)
        return int64(1)
    if turned:
        q0, q1, i0, i1 = shared(t, T, k, n, BY_ROWS)
        first = shared(ZEROTH, T, k, n, BY_ROWS)[1]
    else:
        i0, i1, q0, q1 = shared(t, T, n, k, BY_ROWS)
        first = shared(ZEROTH, T, n, k, BY_ROWS)[3]
    parts = -(-k // first)
    if i0 >= i1 or q0 >= q1:
        return parts
    if parts > 1 and t > 0:
        C, c_down = int64(more.ctypes.data) + (t - 1) * n * m * units.itemsize, m * units.itemsize
    a = A + i0 * a_down + q0 * a_right, a_down, a_right, i1 - i0, q1 - q0
    b = B + q0 * b_down, b_down, b_right, q1 - q0, m
    multiplied(a, b, (C + i0 * c_down, c_down, c_right, i1 - i0, m), units, None)
    return parts


@njit(**SHARED)
def summed(t, T, parts, out, more, d):
    """Add the other threads' sums, (n, m) each, to this thread's share of out, whose lines may be longer."""
    n, m = d[2], d[3]
    i0, i1 = share(t, T, n, LINE)
    for other in range(parts - 1):
        for i in range(i0, i1):
            at = other * n * m + i * m
            sums = more[at : at + m]
            for j in range(uint64(m)):
                out[i, j] += sums[j]


@njit(**SHARED)
def later(picks, j):
    """Return the picks from the j-th sample on."""
    rows, order, start = picks
    return rows, order, start + j


@njit(**SHARED)
def samples(picks, first, to, line, count, numbers):
    """Copy some numbers, from `first` on, of `count` samples, to where they belong.

    `picks` are rows, order and start: the samples are the rows order[start:].
    """
    rows, order, start = picks
    size = min(numbers, rows.shape[1] - first) * rows.itemsize
    of = int64(rows.ctypes.data) + first * rows.itemsize
    for j in range(count):
        _copy(to + j * line, of + order[start + j] * rows.strides[0], size)


def _block(rows):
    """Return a function of units, A, a_down, a_right, B, b_down, C, c_down and k, which writes a block of a product.

    Of so many rows and two vectors of columns, each sum in a register until it is done: nothing is copied.
    """

    @intrinsic
    def block(context, units, A, a_down, a_right, B, b_down, C, c_down, k):
        kind = ir.FloatType() if units.dtype == types.float32 else ir.DoubleType()
        size, fast, long = units.dtype.bitwidth // 8, ("contract",), ir.IntType(64)
        vector, zeroth = ir.VectorType(kind, 32 // size), ir.Constant(ir.IntType(32), 0)
        none, zeroths = (
            ir.Constant(vector, ir.Undefined),
            ir.Constant(ir.VectorType(zeroth.type, 32 // size), None),
        )

        def number(x):
            return ir.Constant(long, x)

        def load(kind, at, builder):
            return builder.load(builder.inttoptr(at, kind.as_pointer()), align=size)

        def made(context, builder, signature, args):
            _, A, a_down, a_right, B, b_down, C, c_down, k = args
            entry, loop, done = builder.block, builder.append_basic_block(), builder.append_basic_block()
            builder.branch(loop)
            builder.position_at_end(loop)
            p, a, b = (builder.phi(long) for _ in range(3))
            sums = [builder.phi(vector) for _ in range(2 * rows)]
            row = [load(vector, builder.add(b, number(32 * w)), builder) for w in range(2)]
            more = []
            for r in range(rows):
                x = load(kind, builder.add(a, builder.mul(a_down, number(r))), builder)
                x = builder.shuffle_vector(builder.insert_element(none, x, zeroth), none, zeroths)
                for y in row:
                    more.append(builder.fadd(sums[len(more)], builder.fmul(x, y, fast), fast))
            after = [builder.add(x, step) for x, step in ((p, number(1)), (a, a_right), (b, b_down))]
            builder.cbranch(builder.icmp_signed("<", after[0], k), loop, done)
            firsts = [number(0), A, B, *[ir.Constant(vector, None)] * (2 * rows)]
            for x, first, other in zip([p, a, b, *sums], firsts, [*after, *more], strict=True):
                x.add_incoming(first, entry)
                x.add_incoming(other, loop)
            builder.position_at_end(done)
            for r in range(rows):
                to = builder.add(C, builder.mul(c_down, number(r)))
                for w in range(2):
                    at = builder.inttoptr(builder.add(to, number(32 * w)), vector.as_pointer())
                    builder.store(more[2 * r + w], at, align=size)
            return context.get_dummy_value()

        return types.none(units, *[types.int64] * 8), made

    return block


_four_rows, _row = _block(4), _block(1)

UNCOPIED, SQUARE = 8192, 4096
"""The numbers of a result, or of a, up to which a product by blocks takes less time than OpenBLAS with its copies.

Of 16 columns a quarter to three quarters of it, of 128 a third to all (Zen 3, one thread).
"""


@njit(**SHARED)
def by_blocks(a, b, out, units):
    """Write a product, if that is quicker by blocks than BLAS that always copies (`small` = -1); return whether so."""
    item = units.itemsize
    (A, a_down, a_right, n, k), (B, b_down, b_right, _, m), (C, c_down, _, _, _) = a, b, out
    little = n * m <= UNCOPIED or n * k <= SQUARE
    if units[2] != -1 or not little or k <= 0 or b_right != item or m * item % 64 or b_down % 4096 == 0:
        return False
    for j in range(0, m * item, 64):
        for i in range(0, n - 3, 4):
            _four_rows(units, A + i * a_down, a_down, a_right, B + j, b_down, C + i * c_down + j, c_down, k)
        for i in range(n // 4 * 4, n):
            _row(units, A + i * a_down, a_down, a_right, B + j, b_down, C + i * c_down + j, c_down, k)
    return True


@njit(**SHARED)
def by_transpose(a, b, out, units, lda, ldb, memory):
    """Write a product by way of its transpose, which is made in a memory: a's rows and b's columns lie in one piece.

    Of samples that lie so, MKL takes a third less time for (W X)^T than for W X. (The memory is the caller's, since
    numba frees an array of whose address alone something is done.)
    """
    item, one = units.itemsize, int64(units.ctypes.data)
    (A, _, _, n, k), (B, _, _, _, m), (C, c_down, _, _, _) = a, b, out
    at = int64(memory.ctypes.data)
    _gemm(units, 116, 110, n, m, k, one, A, lda, B, ldb, one + item, at, n)
    for i in range(n):
        for j in range(m):
            _copy(C + i * c_down + j * item, at + (j * n + i) * item, item)


@njit(**SHARED)
def multiplied(a, b, out, units, picks):
    """Write a product, as `product` does for one thread."""
    item = units.itemsize
    kind = int32(115 if item == 4 else 100)  # s, d
    one = int64(units.ctypes.data)
    zero = one + item
    (A, a_down, a_right, n, k), (B, b_down, b_right, _, m), (C, c_down, _, _, _) = a, b, out
    if n <= 0 or m <= 0:
        return
    a_row = a_right == item or k == 1
    lda = max(a_down // item, k) if a_row else max(a_right // item, n)
    # BLAS counts columns first: of rows it sees the transpose.
    if m == 1 and b_down == item and c_down == item:
        if a_row:
            _gemv(kind, 116, k, n, one, A, lda, B, zero, C)
        else:
            _gemv(kind, 110, n, k, one, A, lda, B, zero, C)
        return
    if picks is None and by_blocks(a, b, out, units):
        return
    b_row = b_right == item
    ldb = max(b_down // item, m) if b_row else max(b_right // item, k)
    ldc = max(c_down // item, m)
    A_op, B_op = int64(110 if a_row else 116), int64(110 if b_row else 116)
    if units[2] == WHOLE and picks is None and a_row and not b_row and n <= NARROW < m and k > LONG:
        by_transpose(a, b, out, units, lda, ldb, empty(m * n, units.dtype))
        return
    far = not a_row and a_right % 4096 == 0
    amid = a_row and b_row and m > FEW and not lies_well(b)
    I, K, J = pieces(n, k, m, int64(units[2]), a_row and not b_row, far, amid)
    deep = max(K, DEEP)
    for p in range(0, max(k, 1), deep):
        for j in range(0, m, J):
            if picks is not None:
                to = B + p * b_down + j * b_right
                samples(later(picks, j), p, to, b_right, min(J, m - j), deep)
            for i in range(0, n, I):
                for q in range(p, min(p + deep, max(k, 1)), max(K, 1)):
                    a_at, b_at = A + i * a_down + q * a_right, B + q * b_down + j * b_right
                    c_at, add = C + i * c_down + j * item, zero if q == 0 else one
                    columns, rows, inner = min(J, m - j), min(I, n - i), min(K, k - q)
                    _gemm(units, B_op, A_op, columns, rows, inner, one, b_at, ldb, a_at, lda, add, c_at, ldc)


EVEN, BY_ROWS = 1.0, 1.1
"""How uneven the shares of a product may be, and those of a W, so that they are whole rows."""

FEW = 64
"""Samples up to which a far column is far, and columns up to which b is better not copied."""

DEEP = 1024
"""Inner numbers that a product does of all its pieces before the next: so few rows of b stay in the cache meanwhile.

Those of a piece divide it, unless they are all.
"""

TILED, TILE, TILE_OF_ONE = 256, 24576, 4096
"""Samples up to which a dW is made tile by tile, each used while it is in the cache, and the numbers of a tile.

That of one sample is no product for BLAS, and may as well fit into the nearest cache.
"""


@njit(**SHARED)
def tiles(t, T, d, m):
    """Return how thread t does its share of dW = dZ A^T, m samples: its rows and columns, those of a tile, and where.

    A tile lies where the share begins, over the one before; or (-1) where it belongs, and is the whole share.
    """
    n, k = d[2], d[3]
    i0, i1, j0, j1 = shared(t, T, n, k, BY_ROWS)
    if m > TILED:
        if k > n:  # so X is read once
            i0, i1, (j0, j1) = int64(0), n, share(t, T, k, LINE)
        return i0, i1, j0, j1, max(i1 - i0, 1), max(j1 - j0, 1), int64(-1)
    rows, columns = min(i1 - i0, 32), j1 - j0
    if m == 1:
        rows, columns = max(TILE_OF_ONE // max(columns, 1), 1), min(columns, TILE_OF_ONE)
    elif columns * 8 <= TILE:
        rows = max(TILE // max(columns, 1) // 8, 1) * 8
    else:
        columns = TILE // max(rows, 1) // LINE * LINE
    return i0, i1, j0, j1, max(rows, 1), max(columns, 1), i0 * k + j0 * n


@njit(**SHARED)
def tile(d, r, c, rows, columns, packed):
    """Return where a tile lies in dtheta and how far apart its rows, and its pieces in theta: where, each, how many."""
    start, k = d[0], d[3]
    at, line = (start + packed, columns) if packed >= 0 else (start + r * k + c, k)
    whole = columns == k
    return at, line, start + r * k + c, rows * k if whole else columns, int64(1) if whole else rows


@njit(**SHARED)
def tile_product(a, b, r, rows, c, columns, out, at, line, units):
    """Write a[r : r + rows] b[:, c : c + columns] from out[at] on, its rows `line` apart."""
    (A, a_down, a_right, _, k), (B, b_down, b_right, _, _), item = a, b, units.itemsize
    a, b = (A + r * a_down, a_down, a_right, rows, k), (B + c * b_right, b_down, b_right, k, columns)
    multiplied(a, b, (int64(out.ctypes.data) + at * item, line * item, item, rows, columns), units, None)


@njit(**SHARED)
def tile_of_one(a, b, r, rows, c, columns, out, at, line):
    """Write the same of a single sample: column a times row b."""
    row = b[0, c : c + columns]
    for i in range(rows):
        x, to = a[r + i, 0], out[at + i * line : at + i * line + columns]
        for j in range(uint64(columns)):  # no index counts from the end
            to[j] = x * row[j]


@njit(**SHARED)
def turned(t, T, a, out, d):
    """Copy this thread's share of A^T to out, row-major, unless that is empty or needless; return where A^T lies."""
    found, rows = where(a, d), a.strides[1] == a.itemsize
    if out.shape[0] == 0 or (rows and d[2] > 1 and lies_well(found)):
        return found
    i0, i1 = share(t, T, d[3], LINE)
    if rows:
        for j in range(d[2]):
            to, of = out.ctypes.data + j * out.strides[0], found[0] + j * found[1]
            _copy(to + i0 * a.itemsize, of + i0 * a.itemsize, (i1 - i0) * a.itemsize)
        return where(out, d)
    i0, i1, m, eight, sixteen = uint64(i0), uint64(i1), uint64(d[2]), uint64(8), uint64(16)
    for jj in range(uint64(0), m, sixteen):  # by blocks, whose lines are in the cache until they are full
        for ii in range(i0, i1, eight):
            for j in range(jj, min(jj + sixteen, m)):
                for i in range(ii, min(ii + eight, i1)):
                    out[j, i] = a[j, i]
    return where(out, d)


@njit(**SHARED)
def gathered(t, T, rows, order, start, out):
    """Copy this thread's share of the samples order[start:], which are rows, to the rows of out."""
    j0, j1 = share(t, T, out.shape[0], LINE)
    to, line = int64(out.ctypes.data), int64(out.strides[0])
    samples((rows, order, start + j0), ZEROTH, to + j0 * line, line, j1 - j0, int64(out.shape[1]))


@njit(**SHARED)
def picked1(y, order, start, out):
    """Copy what belongs to the samples of a batch, out of an array (m,)."""
    for j in range(out.shape[0]):
        out[j] = y[order[start + j] if order.size > 0 else start + j]


@njit(**SHARED)
def picked2(y, order, start, out):
    """Copy what belongs to the samples of a batch, out of an array (n, m)."""
    for i in range(out.shape[0]):
        picked1(y[i], order, start, out[i])


@njit(**SHARED)
def kept(t, T, new, old):
    """Write this thread's share of a new state, a vector, over the old one."""
    j0, j1 = share(t, T, old.size, LINE)
    for j in range(uint64(j0), uint64(j1)):  # a slice takes numba two seconds more
        old[j] = new[j]


@njit(**{**SHARED, "fastmath": {"nsz", "reassoc"}})
def total(sum, x):
    """Return the sum with one more x, in any order, so that several are added at once."""
    return sum + x


@njit(**SHARED)
def sound(t, T, x):
    """Return whether this thread's share of a state is finite: of what is not, 0 x is NaN."""
    j0, j1 = share(t, T, x.size, LINE)
    nothing = x.dtype.type(0)
    zero = nothing
    for j in range(uint64(j0), uint64(j1)):
        zero = total(zero, x[j] * nothing)
    return zero == zero
