"""Which instructions wait for which: all others may be done at the same time."""

from nnx.compiler.passes.barriers import Region, Span, overlap, regions_of, spans
from nnx.compiler.schedule import Instruction, Schedule


def dependencies(schedule: Schedule) -> tuple[frozenset[int], ...]:
    """Return for each instruction the numbers of earlier ones that must be done before it begins.

    It reads or writes bytes that they write, or writes bytes that they read. Left out are those for which another one
    of them waits.
    """
    found: list[frozenset[int]] = []
    before: list[frozenset[int]] = []  # all that each waits for, also through others
    done: list[tuple[list[Span], list[Span]]] = []
    for instruction in schedule.instructions:
        reads, writes = (spans(schedule, regions) for regions in in_memory(schedule, instruction))
        needed: set[int] = set()
        through: set[int] = set()
        for k in reversed(range(len(done))):
            its_reads, its_writes = done[k]
            if k not in through and (overlap(reads + writes, its_writes) or overlap(writes, its_reads)):
                needed.add(k)
                through |= before[k] | {k}
        found.append(frozenset(needed))
        before.append(frozenset(through))
        done.append((reads, writes))
    return tuple(found)


def in_memory(schedule: Schedule, instruction: Instruction) -> tuple[list[Region], list[Region]]:
    """Return what an instruction reads and writes in memory: views of what stays in registers are not there."""
    reads, writes = regions_of(instruction)
    return [x for x in reads if schedule.graph.base(x.value) in schedule.places], writes
