"""Where the threads of a step wait for each other."""

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from nnx.compiler.ir.graph import Value
from nnx.compiler.ir.operations import itemsize
from nnx.compiler.schedule import (
    AllReduce,
    Barrier,
    Columns,
    Copies,
    Copy,
    Gemm,
    Instruction,
    Kernel,
    Memory,
    Reduce,
    Schedule,
    TileUpdate,
)

PARTIAL_SUMS = Memory("partial sums", 0)
"""The memory of the products whose threads add partial sums: one for all, since products follow each other."""

Span: TypeAlias = tuple[Memory, int, int]
"""Bytes of a memory: the first, and the one behind the last."""


class Region(NamedTuple):
    """A value, or the elements of a vector from `start` to `stop`."""

    value: Value
    start: int = 0
    stop: int | None = None


def with_barriers(schedule: Schedule) -> tuple[Instruction, ...]:
    """Return the instructions with a barrier before each that touches bytes which another thread may still use.

    Threads divide each instruction in a way of its own. So an instruction may not read or write bytes that were written
    since the last barrier, nor write bytes that were read since then.
    """
    found: list[Instruction] = []
    read: list[Span] = []
    written: list[Span] = []
    for instruction in schedule.instructions:
        reads, writes = (spans(schedule, regions) for regions in regions_of(instruction))
        if isinstance(instruction, Gemm) and instruction.partial_sums:
            writes.append((PARTIAL_SUMS, 0, 1))
        if overlap(reads + writes, written) or overlap(writes, read):
            found.append(Barrier())
            read, written = [], []
        read += reads
        written += writes
        found.append(instruction)
    return tuple(found)


def regions_of(instruction: Instruction) -> tuple[list[Region], list[Region]]:
    """Return what an instruction reads and writes. Behind a gather the renderer lets the threads wait by itself."""
    match instruction:
        case Gemm(op) | Reduce(op) | AllReduce(op):
            return [*map(Region, op.reads)], [Region(op.out)]
        case Copy(source, target, _, start):
            part = target.ndim == 1 and source.size < target.size
            return [Region(source)], [Region(target, start, instruction.stop) if part else Region(target)]
        case Copies(copies):
            return [Region(copy.source) for copy in copies], [Region(copies[0].target)]
        case Columns():
            made = {op.out for op in instruction.ops}
            outside = [x for kernel in instruction.kernels for x in kernel.outside if x not in made]
            return [*map(Region, outside)], [*map(Region, instruction.written)]
        case Kernel():
            ranges = instruction.ranges or ((0, None),)
            return _parts(instruction.outside, ranges), _parts(instruction.written, ranges)
        case TileUpdate(product, update, start, stop, gradient, transposed):
            others = _parts((x for x in update.outside if x != gradient), [(start, stop)])
            factors = [*product.reads, *([transposed] if transposed else [])]
            written = _parts(update.written, [(start, stop)])
            return [*map(Region, factors), *others], [Region(product.out), *written]
    return [], []


def _parts(values: Iterable[Value], ranges: Iterable[tuple[int, int | None]]) -> list[Region]:
    return [Region(x, *part) if x.ndim else Region(x) for x in values for part in ranges]


def spans(schedule: Schedule, regions: Iterable[Region]) -> list[Span]:
    """Return the bytes of regions. Registers and constants have none."""
    found = []
    for value, start, stop in regions:
        place = schedule.place(value)
        first, last = place.span
        if stop is not None:
            ahead, size = place.strides[0] * itemsize(value.dtype), itemsize(value.dtype)
            first, last = first + start * ahead, first + (stop - 1) * ahead + size
        if place.memory.kind not in ("register", "constant"):
            found.append((place.memory, first, last))
    return found


def overlap(some: list[Span], others: list[Span]) -> bool:
    """Whether any bytes of some spans are among those of others."""
    return any(
        memory == other and start < end and begin < stop
        for memory, start, stop in some
        for other, begin, end in others
    )
