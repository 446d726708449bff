"""How many blocks and threads do a kernel, and the memory that they need to add up: none of it is in the text."""

from itertools import accumulate
from math import prod

from nnx.compiler import Op
from nnx.compiler.ir.operations import itemsize
from nnx.compiler.schedule import Kernel

THREADS = 256
"""Threads of a block."""
LANES = 32
"""Threads of a warp."""
ROWS = THREADS // LANES
"""Warps of a block."""
FLAT = 4
"""Elements that a thread does of a long loop, and the elements from which on a loop is long."""
LONG = 1 << 16
CHUNK, MOST_CHUNKS = 128, 64
"""Terms of a sum across lines that a block takes at least, and blocks that share such a sum at most."""
WHOLE, MOST_WHOLE = 2048, 1024
"""The same for a sum of all elements."""


def ceil_div(n: int, k: int) -> int:
    """Return n / k, rounded up."""
    return -(-n // k)


def flat_blocks(size: int) -> int:
    """Return the blocks of a loop over elements that do not need each other."""
    return max(1, ceil_div(size, THREADS * (FLAT if size > LONG else 1)))


def line_blocks(lines: int) -> int:
    """Return the blocks of a kernel that does a line with each warp."""
    return max(1, ceil_div(lines * LANES, THREADS))


def shares(kernel: Kernel) -> tuple[int, int]:
    """Return how many results a kernel's sums have, and how many blocks share each of them."""
    shape, axes = kernel.iteration_space, _sums(kernel)[0].option("axes")
    if len(axes) == len(shape):
        return 1, max(1, min(MOST_WHOLE, prod(shape) // WHOLE))
    (axis,) = axes
    return shape[1 - axis], max(1, min(MOST_CHUNKS, shape[axis] // CHUNK))


def scratch(kernel: Kernel) -> int:
    """Return the bytes that a kernel needs for the sums that its blocks share."""
    return scratch_starts(kernel)[-1] if _sums(kernel) else 0


def scratch_starts(kernel: Kernel) -> list[int]:
    """Return where the counters begin, one for LANES results, where the partial sums of each sum begin, and the end."""
    n, chunks = shares(kernel)
    sizes = [4 * ceil_div(n, LANES), *(chunks * n * itemsize(op.out.dtype) for op in _sums(kernel))]
    return list(accumulate((8 * ceil_div(size, 8) for size in sizes), initial=0))


def _sums(kernel: Kernel) -> list[Op]:
    return [op for op in kernel.ops if op.kind == "reduction"]
