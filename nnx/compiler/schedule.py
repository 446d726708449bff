"""The schedule: the one linear form of a graph that every renderer reads.

It holds the instructions in order and the place of each value. A renderer translates them, and decides neither.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from nnx.compiler.ir import views
from nnx.compiler.ir.graph import Graph, Op, Value
from nnx.compiler.ir.operations import TraceError, itemsize
from nnx.compiler.passes.memory import Part


class Memory(NamedTuple):
    """A piece of memory, by its kind and its number among those of the kind.

    "input", "output": the arrays handed in, in the order of `Graph.inputs` and `Graph.outputs`; but a new array of the
    state is in the memory of the old one. "buffer": temporary memory. The others have the value's number.
    "constant": the same in every call; "copy": the transposed copy of a factor; "register": a number that each thread
    computes for itself; "number": one that a thread computes for all.
    """

    kind: str
    number: int

    def __str__(self) -> str:
        return f"{self.kind} {self.number}"


class Place(NamedTuple):
    """Where a value lies. Offset and strides are in elements.

    Inputs and outputs lie in row-major order, but for those that are column-major for a target with samples as rows.
    """

    memory: Memory
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str

    @property
    def span(self) -> tuple[int, int]:
        """The first byte in the memory, and the one behind the last."""
        last = sum((n - 1) * stride for n, stride in zip(self.shape, self.strides, strict=True))
        size, empty = itemsize(self.dtype), 0 in self.shape
        return self.offset * size, self.offset * size if empty else (self.offset + last + 1) * size


class Slot(NamedTuple):
    """An array of the state: an input, and the output that may be written into the same array.

    Not in place: the new value is a copy, made at the end, since the old one is still read when the new one is there.
    """

    old: Value
    new: Value
    in_place: bool


@dataclass(frozen=True)
class Gemm:
    """A matrix product, op.out = op.args[-2] @ op.args[-1].

    With `partial_sums` the threads divide it as they divide the update of its weights, and add their sums.
    """

    op: Op
    partial_sums: bool = False

    def __str__(self) -> str:
        return f"gemm       {_of(self.op)}{', partial sums' * self.partial_sums}"


@dataclass(frozen=True)
class Kernel:
    """Elementwise operations, and reductions of what they make, in one loop over the elements."""

    ops: tuple[Op, ...]
    iteration_space: tuple[int, ...]  # the shape that the loop goes over
    internal: frozenset[Value] = frozenset()  # what no other instruction reads
    block: int = 0  # the elements of a vector that a library does at a time; 0: all
    ranges: tuple[tuple[int, int], ...] = ()  # the parts of a vector that the loop goes over; empty: all
    scratch: int = 0  # bytes of memory of its own, for partial sums

    @property
    def partition(self) -> str:
        """How threads can divide it: by "elements", whole "rows", whole "columns", or not, "one"."""
        axes = {op.option("axes") for op in self.ops if op.kind == "reduction"}
        if not axes:
            return "elements"
        ways = {((0,),): "columns", ((1,),): "rows"} if len(self.iteration_space) == 2 else {}
        return ways.get(tuple(axes), "one")

    @property
    def outside(self) -> tuple[Value, ...]:
        """The values that it reads, but for those that it makes."""
        made = {op.out for op in self.ops}
        return tuple(dict.fromkeys(x for op in self.ops for x in op.reads if x not in made))

    @property
    def written(self) -> tuple[Value, ...]:
        """The values that it makes for others."""
        return tuple(op.out for op in self.ops if op.out not in self.internal)

    def __str__(self) -> str:
        where = f" {list(map(list, self.ranges))}" if self.ranges else ""
        each = f", {self.block} at a time" if self.block else ""
        ops = [f"{_of(op)}{' (internal)' * (op.out in self.internal)}" for op in self.ops]
        text = f" {ops[0]}" if len(ops) == 1 else "".join(f"\n{' ' * 19}{op}" for op in ops)
        return f"kernel     {list(self.iteration_space)}{where}{each}:{text}"


@dataclass(frozen=True)
class Columns:
    """Kernels over the same columns, of which each column goes through all before the next one does.

    Of what the others make each reads the same column only. Its results may be views of theirs: (m,) of (1, m). Or the
    first has sums, and the others compute numbers of the results, one for each.
    """

    kernels: tuple[Kernel, ...]

    @property
    def ops(self) -> tuple[Op, ...]:
        """All their operations."""
        return tuple(op for kernel in self.kernels for op in kernel.ops)

    @property
    def internal(self) -> frozenset[Value]:
        """What no other instruction reads."""
        return frozenset().union(*(kernel.internal for kernel in self.kernels))

    @property
    def written(self) -> tuple[Value, ...]:
        """The values that they make for others."""
        return tuple(x for kernel in self.kernels for x in kernel.written)

    def __str__(self) -> str:
        kernels = [
            f"{'columns' if n == 0 else '':10} {str(k).partition(' ')[2].strip()}"
            for n, k in enumerate(self.kernels)
        ]
        return f"\n{' ' * 6}".join(kernels)


@dataclass(frozen=True)
class Reduce:
    """A reduction by itself."""

    op: Op

    def __str__(self) -> str:
        return f"reduce     {_of(self.op)}"


@dataclass(frozen=True)
class AllReduce:
    """The sum of a vector over all ranks of a run: see `nnx.array.all_reduce`."""

    op: Op

    def __str__(self) -> str:
        return f"all_reduce {self.op.out} = {self.op.reads[0]}"


@dataclass(frozen=True)
class Copy:
    """Elements copied into another value, or into a part of it: along an axis of the target, from an index on.

    With `transposed` the target is the source's transpose, row by row. Not `worthwhile`: the source is too large or too
    small for a copy; the instruction is there nevertheless, so that networks of all sizes have the same source.
    """

    source: Value
    target: Value
    axis: int = 0
    start: int = 0
    transposed: bool = False
    worthwhile: bool = True

    @property
    def stop(self) -> int:
        """The index behind the part."""
        return self.start + (self.source.shape[self.axis] if self.source.ndim else 1)

    def __str__(self) -> str:
        if self.transposed:
            return f"copy       {self.target} = {self.source}, transposed"
        part = "" if self.source.shape == self.target.shape else f"[{self.start}:{self.stop}]"
        axis = f" along axis {self.axis}" if part and self.axis else ""
        return f"copy       {self.target}{part} = {self.source}{axis}"


@dataclass(frozen=True)
class Copies:
    """Several copies at once, into parts of one value."""

    copies: tuple[Copy, ...]

    def __str__(self) -> str:
        rest = [str(copy).partition(" ")[2].strip() for copy in self.copies[1:]]
        return f"\n{' ' * 17}".join([str(self.copies[0]), *rest])


@dataclass(frozen=True)
class Gather:
    """The samples of a mini-batch gathered from all samples."""

    values: tuple[Value, ...]

    def __str__(self) -> str:
        return f"gather     {', '.join(map(str, self.values))}"


@dataclass(frozen=True)
class TileUpdate:
    """A derivative dW = dZ A^T made tile by tile, each with the optimizer's kernel over its part of theta."""

    product: Op  # which makes dW
    update: Kernel
    start: int  # of the part of theta
    stop: int
    gradient: Value  # dtheta, of which dW is a part
    transposed: Value | None = None  # a copy of A^T, row by row, to be read instead of it

    def __str__(self) -> str:
        copied = f", reads {self.transposed}" if self.transposed else ""
        return f"tile       {_of(self.product)}, then update of [{self.start}:{self.stop}]{copied}"


@dataclass(frozen=True)
class Barrier:
    """All threads wait for each other."""

    def __str__(self) -> str:
        return "barrier"


Instruction: TypeAlias = (
    Gemm | Kernel | Columns | Reduce | AllReduce | Copy | Copies | Gather | TileUpdate | Barrier
)


@dataclass(frozen=True)
class Schedule:
    """The instructions in order, and the place of each value that is no view and lies in memory.

    A value that is internal to a kernel lies in registers, unless the kernel is done block by block.
    """

    graph: Graph
    instructions: tuple[Instruction, ...]
    places: dict[Value, Place]
    parts: dict[Value, Part]  # of a concat
    buffers: tuple[int, ...]  # the bytes of each
    slots: tuple[Slot, ...]  # the state
    estimated_seconds: float  # of one thread, roughly
    _views: dict[Value, Place] = field(default_factory=dict, repr=False, compare=False)

    def place(self, value: Value) -> Place:
        """Return where a value lies, through views, too; a TraceError where memory is in no order for such a view."""
        if value in self.places:
            return self.places[value]
        if value not in self._views:
            op = self.graph.makers[value]
            place = self.place(op.reads[0])
            found = views.viewed(op, place.shape, place.strides)
            if found is None:
                raise TraceError(f"{op} is no view of an array with strides {place.strides}")
            offset, strides = place.offset + found[0], found[1]
            self._views[value] = Place(place.memory, offset, value.shape, strides, value.dtype)
        return self._views[value]

    def literal(self, arg: Any) -> bool | int | float | None:
        """Return the Python number that an argument is, or a constant of no axes; None: it is an array."""
        if not isinstance(arg, Value):
            return arg  # type: ignore[no-any-return]
        op = self.graph.makers.get(arg)
        return op.option("value") if op is not None and op.name == "full" and arg.ndim == 0 else None

    def __str__(self) -> str:
        lines = [f"{x!s:>5}: {x.dtype}{list(x.shape)} in {self.places[x].memory}" for x in self.graph.inputs]
        lines += [str(op) for op in self.graph.ops if op.kind == "view"]
        lines += [f"{number:>4}. {instruction}" for number, instruction in enumerate(self.instructions, 1)]
        for x, place in self.places.items():
            if x not in self.graph.inputs and place.memory.kind not in ("constant", "register"):
                lines.append(f"{x!s:>5} in {place.memory}{f' from {place.offset}' if place.offset else ''}")
        for slot in self.slots:
            lines.append(f"{slot.new} replaces {slot.old}, {'in place' if slot.in_place else 'by a copy'}")
        memory = f"{sum(self.buffers)} bytes in {len(self.buffers)} buffers"
        return "\n".join([*lines, f"{memory}; about {self.estimated_seconds * 1e6:.2g} us on one core"])


def _of(op: Op) -> str:
    """Return an operation without its dtype and shape."""
    return f"{op.out} = {str(op).partition(' = ')[2]}"
