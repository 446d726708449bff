"""A schedule as a Python function that is a list of one library's calls, each with `out=`."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import array_api_compat.numpy
import numpy as np

from nnx.compiler import Graph, Op, TraceError, Value, nbytes
from nnx.compiler.ir.evaluate import evaluated
from nnx.compiler.ir.views import contiguous
from nnx.compiler.pipeline import Target, schedule
from nnx.compiler.schedule import Copy, Gemm, Instruction, Kernel, Memory, Place, Reduce
from nnx.compiler.thresholds import NARROW_COLUMNS, NARROW_ROWS

Call: TypeAlias = Callable[[Sequence[Any], Sequence[Any]], None]
"""call(inputs, outs): from a graph's inputs into arrays for its outputs, both in the graph's order."""


class CallRenderer(ABC):
    """A schedule on its way to a Python function; each library adds its arrays and its calls.

    Buffers and constants are made once, and are globals of the function. Inputs, outputs and their views change from
    call to call, and are its local variables. Inputs may have any strides; outputs are in row-major order.

    Parameters
    ----------
    graph : Graph
        One operation makes each output: see `own_outputs`.
    slots : dict of Value to Value
        The old value of each output that is a new value of the state: one array may be handed in for both.
    target : Target
    """

    def __init__(self, graph: Graph, slots: Mapping[Value, Value], target: Target) -> None:
        self.schedule = schedule(graph, target, slots)
        self.graph = self.schedule.graph
        self.globals: dict[str, Any] = {"strided": self.strided}
        self.lines: list[str] = []
        self._names: dict[Value, str] = {value: f"x{value.number}" for value in self.graph.inputs}
        self._buffers = [self.bytes(size) for size in self.schedule.buffers]
        self._constants = evaluated(graph, {}, array_api_compat.numpy)

    # The library's part.

    permuted: str
    broadcast: str
    """Expressions for these views: {0} stands for the array, {1} for the axes or the shape."""

    @abstractmethod
    def bytes(self, size: int) -> Any:
        """Return new memory, which begins at a cache line: an array of uint8."""

    @abstractmethod
    def strided(self, memory: Any, place: Place) -> Any:
        """Return an array at a place in an array that lies in row-major order."""

    @abstractmethod
    def array(self, x: Any) -> Any:
        """Return a NumPy array as one of the library's."""

    @abstractmethod
    def write(self, op: Op) -> None:
        """Add the lines that do an operation."""

    @abstractmethod
    def copy(self, source: str, target: str) -> str:
        """Return the line that copies one array into another."""

    # What is the same for all.

    def function(self) -> Call:
        """Return the function. Its attribute `source` is its text."""
        for instruction in self.schedule.instructions:
            self._add(instruction)
        inputs = "".join(f"x{value.number}, " for value in self.graph.inputs)
        outs = "".join(f"o{number}, " for number, _ in enumerate(self.graph.outputs))
        unpacked = [f"{inputs}= inputs"] * bool(inputs) + [f"{outs}= outs"]
        source = "\n    ".join(["def call(inputs, outs):", *unpacked, *self.lines])
        exec(compile(source, "<nnx schedule>", "exec"), self.globals)
        function: Call = self.globals["call"]
        function.source = source  # type: ignore[attr-defined]
        return function

    def _add(self, instruction: Instruction) -> None:
        """Add the lines of an instruction."""
        match instruction:
            case Kernel() if instruction.block:
                self._block_by_block(instruction)
            case Kernel((op,)) | Gemm(op) | Reduce(op):
                self.write(op)
            case Copy():
                self._copy(instruction)
            case _:
                raise TraceError(f"{instruction} has no calls")

    def _copy(self, copy: Copy) -> None:
        source, target = self.name(copy.source), self.name(copy.target)
        if copy.source.shape != copy.target.shape:
            key = self.constant((slice(None),) * copy.axis + (slice(copy.start, copy.stop),))
            target = f"{target}[{key}]"
        self.lines.append(self.copy(source, target))

    def _block_by_block(self, kernel: Kernel) -> None:
        """Do all operations on a block of each vector, then on the next: what is internal stays in the cache."""
        (size,) = kernel.iteration_space
        vectors = dict.fromkeys(x for op in kernel.ops for x in (*op.reads, op.out) if x.ndim)
        outer, names = self.lines, {value: self.name(value) for value in vectors}
        self.lines = []
        for value, name in names.items():
            small = self.schedule.place(value).shape != value.shape
            self.lines.append(f"b{value.number} = {name}{'[:high - low]' if small else '[low:high]'}")
            self._names[value] = f"b{value.number}"
        for op in kernel.ops:
            self.write(op)
        outer += [
            f"for low in range(0, {size}, {kernel.block}):",
            f"    high = min(low + {kernel.block}, {size})",
            *(f"    {line}" for line in self.lines),
        ]
        self.lines = outer
        self._names |= names

    # Names of values.

    def name(self, value: Value) -> str:
        """Return the name of the variable that is the value."""
        if value not in self._names:
            self._names[value] = self._new_name(value)
        return self._names[value]

    def _new_name(self, value: Value) -> str:
        place = self.schedule.place(value)
        if place.memory.kind == "constant":
            return self.constant(self.array(self._constants[value]))
        if place.memory.kind != "input":
            return self.placed(place)
        op = self.graph.makers[value]
        self.lines.append(f"v{value.number} = {self.view(op, self.name(op.reads[0]))}")
        return f"v{value.number}"

    def placed(self, place: Place) -> str:
        """Return the name of an array at a place in a buffer or an output."""
        kind, number = place.memory
        if kind == "buffer":
            return self.constant(self.strided(self._buffers[number], place))
        if (place.shape, place.strides) == (self.graph.outputs[number].shape, contiguous(place.shape)):
            return f"o{number}"
        name = self.constant(place)
        self.lines.append(f"{name}_o = strided(o{number}, {name})")
        return f"{name}_o"

    def view(self, op: Op, x: str) -> str:
        """Return the expression of an input's view."""
        ways = {
            "slice": ("{0}[{1}]", "key"), "reshape": ("{0}.reshape({1})", None),
            "permute": (self.permuted, "axes"), "broadcast": (self.broadcast, None),
        }  # fmt: skip
        way, option = ways[op.name]
        return way.format(x, self.constant(op.option(option) if option else op.out.shape))

    def constant(self, x: Any) -> str:
        """Return the name of a Python object."""
        name = f"k{len(self.globals)}"
        self.globals[name] = x
        return name

    def scalar(self, number: Any, dtype: str) -> str:
        """Return the name of a number as an array of no axes."""
        x = np.asarray(number, dtype)
        name = f"c_{dtype}_{x.tobytes().hex()}"
        if name not in self.globals:
            self.globals[name] = self.array(x)
        return name

    # Products of few rows.

    def is_narrow(self, op: Op) -> bool:
        """Whether a product is of few rows by many samples as they are handed in: it is faster as (b^T a^T)^T.

        The libraries would copy all of the samples, which are rows in memory, into another order.
        """
        rows, columns = op.out.shape[-2:]
        flat = all(x.ndim == 2 for x in (*op.reads, op.out))
        return (
            flat and op.reads[-1] in self.graph.inputs and rows <= NARROW_ROWS and columns >= NARROW_COLUMNS
        )

    def by_transpose(self, op: Op, is_transpose: str, product: str, copy: str, line: str) -> list[str]:
        """Return the lines of a product: by the transpose where b is a transpose in memory, else `line`.

        In `product` and `copy` {0} stands for the memory of (a b)^T.
        """
        shape = op.out.shape[::-1]
        place = Place(Memory("copy", op.out.number), 0, shape, contiguous(shape), op.out.dtype)
        name = self.constant(self.strided(self.bytes(nbytes(op.out)), place))
        return [
            f"if {is_transpose}:", f"    {product.format(name)}", f"    {copy.format(name)}", "else:", f"    {line}"
        ]  # fmt: skip
