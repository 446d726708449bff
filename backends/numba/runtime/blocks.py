"""Small products in registers, for processors where OpenBLAS always copies what it multiplies.

A block of the result, 4 rows and two vectors of columns, stays in registers until it is done. LLVM makes no such loop
of numba's Python: written there, the product takes two to six times as long.
"""

# mypy: ignore-errors

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from nnx.backends.numba.runtime.options import SHARED
from nnx.compiler.thresholds import REGISTER_LEFT, REGISTER_RESULT

VECTOR = 32
"""The bytes of a vector, of AVX2."""


def _block(rows):
    """Return a function that writes a block of a product, of so many rows and two vectors of columns."""

    @intrinsic
    def block(context, scalars, A, a_down, a_right, B, b_down, C, c_down, k):
        number = ir.FloatType() if scalars.dtype == types.float32 else ir.DoubleType()
        size, long = scalars.dtype.bitwidth // 8, ir.IntType(64)
        vector, width = ir.VectorType(number, VECTOR // size), ir.Constant(long, VECTOR)

        def made(context, builder, signature, args):
            _, A, a_down, a_right, B, b_down, C, c_down, k = args

            def pointer(kind, address, *moves):
                for stride, count in moves:
                    count = ir.Constant(long, count) if isinstance(count, int) else count
                    address = builder.add(address, builder.mul(stride, count))
                return builder.inttoptr(address, kind.as_pointer())

            # LLVM keeps these in registers.
            sums = [cgutils.alloca_once_value(builder, ir.Constant(vector, None)) for _ in range(2 * rows)]
            with cgutils.for_range(builder, k) as loop:
                p = loop.index
                left = [builder.load(pointer(number, A, (a_down, i), (a_right, p))) for i in range(rows)]
                right = [
                    builder.load(pointer(vector, B, (b_down, p), (width, w)), align=size) for w in (0, 1)
                ]
                pairs = [(_spread(builder, x, vector), y) for x in left for y in right]
                for place, pair in zip(sums, pairs, strict=True):
                    more = builder.fmul(*pair, ("contract",))
                    builder.store(builder.fadd(builder.load(place), more, ("contract",)), place)
            for at, place in enumerate(sums):
                to = pointer(vector, C, (c_down, at // 2), (width, at % 2))
                builder.store(builder.load(place), to, align=size)
            return context.get_dummy_value()

        return types.none(scalars, *[types.int64] * 8), made

    return block


def _spread(builder, x, vector):
    """Return a vector with x in all its places."""
    nothing, first = ir.Constant(vector, ir.Undefined), ir.Constant(ir.IntType(32), 0)
    places = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), None)
    return builder.shuffle_vector(builder.insert_element(nothing, x, first), nothing, places)


_four_rows, _row = _block(4), _block(1)


@njit(**SHARED)
def gemm_in_registers(a, b, out, scalars):
    """Write a product if its sizes and strides suit this way; return whether they do. See `gemm`."""
    item = scalars.itemsize
    (A, a_down, a_right, n, k), (B, b_down, b_right, _, m), (C, c_down, _, _, _) = a, b, out
    is_small = n * m <= REGISTER_RESULT or n * k <= REGISTER_LEFT
    if not is_small or k <= 0 or b_right != item or m * item % (2 * VECTOR) or b_down % 4096 == 0:
        return False
    for j in range(0, m * item, 2 * VECTOR):
        for i in range(0, n - 3, 4):
            _four_rows(scalars, A + i * a_down, a_down, a_right, B + j, b_down, C + i * c_down + j, c_down, k)
        for i in range(n // 4 * 4, n):
            _row(scalars, A + i * a_down, a_down, a_right, B + j, b_down, C + i * c_down + j, c_down, k)
    return True
