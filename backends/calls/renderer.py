"""A schedule as a Python function that is a list of one library's calls, each with `out=`."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import array_api_compat.numpy
import numpy as np

from nnx.compiler import Graph, Op, TraceError, Value
from nnx.compiler.ir.evaluate import evaluated
from nnx.compiler.ir.views import contiguous
from nnx.compiler.pipeline import Target, schedule
from nnx.compiler.schedule import Copy, Gemm, Instruction, Kernel, Place, Reduce

Call: TypeAlias = Callable[[Sequence[Any], Sequence[Any]], None]
"""call(inputs, outs): from a graph's inputs into arrays for its outputs, both in the graph's order."""


class CallRenderer(ABC):
    """A schedule on its way to a Python function; each library adds its arrays and its table of calls.

    Buffers and constants are made once, and are globals of the function, beside the names of the library. Inputs,
    outputs and their views change from call to call, and are its local variables. Inputs may have any strides; outputs
    are in row-major order.

    Parameters
    ----------
    graph : Graph
        One operation makes each output: see `own_outputs`.
    slots : dict of Value to Value
        The old value of each output that is a new value of the state: one array may be handed in for both.
    target : Target
    library : module
    """

    calls: Mapping[str, str]
    """The lines of each operation. {0}, {1}, ... stand for its arguments, {out} for its result, {n} for a last argument
    that is a number; {axes}, {axis}, {keepdims} and {count} are those of a reduction. An elementwise function that is
    not here has the library's function of its name. Of views these are expressions, and {1} is the key, the axes or the
    shape."""

    def __init__(self, graph: Graph, slots: Mapping[Value, Value], target: Target, library: Any) -> None:
        self.schedule = schedule(graph, target, slots)
        self.graph, self._library = self.schedule.graph, library
        self.globals: dict[str, Any] = {"strided": self.strided}
        self.lines: list[str] = []
        self._names: dict[Value, str] = {value: f"x{value.number}" for value in self.graph.inputs}
        self._places: dict[Place, str] = {}  # values that share memory have one name
        self._buffers = [self.bytes(size) for size in self.schedule.buffers]
        self._constants = evaluated(graph, {}, array_api_compat.numpy)

    # The library's part.

    @abstractmethod
    def bytes(self, size: int) -> Any:
        """Return new memory: an array of uint8."""

    @abstractmethod
    def strided(self, memory: Any, place: Place) -> Any:
        """Return an array at a place in an array that lies in row-major order."""

    @abstractmethod
    def array(self, x: Any) -> Any:
        """Return a NumPy array as one of the library's."""

    # What is the same for all.

    def function(self) -> Call:
        """Return the function. Its attribute `source` is its text."""
        for instruction in self.schedule.instructions:
            self._add(instruction)
        inputs = "".join(f"x{value.number}, " for value in self.graph.inputs)
        outs = "".join(f"o{number}, " for number, _ in enumerate(self.graph.outputs))
        unpacked = [f"{inputs}= inputs"] * bool(inputs) + [f"{outs}= outs"]
        source = "\n    ".join(["def call(inputs, outs):", *unpacked, *self.lines])
        made = {**vars(self._library), **self.globals}
        exec(compile(source, "<nnx schedule>", "exec"), made)
        function: Call = made["call"]
        function.source = source  # type: ignore[attr-defined]
        return function

    def _add(self, instruction: Instruction) -> None:
        """Add the lines of an instruction."""
        match instruction:
            case Kernel() if instruction.block:
                self._block_by_block(instruction)
            case Kernel((op,)) | Gemm(op) | Reduce(op):
                self._write(op)
            case Copy():
                self._copy(instruction)
            case _:
                raise TraceError(f"{instruction} has no calls")

    def call(self, op: Op) -> str:
        """Return the lines of an operation, with the fields of `calls`."""
        if op.name in self.calls:
            return self.calls[op.name]
        if op.kind != "elementwise":
            raise TraceError(f"{op.name} has no call here")
        return f"{op.name}({''.join(f'{{{k}}}, ' for k, _ in enumerate(op.args))}out={{out}})"

    def _write(self, op: Op) -> None:
        out, text = self.name(op.out), self.call(op)
        dtype = op.out.dtype if op.name == "where" else op.reads[0].dtype
        args = [self.name(x) if isinstance(x, Value) else self.scalar(x, dtype) for x in op.args]
        last = op.args[-1]
        fields: dict[str, Any] = {"n": f"{args[-1]}.item()" if isinstance(last, Value) else repr(last)}
        if op.kind == "reduction":
            axes, count = op.option("axes"), op.reads[0].size // max(op.out.size, 1)
            if "{axis}" in text and len(axes) != 1:
                raise TraceError(f"{op.name} over {len(axes)} axes has no call here")
            fields = {"axes": axes, "axis": axes[0] if axes else None, "keepdims": op.option("keepdims")}
            fields["count"] = self.scalar(count, dtype)
        self.lines += text.format(*args, out=out, **fields).split("\n")

    def _copy(self, copy: Copy) -> None:
        source, target = self.name(copy.source), self.name(copy.target)
        if copy.source.shape != copy.target.shape:
            key = self.constant((slice(None),) * copy.axis + (slice(copy.start, copy.stop),))
            target = f"{target}[{key}]"
        self.lines.append(self.calls["copy"].format(source, out=target))

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
            self._write(op)
        ends = [(low, min(low + kernel.block, size)) for low in range(0, size, kernel.block)]
        outer += [f"for low, high in {self.constant(ends)}:", *(f"    {line}" for line in self.lines)]
        self.lines = outer
        self._names |= names

    # Names.

    def name(self, value: Value) -> str:
        """Return the name of the variable that is the value."""
        if value not in self._names:
            self._names[value] = self._new_name(value)
        return self._names[value]

    def _new_name(self, value: Value) -> str:
        place = self.schedule.place(value)
        if place.memory.kind == "constant":
            return self.constant(self.array(self._constants[value]))
        if place.memory.kind == "input":
            self.lines.append(f"v{value.number} = {self.view(self.graph.makers[value])}")
            return f"v{value.number}"
        if place not in self._places:
            self._places[place] = self._placed(place)
        return self._places[place]

    def _placed(self, place: Place) -> str:
        """Return the name of an array at a place in a buffer or an output."""
        kind, number = place.memory
        if kind == "buffer":
            return self.constant(self.strided(self._buffers[number], place))
        if (place.shape, place.strides) == (self.graph.outputs[number].shape, contiguous(place.shape)):
            return f"o{number}"
        name = self.constant(place)
        self.lines.append(f"{name}_o = strided(o{number}, {name})")
        return f"{name}_o"

    def view(self, op: Op) -> str:
        """Return the expression of an input's view."""
        key = op.options[0][1] if op.options else op.out.shape
        return self.calls[op.name].format(self.name(op.reads[0]), self.constant(key))

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

    def is_row_major(self, value: Value) -> bool:
        """Whether a value lies in one piece, row by row."""
        return bool(self.schedule.place(value).strides == contiguous(value.shape))
