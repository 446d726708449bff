"""From a graph to a schedule: the passes, one after the other."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import TypeAlias

from nnx.compiler.ir import views
from nnx.compiler.ir.graph import Graph, Op, Value
from nnx.compiler.ir.operations import FLOATS, TraceError, itemsize
from nnx.compiler.passes.alias import Aliases, MayAlias, aliased, elementwise_arguments
from nnx.compiler.passes.barriers import with_barriers
from nnx.compiler.passes.cost import estimated_seconds
from nnx.compiler.passes.fuse import Group, fused
from nnx.compiler.passes.memory import buffers
from nnx.compiler.passes.tile_update import Tiled, tiled
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
    TileUpdate,
)
from nnx.support.tree import leaves, mapped

Slots: TypeAlias = Mapping[Value, Value]
"""The old value of the state for each output that is its new value."""


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
        Whether the renderer divides instructions among threads: it needs barriers, and numbers are in registers.
    tile_updates : bool
        Whether it has tile updates.
    gathers : bool
        Whether it gathers the samples of a mini-batch itself.
    copies_transposed : callable
        copies_transposed(product) tells whether a dW = dZ A^T is to read a copy of A^T, made after a product with A.
    row_length : callable
        The elements from one row to the next of a matrix that only products and kernels touch.
    """

    iteration_space: Callable[[Op], Hashable] = lambda op: None
    may_alias: MayAlias = elementwise_arguments
    block: int = 0
    threads: bool = False
    tile_updates: bool = False
    gathers: bool = False
    copies_transposed: Callable[[Op], bool] | None = None
    row_length: Callable[[Value], int] = lambda value: value.shape[-1]


def schedule(graph: Graph, target: Target, slots: Slots | None = None) -> Schedule:
    """Return what a renderer does for a graph.

    Parameters
    ----------
    graph : Graph
        One operation makes each output: see `nnx.compiler.passes.outputs`.
    target : Target
    slots : dict of Value to Value, or None
        The state. Where an old value is read after the new one is there, the new one is copied at the end.

    Raises
    ------
    TraceError
        When an old and a new array of the state differ in shape or dtype.

    Examples
    --------
    >>> import numpy as np
    >>> from nnx.compiler import trace
    >>> def step(w, X):
    ...     return w - 0.5 * (w @ X)
    >>> graph = trace(step, np.zeros((3, 3)), np.zeros((3, 3)))
    >>> loops = Target(lambda op: op.out.shape if op.kind == "elementwise" else None)
    >>> print(schedule(graph, loops, {graph.outputs[0]: graph.inputs[0]}))
       %0: float64[3, 3] in input 0
       %1: float64[3, 3] in input 1
       1. gemm       %2 = %0 @ %1
       2. kernel     [3, 3]:
                       %3 = 0.5 * %2 (internal)
                       %4 = %0 - %3
       %3 in buffer 0
       %4 in output 0
       %2 in buffer 0
    %4 replaces %0, in place
    72 bytes in 1 buffers; about 0.015 us on one core
    """
    slots = dict(slots or {})
    if any((new.shape, new.dtype) != (old.shape, old.dtype) for new, old in slots.items()):
        raise TraceError("a new array of the state has another shape or dtype than the old one")
    late: set[Value] = set()
    while True:
        found = tiled(graph, target.iteration_space) if target.tile_updates else None
        found = found or Tiled(fused(graph, target.iteration_space))
        aliases = aliased(graph, found.groups, slots, target.may_alias, not target.block)
        registers = {new for new in slots if target.threads and new.ndim == 0}
        read_later = [new for new in slots if new not in aliases.in_place and new not in registers]
        if not read_later:
            break
        graph, slots, copies = _with_copies(graph, slots, read_later)
        late |= copies
    return _Builder(graph, target, slots, found, aliases, late).schedule()


def _with_copies(graph: Graph, slots: Slots, late: list[Value]) -> tuple[Graph, Slots, set[Value]]:
    """Return the graph with copies of some outputs at its end, which are outputs in their place."""
    number = 1 + max(x.number for x in (*graph.inputs, *graph.makers))
    copies = {x: Value(number + k, x.shape, x.dtype) for k, x in enumerate(late)}
    ops = (*graph.ops, *(Op("copy", (x,), copy) for x, copy in copies.items()))
    result = mapped(graph.result, lambda leaf: copies.get(leaf, leaf) if isinstance(leaf, Value) else leaf)
    new = Graph(graph.inputs, ops, graph.arguments, result)
    return new, {copies.get(x, x): old for x, old in slots.items()}, {*copies.values()}


class _Builder:
    """The last steps: instructions, places, barriers."""

    def __init__(
        self, graph: Graph, target: Target, slots: Slots, groups: Tiled, aliases: Aliases, late: set[Value]
    ) -> None:
        self._graph, self._target, self._slots = graph, target, slots
        self._tiled, self._aliases, self._late = groups, aliases, late
        self._internal = frozenset().union(*(group.internal for group in groups.groups))
        self._constants = graph.constants()
        self._places: dict[Value, Place] = {}
        self._next = 1 + max((x.number for x in (*graph.inputs, *graph.makers)), default=-1)

    def schedule(self) -> Schedule:
        """Return the schedule."""
        instructions = self._instructions()
        sizes = self._place_all()
        slots = tuple(Slot(old, new, new not in self._late) for new, old in self._slots.items())
        seconds = estimated_seconds(self._graph)
        found = Schedule(self._graph, instructions, self._places, self._aliases.parts, sizes, slots, seconds)
        return replace(found, instructions=with_barriers(found)) if self._target.threads else found

    # What is done.

    def _instructions(self) -> tuple[Instruction, ...]:
        found: list[Instruction] = []
        batch = tuple(x for x in leaves(self._graph.arguments[1:2]) if isinstance(x, Value))
        if self._target.gathers:
            found.append(Gather(batch))
        copies = self._transposed_copies(batch)
        made: dict[Value, Value] = {}
        for group in self._tiled.groups:
            op = group.ops[0]
            if group is self._tiled.update:
                if self._tiled.rest:
                    found.append(self._kernel(group, tuple(self._tiled.rest)))
            elif op.out in self._tiled.parts:
                found.append(self._tile(op, made))
            elif group.iteration_space is not None:
                found.append(self._kernel(group))
            else:
                found += self._single(op)
                for x in op.reads if op.kind == "matmul" else ():
                    if x in copies:
                        view, copy = copies.pop(x)
                        made[view] = copy.target
                        found.append(copy)
        return tuple(found)

    def _kernel(self, group: Group, ranges: tuple[tuple[int, int], ...] = ()) -> Kernel:
        space, block = group.iteration_space, self._target.block * (len(group.ops) > 1)
        return Kernel(group.ops, space, group.internal, block, ranges)  # type: ignore[arg-type]

    def _tile(self, op: Op, transposed: Mapping[Value, Value]) -> TileUpdate:
        tiled = self._tiled
        assert tiled.update is not None
        assert tiled.gradient is not None
        start, stop = tiled.parts[op.out]
        copy = transposed.get(op.reads[1])
        return TileUpdate(op, self._kernel(tiled.update), start, stop, tiled.gradient, copy)

    def _single(self, op: Op) -> list[Instruction]:
        """Return the instructions for an operation by itself."""
        if op.kind == "matmul":
            return [Gemm(op, self._has_partial_sums(op))]
        if op.kind == "reduction":
            return [Reduce(op)]
        if op.name == "copy":
            return [Copy(op.reads[0], op.out)]
        if op.name != "concat":
            return [Kernel((op,), op.out.shape)]
        found: list[Instruction] = []
        axis, at = op.option("axis"), 0
        for x in op.reads:
            start, at = at, at + x.shape[axis]
            part = self._aliases.parts.get(self._graph.base(x))
            if part is None or (part.whole, part.start) != (op.out, start):
                found.append(Copy(x, op.out, axis, start))
        return found

    def _has_partial_sums(self, op: Op) -> bool:
        """Whether an operation is a product with weights whose update is done tile by tile."""
        weights = self._graph.base(op.reads[0])
        return bool(self._tiled.parts) and weights in self._slots.values()

    def _transposed_copies(self, batch: tuple[Value, ...]) -> dict[Value, tuple[Value, Copy]]:
        """Return for each A the view A^T that a derivative reads, and a copy of it row by row."""
        found: dict[Value, tuple[Value, Copy]] = {}
        if self._target.copies_transposed is None:
            return found
        for value in self._tiled.parts:
            product = self._graph.makers[value]
            view = product.reads[1]
            if [op.name for op in self._graph.views(view)] != ["permute"]:
                continue
            A = self._graph.makers[view].reads[0]
            if A == batch[0] or A in self._graph.makers:
                copy = self._new(view.shape, view.dtype)
                strides = (self._target.row_length(copy), 1)
                self._places[copy] = Place(Memory("copy", copy.number), 0, copy.shape, strides, copy.dtype)
                worthwhile = self._target.copies_transposed(product)
                found[A] = view, Copy(A, copy, transposed=True, worthwhile=worthwhile)
        return found

    def _new(self, shape: tuple[int, ...], dtype: str) -> Value:
        self._next += 1
        return Value(self._next - 1, shape, dtype)

    # Where values lie.

    def _place_all(self) -> tuple[int, ...]:
        """Give each value its place; return the bytes of the buffers."""
        rows = self._row_lengths()

        groups, aliases = self._tiled.groups, self._aliases
        whole = {
            aliases.owner(op.out) for group in groups for op in group.ops if op.out not in group.internal
        }

        def shape(value: Value) -> tuple[int, ...]:
            if value not in whole:  # the memory of a block is enough
                return (min(value.size, self._target.block),)
            return (value.shape[0], rows[value]) if value in rows else value.shape

        def size(value: Value) -> int:
            return prod(shape(value)) * itemsize(value.dtype)

        sizes, buffer = buffers(self._graph, groups, aliases, size)
        outputs = {value: number for number, value in enumerate(self._graph.outputs)}
        for number, value in enumerate(self._graph.inputs):
            register = self._target.threads and value.ndim == 0
            self._put(value, Memory("register", value.number) if register else Memory("input", number))
        for op in (op for op in self._graph.ops if op.kind != "view"):
            value, owner = op.out, self._aliases.owner(op.out)
            if value in self._constants:
                self._put(value, Memory("constant", value.number))
            elif self._target.threads and value.ndim == 0:
                self._put(value, Memory("register" if op.kind == "elementwise" else "number", value.number))
            elif owner in outputs:
                self._put(owner, Memory("output", outputs[owner]))
            elif owner in buffer:
                strides = views.contiguous(shape(owner))
                of = owner.shape if owner in whole else shape(owner)
                self._places[owner] = Place(Memory("buffer", buffer[owner]), 0, of, strides, owner.dtype)
        for group in self._tiled.groups:
            for op in group.ops:
                self._follow(op.out)
        return tuple(sizes)

    def _put(self, value: Value, memory: Memory) -> None:
        self._places[value] = Place(memory, 0, value.shape, views.contiguous(value.shape), value.dtype)

    def _follow(self, value: Value) -> Place | None:
        """Give a value that shares another one's memory its place there, if that is in memory at all."""
        if value not in self._places:
            if value in self._aliases.shared:
                place = self._follow(self._aliases.shared[value])
            elif value in self._aliases.parts:
                place = self._part(value, self._follow(self._aliases.parts[value].whole))
            else:
                place = None
            if place is None:
                return None
            self._places[value] = place
        return self._places[value]

    def _part(self, value: Value, whole: Place | None) -> Place | None:
        if whole is None:
            return None
        part = self._aliases.parts[value]
        shape = (*whole.shape[: part.axis], part.stop - part.start, *whole.shape[part.axis + 1 :])
        strides = views.reshaped(shape, whole.strides, value.shape)
        assert strides is not None
        offset = whole.offset + part.start * whole.strides[part.axis]
        return Place(whole.memory, offset, value.shape, strides, value.dtype)

    def _row_lengths(self) -> dict[Value, int]:
        """Return the matrices with gaps between their rows, and how long a row is with its gap.

        Only products and kernels touch them.
        """
        owner, base = self._aliases.owner, self._graph.base
        fixed = {owner(x) for x in (*self._graph.outputs, *self._constants, *self._graph.inputs)}
        fixed |= {owner(x) for x in self._aliases.parts}
        alone = [
            g.ops[0] for g in self._tiled.groups if g.iteration_space is None and g.ops[0].name != "matmul"
        ]
        others = [op for op in self._graph.ops if op.kind == "view" and op.name != "permute"]
        fixed |= {owner(base(x)) for op in (*alone, *others) for x in (*op.reads, op.out)}
        found = {}
        for value in {owner(op.out) for group in self._tiled.groups for op in group.ops} - fixed:
            if value.ndim == 2 and value.dtype in FLOATS and value not in self._internal:
                length = self._target.row_length(value)
                if length > value.shape[1]:
                    found[value] = length
        return found
