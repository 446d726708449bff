"""From a graph to a schedule: the passes, one after the other."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from nnx.compiler.ir import views
from nnx.compiler.ir.graph import Graph, Op, Value
from nnx.compiler.ir.operations import FLOATS, TraceError, itemsize
from nnx.compiler.passes.barriers import with_barriers
from nnx.compiler.passes.cost import estimated_seconds
from nnx.compiler.passes.fuse import Group, fused
from nnx.compiler.passes.memory import (
    MayAlias,
    Part,
    buffers,
    elementwise_arguments,
    parts_of_concats,
    updated_in_place,
)
from nnx.compiler.passes.outputs import with_copies
from nnx.compiler.schedule import (
    Copy,
    Gather,
    Gemm,
    Instruction,
    Kernel,
    Memory,
    Place,
    Reduce,
    Schedule,
    Slot,
)
from nnx.support.tree import leaves


@dataclass(frozen=True)
class Target:
    """What differs between renderers.

    Attributes
    ----------
    iteration_space : callable
        What the operations of a kernel must have in common, usually a shape; None for one that stays by itself.
    may_alias : callable
        The arguments that an operation may be written over.
    block : int
        The elements of a vector that a kernel does at a time, each operation a call of its own; 0: kernels are loops
        over the elements, which read each once, and keep what is internal in registers.
    threads : bool
        Whether the renderer divides the instructions of a training step among threads: it needs barriers and gathers,
        and numbers are in registers.
    row_length : callable
        The elements from one row to the next of a matrix that only products and kernels touch.
    """

    iteration_space: Callable[[Op], Hashable] = lambda op: None
    may_alias: MayAlias = elementwise_arguments
    block: int = 0
    threads: bool = False
    row_length: Callable[[Value], int] = lambda value: value.shape[-1]


def schedule(graph: Graph, target: Target, slots: Mapping[Value, Value] | None = None) -> Schedule:
    """Return what a renderer does for a graph, of which one operation makes each output; see docs/compiler.md.

    `slots` is the state: the old value for each output that is its new value. Where the old one is read after the new
    one is there, the new one is copied at the end. A TraceError when they differ in shape or dtype.
    """
    slots = dict(slots or {})
    if any((new.shape, new.dtype) != (old.shape, old.dtype) for new, old in slots.items()):
        raise TraceError("a new array of the state has another shape or dtype than the old one")
    late: set[Value] = set()
    while True:
        groups = fused(graph, target.iteration_space)
        in_place = updated_in_place(graph, groups, slots, target.may_alias, not target.block)
        read_later = {x for x in slots if x not in in_place and not (target.threads and x.ndim == 0)}
        if not read_later:
            return _Builder(graph, target, slots, groups).schedule(late)
        before, graph = graph, with_copies(graph, read_later.__contains__)
        copies = {op.reads[0]: op.out for op in graph.ops[len(before.ops) :]}
        slots = {copies.get(x, x): old for x, old in slots.items()}
        late |= {*copies.values()}


class _Builder:
    """The last steps: instructions, places, barriers."""

    def __init__(
        self, graph: Graph, target: Target, slots: Mapping[Value, Value], groups: Sequence[Group]
    ) -> None:
        self._graph, self._target, self._slots, self._groups = graph, target, slots, groups
        self._internal = frozenset().union(*(group.internal for group in self._groups))
        self._parts = parts_of_concats(graph, self._groups)
        self._places: dict[Value, Place] = {}

    def schedule(self, late: set[Value]) -> Schedule:
        """Return the schedule; the new values `late` are copies."""
        sizes = self._place_all()
        instructions = self._instructions()
        slots = tuple(Slot(old, new, new not in late) for new, old in self._slots.items())
        seconds = estimated_seconds(self._graph)
        found = Schedule(self._graph, instructions, self._places, self._parts, sizes, slots, seconds)
        return replace(found, instructions=with_barriers(found)) if self._target.threads else found

    # What is done.

    def _instructions(self) -> tuple[Instruction, ...]:
        found = list[Instruction]()
        if self._target.threads:
            batch = leaves(self._graph.arguments[1:2])
            found.append(Gather(tuple(x for x in batch if isinstance(x, Value))))
        for group in self._groups:
            if group.iteration_space is None:
                found += self._single(group.ops[0])
            else:
                block = self._target.block * (len(group.ops) > 1)
                found.append(Kernel(group.ops, group.iteration_space, group.internal, block))  # type: ignore[arg-type]
        return tuple(found)

    def _single(self, op: Op) -> list[Instruction]:
        """Return the instructions for an operation by itself."""
        match op.kind:
            case "matmul":
                return [Gemm(op)]
            case "reduction":
                return [Reduce(op)]
            case "copy":
                return [Copy(op.reads[0], op.out)]
            case "concat":
                axis = op.option("axis")
                others = [x for x in op.joined if Part(op.out, axis, *x[1:]) not in self._parts.values()]
                return [Copy(x, op.out, axis, start) for x, start, _ in others]
        return [Kernel((op,), op.out.shape)]

    # Where values lie.

    def _place_all(self) -> tuple[int, ...]:
        """Give each value its place; return the bytes of the buffers."""
        graph, gapped = self._graph, self._matrices_with_gaps()
        threads, block = self._target.threads, self._target.block
        values = (*graph.inputs, *(op.out for op in graph.ops if op.kind != "view"))

        def lengths(x: Value) -> tuple[int, ...]:
            """Return the shape of a value's memory."""
            if x in self._internal and x.ndim:
                return (min(x.size, block),)
            return (x.shape[0], self._target.row_length(x)) if x in gapped else x.shape

        def size(x: Value) -> int:
            in_register = (threads and x.ndim == 0) or (x in self._internal and not block)
            return 0 if in_register else max(prod(lengths(x)), 1) * itemsize(x.dtype)

        sizes, buffer, overwrites = buffers(graph, self._groups, self._parts, size, self._target.may_alias)
        where = {x: Memory("buffer", number) for x, number in buffer.items()}
        where |= {x: Memory("input", number) for number, x in enumerate(graph.inputs)}
        where |= {x: Memory("output", number) for number, x in enumerate(graph.outputs)}
        for x in (x for x in values if threads and x.ndim == 0):
            by_all = x not in graph.makers or graph.makers[x].kind == "elementwise"
            where[x] = Memory("register" if by_all else "number", x.number)
        where |= {x: Memory("constant", x.number) for x in graph.constants}
        for x in values:
            if x in overwrites:  # the same place, not one like it: see `nnx.backends.numba.arrays`
                self._places[x] = self._places[overwrites[x]]
            elif x in where:
                shape = lengths(x) if x in self._internal else x.shape
                self._places[x] = Place(where[x], 0, shape, views.contiguous(lengths(x)), x.dtype)
        for x in reversed(self._parts):  # a concat in a concat comes behind its own parts
            if x not in self._places:
                self._put_part(x)
        return tuple(sizes)

    def _put_part(self, x: Value) -> None:
        """Give a part of a concat its place there."""
        part = self._parts[x]
        whole = self._places[part.whole]
        shape = (*whole.shape[: part.axis], part.stop - part.start, *whole.shape[part.axis + 1 :])
        strides = views.reshaped(shape, whole.strides, x.shape)
        assert strides is not None
        offset = whole.offset + part.start * whole.strides[part.axis]
        self._places[x] = Place(whole.memory, offset, x.shape, strides, x.dtype)

    def _matrices_with_gaps(self) -> set[Value]:
        """Return the matrices that only products and kernels touch: there may be gaps between their rows."""
        graph = self._graph
        alone = [group.ops[0] for group in self._groups if group.iteration_space is None]
        others = [op for op in alone if op.kind != "matmul"]
        others += [op for op in graph.ops if op.kind == "view" and op.name != "permute"]
        fixed = {*graph.outputs, *(graph.base(x) for op in others for x in (*op.reads, op.out))}
        matrices = {op.out for group in self._groups for op in group.ops if op.out.ndim == 2} - self._internal
        return {x for x in matrices - fixed if x.dtype in FLOATS}
