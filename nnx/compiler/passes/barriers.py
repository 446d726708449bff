"""Where the threads of a step wait for each other."""

from collections.abc import Sequence
from typing import TypeAlias

from nnx.compiler.ir.graph import Value
from nnx.compiler.schedule import Barrier, Copy, Gemm, Instruction, Kernel, Memory, Reduce, Schedule

Span: TypeAlias = tuple[Memory, int, int]
"""Bytes of a memory: the first, and the one behind the last."""


def with_barriers(schedule: Schedule) -> tuple[Instruction, ...]:
    """Return the instructions with a barrier before each that touches bytes which another thread may still use.

    Threads divide each instruction in a way of its own. So an instruction may not read or write bytes that were written
    since the last barrier, nor write bytes that were read since then.
    """
    found: list[Instruction] = []
    read: list[Span] = []
    written: list[Span] = []
    for instruction in schedule.instructions:
        reads, writes = (_spans(schedule, values) for values in touched(instruction))
        if _overlap(reads + writes, written) or _overlap(writes, read):
            found.append(Barrier())
            read, written = [], []
        read += reads
        written += writes
        found.append(instruction)
    return tuple(found)


def touched(instruction: Instruction) -> tuple[Sequence[Value], Sequence[Value]]:
    """Return what an instruction reads and writes. Behind a gather the renderer lets the threads wait by itself."""
    match instruction:
        case Gemm(op) | Reduce(op):
            return op.reads, [op.out]
        case Copy(source, target):
            return [source], [target]
        case Kernel():
            return instruction.outside, instruction.written
    return [], []


def _spans(schedule: Schedule, values: Sequence[Value]) -> list[Span]:
    """Return the bytes of values; a new state is in the memory of the old one. Registers and constants have none."""
    places = schedule.places
    old = {places[slot.new].memory: places[slot.old].memory for slot in schedule.slots}
    found = [schedule.place(value) for value in values]
    return [
        (old.get(x.memory, x.memory), *x.span) for x in found if x.memory.kind not in ("register", "constant")
    ]


def _overlap(some: list[Span], others: list[Span]) -> bool:
    return any(
        memory == other and start < end and begin < stop
        for memory, start, stop in some
        for other, begin, end in others
    )
