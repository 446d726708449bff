"""What the compiler's passes are told of numba's steps."""

from nnx.backends.numba.expressions import iteration_space
from nnx.compiler import Op, Value, thresholds
from nnx.compiler.ir.operations import itemsize
from nnx.compiler.pipeline import Target

LINE = 64
"""The bytes of a cache line."""


def copies_transposed(product: Op) -> bool:
    """Whether dW = dZ A^T is to read a copy of A^T, row by row.

    BLAS reads that faster, which is worth the copy for many units; of more samples it would take much memory. Of one
    sample the loop over a row is vectorized only where its elements are known to be neighbours.
    """
    m, n = product.reads[1].shape[0], product.out.shape[0]
    few = m <= thresholds.TRANSPOSED_COPY_FEW
    units = thresholds.TRANSPOSED_COPY_UNITS if few else thresholds.TRANSPOSED_COPY_MORE_UNITS
    return m == 1 or (m <= thresholds.TRANSPOSED_COPY_SAMPLES and n >= units)


def row_length(value: Value) -> int:
    """Return how many elements a row takes: whole cache lines, unless it is short.

    And one line more, where all rows would begin at a few places of the cache, which hold only some of them.
    """
    columns, each = value.shape[1], LINE // itemsize(value.dtype)
    lines = -(-columns // each)
    return columns if lines < 4 else each * (lines if lines % 32 else lines + 1)


TARGET = Target(
    iteration_space=iteration_space,
    threads=True,
    copies_transposed=copies_transposed,
    row_length=row_length,
)
