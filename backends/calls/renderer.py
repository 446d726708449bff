"""A schedule as a Python function that is a list of one library's calls, each with `out=`."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import array_api_compat.numpy
import numpy as np

from nnx.compiler import Graph, Op, TraceError, Value, nbytes
from nnx.compiler.ir.evaluate import evaluated
from nnx.compiler.pipeline import Target, schedule
from nnx.compiler.schedule import Copy, Gemm, Instruction, Kernel, Place, Reduce
from nnx.compiler.thresholds import NARROW_COLUMNS, NARROW_ROWS

Call: TypeAlias = Callable[[Sequence[Any], Sequence[Any]], None]
"""call(inputs, outs): from a graph's inputs into arrays for its outputs, both in the graph's order."""

Path: TypeAlias = list[tuple[str, Any]]
"""A view as expressions, one of the other: {0} stands for the array, {1} for the second of the pair."""


class CallRenderer(ABC):
    """A schedule on its way to a Python function; each library adds its arrays and its calls.

    Buffers, constants and their views are made once, and are globals of the function. Inputs, outputs and their views
    change from call to call, and are its local variables.

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
        self.globals: dict[str, Any] = {}
        self.lines: list[str] = []
        self._names: dict[Value, str] = {}
        self._buffers = [self.bytes(size) for size in self.schedule.buffers]
        self._constants = evaluated(graph, {}, array_api_compat.numpy)

    # The library's part.

    permuted: str
    broadcast: str
    """These views, as in `Path`."""

    @abstractmethod
    def bytes(self, size: int) -> Any:
        """Return new memory, which begins at a cache line: an array of uint8."""

    @abstractmethod
    def shaped(self, memory: Any, value: Value) -> Any:
        """Return the beginning of a memory as an array like this value."""

    @abstractmethod
    def array(self, x: Any) -> Any:
        """Return a NumPy array as one of the library's."""

    @abstractmethod
    def is_view(self, x: Any, of: Any) -> bool:
        """Whether an array lies in the memory of another."""

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
            small = value in self.schedule.places and self.schedule.places[value].shape != value.shape
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
            if value in self.schedule.places:
                self._names[value] = self._placed(value, self.schedule.places[value])
            else:
                op = self.graph.makers[value]
                self._names[value] = self._view(value, self.name(op.reads[0]), self.path(op))
        return self._names[value]

    def _placed(self, value: Value, place: Place) -> str:
        """Return the name of a value that is no view of another."""
        kind, number = place.memory
        if kind == "constant":
            return self._global(value, self.array(self._constants[value]))
        if kind == "input":
            return f"x{value.number}"
        places = self.schedule.places  # a value may also lie where a part will
        whole = next((part for x, part in self.schedule.parts.items() if places[x] == place), None)
        if whole is not None:
            key = (slice(None),) * whole.axis + (slice(whole.start, whole.stop),)
            return self._view(
                value, self.name(whole.whole), [("{0}[{1}]", key), ("{0}.reshape({1})", value.shape)]
            )
        if kind == "output":
            return f"o{number}"
        like = Value(value.number, place.shape, value.dtype)
        return self._global(value, self.shaped(self._buffers[number], like))

    def _global(self, value: Value, array: Any) -> str:
        name = f"v{value.number}"
        self.globals[name] = array
        return name

    def path(self, op: Op) -> Path:
        """Return how a view is taken."""
        ways = {
            "slice": ("{0}[{1}]", "key"), "reshape": ("{0}.reshape({1})", None),
            "permute": (self.permuted, "axes"), "broadcast": (self.broadcast, None),
        }  # fmt: skip
        way, option = ways[op.name]
        return [(way, op.option(option) if option else op.out.shape)]

    def _view(self, value: Value, source: str, path: Path) -> str:
        """Make a view: now where the array stays in its place, else in every call."""
        text = source
        for step, argument in path:
            text = step.format(text, self.constant(argument))
        if source not in self.globals:
            self.lines.append(f"v{value.number} = {text}")
            return f"v{value.number}"
        found = eval(text, self.globals)
        if not self.is_view(found, self.globals[source]):
            raise TraceError(f"{value} is not the view that it should be")
        return self._global(value, found)

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

    def transposed(self, op: Op, is_transpose: str, product: str, copy: str, line: str) -> list[str]:
        """Return the lines of a product: by the transpose where b is a transpose in memory, else `line`.

        In `product` and `copy` {0} stands for the memory of (a b)^T.
        """
        value = Value(op.out.number, op.out.shape[::-1], op.out.dtype)
        name = f"transposed_{value.number}"
        self.globals[name] = self.shaped(self.bytes(nbytes(value)), value)
        return [
            f"if {is_transpose}:", f"    {product.format(name)}", f"    {copy.format(name)}", "else:", f"    {line}"
        ]  # fmt: skip
