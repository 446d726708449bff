"""A schedule as a Python function that is a list of one library's calls, each with `out=`."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from types import CodeType
from typing import Any, TypeAlias

import array_api_compat.numpy
import numpy as np

from nnx.compiler import Graph, Op, TraceError, Value
from nnx.compiler.ir.evaluate import evaluated
from nnx.compiler.ir.graph import shown
from nnx.compiler.pipeline import Target, schedule
from nnx.compiler.schedule import AllReduce, Copy, Gemm, Instruction, Kernel, Place, Reduce

Call: TypeAlias = Callable[[Sequence[Any], Sequence[Any]], None]
"""call(inputs, outs): from a graph's inputs into arrays for its outputs, both in the graph's order."""

_IN_A_NAME = str.maketrans({"-": "m", ".": "_", "+": None})


class CallRenderer(ABC):
    """A schedule on its way to a Python function; each library adds its arrays and its table of calls.

    The value %7 is v7 in the function. Constants and what lies in buffers are made once, and are globals of the
    function, beside the names of the library. Inputs, outputs and their views change from call to call, and are its
    local variables. Inputs may have any strides; outputs are in row-major order.

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
        self._globals: dict[str, Any] = {"strided": self.strided}
        self._lines: list[str] = []
        self._arrays: dict[Place, Any] = {}  # values that share memory are one array
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

    @abstractmethod
    def on_host(self, name: str) -> str:
        """Return the expression for the memory of an array, by its name, as an array of NumPy's."""

    # What is the same for all.

    def function(self) -> Call:
        """Return the function. Its attributes: its text `source`, and the `bytes` of its buffers."""
        if self.graph.inputs:
            self._lines.append(f"{_names(self.graph.inputs)}, = inputs")
        self._lines.append(f"{_names(self.graph.outputs)}, = outs")
        self._make_arrays()
        for instruction in self.schedule.instructions:
            self._lines += self._rendered(instruction)
        source = "\n    ".join(["def call(inputs, outs):", *self._lines])
        made = {**vars(self._library), **self._globals}
        exec(_code(source), made)
        function: Call = made["call"]
        vars(function).update(source=source, bytes=sum(self.schedule.buffers))
        return function

    # The arrays.

    def _make_arrays(self) -> None:
        """Make the constants and what lies in buffers, and write the lines for views of inputs and outputs."""
        known, constants = {*self.graph.inputs, *self.graph.outputs}, self.graph.constants
        for op in self.graph.ops:
            for x in (*op.reads, op.out) if op.out not in constants else ():
                if x not in known:
                    self._make_array(x, f"v{x.number}")
                    known.add(x)

    def _make_array(self, value: Value, name: str) -> None:
        place = self.schedule.place(value)
        kind, number = place.memory
        if self.graph.base(value) in self.graph.inputs:
            self._lines.append(f"{name} = {self.view(self.graph.makers[value])}")
        elif kind in ("input", "output"):  # a part of a new array, of the state or not
            out = next(x for x in self.graph.outputs if self.schedule.place(x).memory == place.memory)
            self._globals[f"place_of_{name}"] = place
            self._lines.append(f"{name} = strided(v{out.number}, place_of_{name})")
        elif kind == "constant":
            self._globals[name] = self.array(np.asarray(self._constants[value]))
        else:
            if place not in self._arrays:
                self._arrays[place] = self.strided(self._buffers[number], place)
            self._globals[name] = self._arrays[place]

    def view(self, op: Op) -> str:
        """Return the expression of an input's view."""
        key: Any = op.option("axes") if op.name == "permute" else op.out.shape
        if op.name == "slice":
            key = ", ".join(map(shown, op.option("key"))) or ()
        return self.calls[op.name].format(f"v{op.reads[0].number}", key)

    def scalar(self, number: Any, dtype: str) -> str:
        """Return the name of a number as an array of no axes: c_float32_1em08 is 1e-08."""
        name = f"c_{dtype}_{number!r}".translate(_IN_A_NAME)
        if name not in self._globals:
            self._globals[name] = self.array(np.asarray(number, dtype))
        return name

    # The calls.

    def _rendered(self, instruction: Instruction) -> list[str]:
        """Return the lines of an instruction."""
        match instruction:
            case Kernel() if instruction.block:
                return self._block_by_block(instruction)
            case Kernel((op,)) | Gemm(op) | Reduce(op):
                return self._written(op)
            case Copy(source, target, axis, start):
                whole = source.shape == target.shape
                part = "" if whole else f"[{':, ' * axis}{start}:{instruction.stop}]"
                return [self.calls["copy"].format(f"v{source.number}", out=f"v{target.number}{part}")]
            case AllReduce(op):
                return self._summed_over_ranks(op)
        raise TraceError(f"{instruction} has no calls")

    def _summed_over_ranks(self, op: Op) -> list[str]:
        """Return the lines of a sum over all ranks, in place: the vector is copied first, unless it may be lost."""
        (vector,), sum_of, out = op.reads, f"sum_{op.out.number}", f"v{op.out.number}"
        self._globals[sum_of] = op.option("communicator").sum
        same = self.schedule.place(vector) == self.schedule.place(op.out)
        copy = [] if same else [self.calls["copy"].format(f"v{vector.number}", out=out)]
        return [*copy, f"{sum_of}({self.on_host(out)})"]

    def call(self, op: Op) -> str:
        """Return the lines of an operation, with the fields of `calls`."""
        if op.name in self.calls:
            return self.calls[op.name]
        if op.kind != "elementwise":
            raise TraceError(f"{op.name} has no call here")
        return f"{op.name}({''.join(f'{{{k}}}, ' for k, _ in enumerate(op.args))}out={{out}})"

    def _written(self, op: Op, letter: str = "v") -> list[str]:
        """Return the lines of an operation; the names of arrays that have axes begin with a letter."""
        text = self.call(op)
        names = {x: f"{letter if x.ndim else 'v'}{x.number}" for x in (*op.reads, op.out)}
        dtype = op.out.dtype if op.name == "where" else op.reads[0].dtype
        args = [names[x] if isinstance(x, Value) else self.scalar(x, dtype) for x in op.args]
        last = op.args[-1]
        fields: dict[str, Any] = {"n": f"{args[-1]}.item()" if isinstance(last, Value) else repr(last)}
        if op.kind == "reduction":
            axes = op.option("axes")
            if "{axis}" in text and len(axes) != 1:
                raise TraceError(f"{op.name} over {len(axes)} axes has no call here")
            fields = {"axes": axes, "axis": axes[0] if axes else None, "keepdims": op.option("keepdims")}
            fields["count"] = op.reads[0].size // max(op.out.size, 1)
        return text.format(*args, out=names[op.out], **fields).split("\n")

    def _block_by_block(self, kernel: Kernel) -> list[str]:
        """Return the lines that do all operations on a block of each vector, then on the next.

        What is internal stays in the cache. b7 is the block of v7.
        """
        (size,) = kernel.iteration_space
        lines = []
        for x in dict.fromkeys(x for op in kernel.ops for x in (*op.reads, op.out) if x.ndim):
            small = self.schedule.place(x).shape != x.shape
            lines.append(f"b{x.number} = v{x.number}{'[:high - low]' if small else '[low:high]'}")
        lines += [line for op in kernel.ops for line in self._written(op, "b")]
        ends = [(low, min(low + kernel.block, size)) for low in range(0, size, kernel.block)]
        self._globals[f"blocks_of_{size}"] = ends
        return [f"for low, high in blocks_of_{size}:", *(f"    {line}" for line in lines)]


def _names(values: Sequence[Value]) -> str:
    return ", ".join(f"v{x.number}" for x in values)


@lru_cache(maxsize=64)
def _code(source: str) -> CodeType:
    """Return compiled lines: fits of one network, as in a search, have the same."""
    return compile(source, "<nnx schedule>", "exec")
