"""Small products in registers, for processors where OpenBLAS always copies what it multiplies.

A block of the result, 4 rows and two vectors of columns, stays in registers until it is done. LLVM makes no such loop
of numba's Python: written there, the product takes two to six times as long.
"""

# mypy: ignore-errors

from llvmlite import ir
from numba import njit, types
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
        vector = ir.VectorType(number, VECTOR // size)

        def made(context, builder, signature, args):
            _, A, a_down, a_right, B, b_down, C, c_down, k = args

            def load(kind, address):
                return builder.load(builder.inttoptr(address, kind.as_pointer()), align=size)

            def times(x, count):
                return builder.mul(x, ir.Constant(long, count))

            entry, loop, done = builder.block, builder.append_basic_block(), builder.append_basic_block()
            builder.branch(loop)
            builder.position_at_end(loop)
            p, a, b = (builder.phi(long) for _ in range(3))
            sums = [builder.phi(vector) for _ in range(2 * rows)]
            right = [load(vector, builder.add(b, ir.Constant(long, VECTOR * w))) for w in range(2)]
            left = [
                _spread(builder, load(number, builder.add(a, times(a_down, r))), vector) for r in range(rows)
            ]
            products = [builder.fmul(x, y, ("contract",)) for x in left for y in right]
            more = [builder.fadd(x, y, ("contract",)) for x, y in zip(sums, products, strict=True)]
            steps = (p, ir.Constant(long, 1)), (a, a_right), (b, b_down)
            after = [builder.add(x, step) for x, step in steps]
            builder.cbranch(builder.icmp_signed("<", after[0], k), loop, done)
            first = [ir.Constant(long, 0), A, B, *[ir.Constant(vector, None)] * (2 * rows)]
            for x, at_first, later in zip([p, a, b, *sums], first, [*after, *more], strict=True):
                x.add_incoming(at_first, entry)
                x.add_incoming(later, loop)
            builder.position_at_end(done)
            for place, x in enumerate(more):
                row = builder.add(C, times(c_down, place // 2))
                address = builder.add(row, ir.Constant(long, VECTOR * (place % 2)))
                builder.store(x, builder.inttoptr(address, vector.as_pointer()), align=size)
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
