"""A step as a GPU does it: kernels with their arguments, matrix products as BLAS has them, and memory. Numbers only."""

from collections.abc import Mapping
from math import gcd
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

from nnx.compiler.ir.operations import itemsize
from nnx.compiler.schedule import Memory, Schedule


class Argument(NamedTuple):
    """An address: of a memory, and from which element of a dtype on."""

    memory: Memory
    offset: int
    dtype: str

    @property
    def alignment(self) -> int:
        """The largest power of 2, up to 256, that divides the address in bytes; a memory itself begins at 256."""
        return gcd(256, self.offset * itemsize(self.dtype))


class Launch(NamedTuple):
    """A kernel with what it is called with: pointers, and then numbers, each a dtype and a value.

    In a stack of networks `blockIdx.y` is the member.
    """

    kernel: str
    grid: int
    block: int
    arguments: tuple[Argument, ...]
    numbers: tuple[tuple[str, Any], ...]
    members: int = 1

    def __str__(self) -> str:
        grid = f"{self.grid}" if self.members == 1 else f"({self.grid}, {self.members})"
        return f"{self.kernel}<<<{grid}, {self.block}>>>"


class Product(NamedTuple):
    """C = op(A) op(B) as BLAS has it: matrices by columns, C (m, n), the sum over k, and leading dimensions.

    In a stack of networks each member has this product; `strides` are the elements from its A, B, C to the next one's.
    """

    transpose_a: bool
    transpose_b: bool
    m: int
    n: int
    k: int
    a: Argument
    lda: int
    b: Argument
    ldb: int
    c: Argument
    ldc: int
    members: int = 1
    strides: tuple[int, int, int] = (0, 0, 0)

    @property
    def flops(self) -> int:
        """The multiplications and additions."""
        return 2 * self.m * self.n * self.k * self.members

    def __str__(self) -> str:
        form = f"gemm {'NT'[self.transpose_a]}{'NT'[self.transpose_b]} {self.m}x{self.n}x{self.k}"
        return form if self.members == 1 else f"{self.members} x {form}"


class SumOverRanks(NamedTuple):
    """The sum of the vectors of all ranks of a run: see `nnx.backends.cupy.ranks`."""

    vector: Argument
    total: Argument
    size: int
    communicator: Any

    def __str__(self) -> str:
        return f"all_reduce {self.size}"


Call: TypeAlias = Launch | Product | SumOverRanks


def arguments(call: Call) -> tuple[Argument, ...]:
    """Return the addresses that a call gets."""
    match call:
        case Launch():
            return call.arguments
        case SumOverRanks():
            return call.vector, call.total
    return call.a, call.b, call.c


class RenderedStep(NamedTuple):
    """All that a device needs for a step.

    Attributes
    ----------
    kernels : dict of str to str
        Each kernel in CUDA C, by its name.
    calls : tuple of Launch, Product or SumOverRanks
        In order. Call number i belongs to instruction number i of the schedule.
    after : tuple of frozenset of int
        For each call the earlier ones whose end it waits for.
    memory : dict of Memory to int
        The bytes of each memory. That of kind "scratch" is zero before the first step.
    constants : dict of Memory to array
        What is in memories of kind "constant".
    schedule : Schedule
        Its places tell where values lie; the new state is in the memory of the old one. In a stack: of the first
        member.
    members : int or None
        Those of a stack of networks.
    strides : dict of Memory to int
        In a stack the bytes from a member's part of a memory to that of the next; 0: it is that of all.
    """

    kernels: dict[str, str]
    calls: tuple[Call, ...]
    after: tuple[frozenset[int], ...]
    memory: dict[Memory, int]
    constants: dict[Memory, Any]
    schedule: Schedule
    members: int | None = None
    strides: Mapping[Memory, int] = MappingProxyType({})

    @property
    def source(self) -> str:
        """All kernels; prelude.cuh belongs before it."""
        return "\n".join(self.kernels.values())


SCRATCH = Memory("scratch", 0)
"""The memory of sums that blocks share, with their counters."""
