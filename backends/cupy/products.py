"""A product of the schedule as BLAS has it: matrices by columns."""

from nnx.backends.cupy.form import Form
from nnx.backends.cupy.step import Argument, Product
from nnx.compiler import Op, TraceError
from nnx.compiler.ir.operations import FLOATS, ROUNDED
from nnx.compiler.schedule import Place


def product(form: Form, op: Op) -> Product:
    """Return the product of two matrices; a TraceError for those that BLAS cannot take as they lie.

    Factors in bfloat16 have a product in float32.

    BLAS's C lies by columns. Where ours lies by rows, it computes C^T = B^T A^T.
    """
    a, b, c = (form.schedule.place(x) for x in (*op.reads, op.out))
    factors = {x.dtype for x in (a, b)}
    known = c.dtype in FLOATS and (factors == {c.dtype} or (factors == {ROUNDED} and c.dtype == "float32"))
    if len(op.reads) != 2 or len(c.shape) != 2 or not known:
        raise TraceError(f"{op} is no product of two matrices of one floating dtype")
    if c.strides[0] != 1 and c.shape[0] > 1:
        a, b, c = _transposed(b), _transposed(a), _transposed(c)
    (m, n), k = c.shape, a.shape[1]
    if 0 in (m, n, k):
        raise TraceError(f"{op} is empty")
    (transpose_a, lda), (transpose_b, ldb), (other, ldc) = _leading(a), _leading(b), _leading(c)
    if other:
        raise TraceError(f"{op} has a result with strides {c.strides}")
    return Product(transpose_a, transpose_b, m, n, k, _argument(a), lda, _argument(b), ldb, _argument(c), ldc)


def _transposed(x: Place) -> Place:
    return x._replace(shape=x.shape[::-1], strides=x.strides[::-1])


def _argument(x: Place) -> Argument:
    return Argument(x.memory, x.offset, x.dtype)


def _leading(x: Place) -> tuple[bool, int]:
    """Return whether a matrix lies by rows, and the elements from one column (then: row) to the next."""
    (rows, columns), (down, right) = x.shape, x.strides
    if (down == 1 or rows == 1) and (right >= rows or columns == 1):
        return False, right if columns > 1 else rows
    if (right == 1 or columns == 1) and (down >= columns or rows == 1):
        return True, down if rows > 1 else columns
    raise TraceError(f"a matrix with strides {x.strides} is none for BLAS")
