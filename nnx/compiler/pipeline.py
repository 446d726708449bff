"""From a graph to a schedule: the passes, one after the other."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from math import prod

from nnx.compiler.ir import views
from nnx.compiler.ir.graph import Graph, Op, Value
from nnx.compiler.ir.operations import FLOATS, TraceError, itemsize
from nnx.compiler.passes.barriers import with_barriers
from nnx.compiler.passes.columns import by_columns
from nnx.compiler.passes.cost import estimated_seconds
from nnx.compiler.passes.fuse import Group, fused
from nnx.compiler.passes.layout import column_major
from nnx.compiler.passes.memory import (
    MayAlias,
    Part,
    buffers,
    elementwise_arguments,
    parts_of_concats,
    updated_in_place,
)
from nnx.compiler.passes.outputs import with_copies
from nnx.compiler.passes.tile_update import Tiled, tiled
from nnx.compiler.schedule import (
    AllReduce,
    Columns,
    Copies,
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
        Whether the renderer divides the instructions of a training step among threads: it needs barriers, gathers and
        tile updates, and numbers are in registers.
    copies_transposed : callable
        copies_transposed(product) tells whether a dW = dZ A^T is to read a copy of A^T, made after a product with A.
    row_length : callable
        The elements from one row to the next of a matrix that only products and kernels touch.
    columns : callable
        columns(op) tells whether an operation may be done column by column, so that loops that need each other's
        results by column become one `Columns`.
    numbers_after_sums : bool
        Whether numbers computed of sums, one for each, are in one `Columns` with these.
    samples_as_rows : bool
        Whether a sample is in one piece in memory: see `nnx.compiler.passes.layout`.
    beside : int
        Instructions may run beside others. Values of up to so many bytes are kept for those that read them meanwhile;
        the memory of larger ones is used again at once.
    copies_at_once : bool
        Whether what a concat copies is one instruction.
    scratch : callable
        scratch(kernel): the bytes of memory of its own that a kernel needs, for partial sums.
    """

    iteration_space: Callable[[Op], Hashable] = lambda op: None
    may_alias: MayAlias = elementwise_arguments
    block: int = 0
    threads: bool = False
    copies_transposed: Callable[[Op], bool] = lambda product: False
    row_length: Callable[[Value], int] = lambda value: value.shape[-1]
    columns: Callable[[Op], bool] = lambda op: False
    numbers_after_sums: bool = False
    samples_as_rows: bool = False
    beside: int = 0
    copies_at_once: bool = False
    scratch: Callable[[Kernel], int] = lambda kernel: 0


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
        space = target.iteration_space
        groups = by_columns(graph, fused(graph, space), target.columns, target.numbers_after_sums)
        found = tiled(graph, space) if target.threads else Tiled(groups)
        in_place = updated_in_place(graph, found.groups, slots, target.may_alias, not target.block)
        read_later = {x for x in slots if x not in in_place and not (target.threads and x.ndim == 0)}
        if not read_later:
            return _Builder(graph, target, slots, found).schedule(late)
        before, graph = graph, with_copies(graph, read_later.__contains__)
        copies = {op.reads[0]: op.out for op in graph.ops[len(before.ops) :]}
        slots = {copies.get(x, x): old for x, old in slots.items()}
        late |= {*copies.values()}


class _Builder:
    """The last steps: instructions, places, barriers."""

    def __init__(self, graph: Graph, target: Target, slots: Mapping[Value, Value], tiles: Tiled) -> None:
        self._graph, self._target, self._slots, self._tiled = graph, target, slots, tiles
        self._groups = tiles.groups
        self._internal = frozenset().union(*(group.internal for group in self._groups))
        parts = parts_of_concats(graph, self._groups)
        # Threads have their single numbers in registers: such a one is copied to its part of a concat.
        self._parts = {x: part for x, part in parts.items() if x.ndim or not target.threads}
        self._column_major = (
            column_major(graph, self._parts) if target.samples_as_rows else frozenset[Value]()
        )
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
        tiles, found = self._tiled, list[Instruction]()
        batch = tuple(x for x in leaves(self._graph.arguments[1:2]) if isinstance(x, Value))
        if self._target.threads:
            found.append(Gather(batch))
        copies = self._transposed_copies(batch)
        for group in self._groups:
            op = group.ops[0]
            if group is tiles.update:
                if tiles.rest:
                    found.append(self._kernel(group, tuple(tiles.rest)))
            elif op.out in tiles.parts:
                assert tiles.update is not None
                assert tiles.gradient is not None
                copy = copies.get(op.reads[1])
                transposed = copy.target if copy in found else None
                update = self._kernel(tiles.update)
                found.append(TileUpdate(op, update, *tiles.parts[op.out], tiles.gradient, transposed))
            elif group.phases:
                found.append(Columns(tuple(map(self._kernel, group.phases))))
            elif group.iteration_space is not None:
                found.append(self._kernel(group))
            else:
                found += self._single(op)
                if op.kind == "matmul":
                    found += [x for x in copies.values() if x.source in op.reads and x not in found]
        return tuple(found)

    def _kernel(self, group: Group, ranges: tuple[tuple[int, int], ...] = ()) -> Kernel:
        space, block = group.iteration_space, self._target.block * (len(group.ops) > 1)
        kernel = Kernel(group.ops, space, group.internal, block, ranges)  # type: ignore[arg-type]
        return replace(kernel, scratch=self._target.scratch(kernel))

    def _single(self, op: Op) -> list[Instruction]:
        """Return the instructions for an operation by itself."""
        match op.kind:
            case "matmul":  # with weights that are updated tile by tile: as the update is divided
                of_weights = self._graph.base(op.reads[0]) in self._slots.values()
                return [Gemm(op, bool(self._tiled.parts) and of_weights)]
            case "reduction":
                return [Reduce(op)]
            case "all_reduce":
                return [AllReduce(op)]
            case "copy":
                return [Copy(op.reads[0], op.out)]
            case "concat":
                axis = op.option("axis")
                others = [x for x in op.joined if not self._is_there(x[0], Part(op.out, axis, *x[1:]))]
                copies = [Copy(x, op.out, axis, start) for x, start, _ in others]
                return (
                    [Copies(tuple(copies))] if self._target.copies_at_once and len(copies) > 1 else [*copies]
                )
        return [Kernel((op,), op.out.shape)]

    def _is_there(self, value: Value, part: Part) -> bool:
        """Whether a part of a concat is written into its place, by itself or with the vector that it is a slice of."""
        whole = Part(part.whole, 0, 0, part.whole.size)
        return part in self._parts.values() or self._parts.get(self._graph.base(value)) == whole

    def _transposed_copies(self, batch: tuple[Value, ...]) -> dict[Value, Copy]:
        """Return for each view A^T that a derivative reads a copy of it row by row."""
        found: dict[Value, Copy] = {}
        for value in self._tiled.parts:
            product = self._graph.makers[value]
            view = product.reads[1]
            if [op.name for op in self._graph.views(view)] != ["permute"]:
                continue
            A = self._graph.base(view)
            if A == batch[0] or A in self._graph.makers:
                copy = Value(self._graph.next_number + len(found), view.shape, view.dtype)
                strides = (self._target.row_length(copy), 1)
                self._places[copy] = Place(Memory("copy", copy.number), 0, copy.shape, strides, copy.dtype)
                worthwhile = self._target.copies_transposed(product)
                found[view] = Copy(A, copy, transposed=True, worthwhile=worthwhile)
        return found

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

        sizes, buffer, overwrites = buffers(
            graph, self._groups, self._parts, size, self._target.may_alias, self._target.beside
        )
        where = {x: Memory("buffer", number) for x, number in buffer.items()}
        where |= {x: Memory("input", number) for number, x in enumerate(graph.inputs)}
        where |= {x: Memory("output", number) for number, x in enumerate(graph.outputs)}
        where |= {new: where[old] for new, old in self._slots.items()}
        for x in (x for x in values if threads and x.ndim == 0):
            by_all = x not in graph.makers or graph.makers[x].kind == "elementwise"
            where[x] = Memory("register" if by_all else "number", x.number)
        where |= {x: Memory("constant", x.number) for x in graph.constants}
        for x in values:
            if x in overwrites:  # the same place, not one like it: see `nnx.backends.numba.arrays`
                self._places[x] = self._places[overwrites[x]]
            elif x in where:
                shape = lengths(x) if x in self._internal else x.shape
                strides = (1, x.shape[0]) if x in self._column_major else views.contiguous(lengths(x))
                self._places[x] = Place(where[x], 0, shape, strides, x.dtype)
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
