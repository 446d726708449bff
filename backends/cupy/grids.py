"""How many blocks and threads do a kernel, and the memory that they need to add up: none of it is in the text."""

from math import prod

from nnx.compiler.ir.operations import itemsize
from nnx.compiler.schedule import Kernel

THREADS = 256
"""Threads of a block."""
LANES = 32
"""Threads of a warp."""
ROWS = 8
"""Threads that share a sum across lines, each of which has its own lane."""
FLAT = 4
"""Elements that a thread does of a long loop, and the elements from which on a loop is long."""
LONG = 1 << 16
CHUNK, MOST_CHUNKS = 128, 32
"""Terms of a sum across that a block takes at least, and blocks that share such a sum at most."""
WHOLE, MOST_WHOLE = 2048, 64
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


def chunks(terms: int) -> int:
    """Return how many blocks share each sum across `terms` lines."""
    return max(1, min(MOST_CHUNKS, terms // CHUNK))


def whole_blocks(size: int) -> int:
    """Return the blocks that share a sum of all elements."""
    return max(1, min(MOST_WHOLE, size // WHOLE))


def scratch(kernel: Kernel) -> int:
    """Return the bytes that a kernel needs for the sums of its blocks: a counter for each sum, and the sums."""
    shape, sums = kernel.iteration_space, [op for op in kernel.ops if op.kind == "reduction"]
    if not sums:
        return 0
    whole = len(sums[0].option("axes")) == len(shape)
    (axis,) = (0,) if whole else sums[0].option("axes")
    counters = 1 if whole else ceil_div(shape[1 - axis], LANES)
    parts = whole_blocks(prod(shape)) if whole else chunks(shape[axis]) * shape[1 - axis]
    return counter_bytes(counters) + sum(8 * ceil_div(parts * itemsize(op.out.dtype), 8) for op in sums)


def counter_bytes(counters: int) -> int:
    """Return the bytes of counters, to the next multiple of 8."""
    return 8 * ceil_div(4 * counters, 8)
