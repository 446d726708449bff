"""Where a compiled step finds its values: variables of its text, and the tables that it is called with.

The text holds no size and no number, so that one compiled function serves all networks of one form.
"""

from typing import Any

import array_api_compat.numpy as xp
import numpy as np

from nnx.backends.numba.blas import copy_limit
from nnx.backends.numba.ranks import RankSum
from nnx.backends.numpy.calls import aligned
from nnx.compiler import Op, TraceError, Value
from nnx.compiler.ir.evaluate import evaluated
from nnx.compiler.ir.graph import nbytes
from nnx.compiler.ir.operations import itemsize
from nnx.compiler.schedule import Memory, Place, Schedule

LINE = 64
"""The bytes of a cache line."""


class Arrays:
    """The variables and tables of one step, whose batch is X, which lies elsewhere in each step, Y and perhaps w.

    Attributes
    ----------
    once : list of str
        Lines before the first step, which set variables.
    """

    def __init__(self, schedule: Schedule, batch: list[Value]) -> None:
        self.schedule, self._graph = schedule, schedule.graph
        self._X, self._gathered = batch[0], dict(zip(batch[1:], ("YB", "wB"), strict=False))
        self.once: list[str] = []
        self._offsets = np.cumsum([0, *(-(-size // LINE) * LINE for size in schedule.buffers)]).tolist()
        # Values that share memory have one Place, and so one variable: LLVM then knows that they are the same array.
        self._variables: dict[int, str] = {}
        self._rows: list[tuple[int, int, int, int]] = []
        self._numbers: dict[str, list[Any]] = {}
        self._results: dict[Value, int] = {}
        self._buffers: set[str] = set()  # dtypes
        self._constants: dict[str, Value] = {}
        self._memory: dict[str, tuple[tuple[int, ...], str]] = {}
        self.sums: list[RankSum] = []

    # Numbers.

    def row(self, start: int, shape: tuple[int, ...]) -> str:
        """Return a row of the table D: an array's first element, the one behind its last, its rows and its columns."""
        if len(shape) not in (1, 2):
            raise TraceError(f"an array of {len(shape)} axes")
        n, m = shape if len(shape) == 2 else (1, *shape)
        self._rows.append((start, start + n * m, n, m))
        return f"D[{len(self._rows) - 1}]"

    @property
    def rows(self) -> int:
        """The rows of D so far."""
        return len(self._rows)

    def number(self, number: Any, dtype: str) -> str:
        """Return a Python number, as an element of the table of its dtype."""
        table = self._numbers.setdefault(dtype, [])
        table.append(number)
        return f"C_{dtype}[{len(table) - 1}]"

    def scalar(self, arg: Any, op: Op) -> str | None:
        """Return an operation's argument where it is a number, literal or computed by the step; None: an array."""
        number = self.schedule.literal(arg)
        if number is None:
            return self.single(arg) if self.is_single(arg) else self.element(arg)
        of = arg if isinstance(arg, Value) else op.out if op.name == "where" else op.reads[0]
        return self.number(number, of.dtype)

    def is_single(self, value: Value) -> bool:
        """Whether a value is a single number that the step computes, or a view of one."""
        base = self._graph.base(value)
        flat = all(view.name in ("reshape", "broadcast") for view in self._graph.views(value))
        return base.ndim == 0 and flat and self.schedule.places[base].memory.kind != "constant"

    def single(self, value: Value) -> str:
        """Return a single number: a variable, or what one thread has left in the table S for all."""
        base = self._graph.base(value)
        if self.schedule.places[base].memory.kind == "register":
            return f"s{base.number}"
        return f"{'bool_' if base.dtype == 'bool' else base.dtype}({self.result(base)})"

    def element(self, value: Value) -> str | None:
        """Return the element of a vector that a value is; None for another value."""
        base = self._graph.base(value)
        if value.ndim or base.ndim != 1:
            return None
        at = self.schedule.place(value).offset - self.schedule.place(base).offset
        return f"{self.name(base)}[{self.row(at, (1,))}[0]]"

    def sum_of(self, op: Op) -> str:
        """Return the element of the table R for the function that sums a vector over all ranks."""
        self.sums.append(RankSum(op.option("communicator"), op.out.dtype))
        return f"R[{len(self.sums) - 1}]"

    def result(self, value: Value) -> str:
        """Return the element of S for a number that one thread computes for all."""
        return f"S[{self._results.setdefault(value, len(self._results))}]"

    # Arrays.

    def name(self, value: Value) -> str:
        """Return the variable that is an array."""
        if self._graph.base(value) == self._X:
            return f"x{self._X.number}{''.join(map(_as_index, self._graph.views(value)))}"
        place = self.schedule.place(value)
        if id(place) not in self._variables:
            self._variables[id(place)] = self._variable(value, place)
        return self._variables[id(place)]

    def operand(self, value: Value) -> str:
        """Return a matrix as products take it."""
        return f"operand({self.name(value)}, {self.row(0, value.shape)})"

    def part(self, value: Value, start: int, stop: int) -> str:
        """Return some elements of a vector."""
        return f"part({self.name(value)}, {self.row(start, (stop - start,))})"

    def flat(self, name: str, value: Value) -> str:
        """Return an array of the shape of a value as a vector."""
        return name if value.ndim == 1 else f"as_vector({name}, {self.row(0, (value.size,))})"

    def memory(self, name: str, shape: tuple[int, ...], dtype: str) -> str:
        """Return memory of this shape, or of the longest that was asked for under this name."""
        before = self._memory.get(name, (shape, dtype))[0]
        self._memory[name] = max(before, shape), dtype
        return name

    def _variable(self, value: Value, place: Place) -> str:
        """Return a new variable, or the parameter that the array is as a whole."""
        memory = place.memory
        if memory.kind == "buffer":
            self._buffers.add(value.dtype)
            item, vector = itemsize(value.dtype), f"A_{value.dtype}"
            size, ahead = self._offsets[-1] // item, self._offsets[memory.number] // item
        else:
            whole, name = self._parameter(memory)
            if (place.offset, place.shape) == (0, whole.shape) and value == self._graph.base(value):
                return name
            vector, size, ahead = self.flat(name, whole), whole.size, 0
        text = self._view(vector, place._replace(offset=place.offset + ahead), size)
        self.once.append(f"v{value.number} = {text}")
        return f"v{value.number}"

    def _parameter(self, memory: Memory) -> tuple[Value, str]:
        """Return the array that the step is called with for a memory, and its name."""
        if memory.kind == "input":
            value = self._graph.inputs[memory.number]
            return value, self._gathered.get(value, f"x{value.number}")
        value = next(op.out for op in self._graph.ops if op.out.number == memory.number)
        self._constants[f"f{value.number}"] = value
        return value, f"f{value.number}"

    def _view(self, vector: str, place: Place, size: int) -> str:
        """Return a part of a vector of this size, as the array that lies there."""
        shape, strides, start = place.shape, place.strides, place.offset
        if len(shape) > 2:
            raise TraceError(f"an array of {len(shape)} axes")
        n, m = (1, 1, *shape)[-2:]
        down, right = (0, 0, *strides)[-2:]
        width = down if n > 1 else m
        if (right == 1 or m == 1) and width >= m and start + n * width <= size:
            if len(shape) == 1:
                return f"part({vector}, {self.row(start, shape)})"
            return f"matrix({vector}, {self.row(start, (n, width))})"
        if right != 1 and m != 1 and (down == 1 or n == 1) and right >= n and start + m * right <= size:
            return f"matrix({vector}, {self.row(start, (m, right))}).T"
        raise TraceError(f"an array with strides {strides} has no loop")

    # Tables.

    def tables(self) -> dict[str, Any]:
        """Return what is the same in every call, by the step's parameters: sizes, numbers, constants and memory."""
        buffers = aligned(self._offsets[-1] + LINE)
        constants = evaluated(self._graph, {}, xp)
        tables = {
            "D": np.asarray(self._rows, np.int64).reshape(-1, 4),
            "S": np.zeros(max(len(self._results), 1)),
        }
        if self.sums:
            tables["R"] = np.asarray([one.address for one in self.sums], np.int64)
        tables |= {f"C_{dtype}": np.asarray(numbers, dtype) for dtype, numbers in self._numbers.items()}
        tables |= {
            f"scalars_{dtype}": np.asarray([1, 0, copy_limit()], dtype) for dtype in ("float32", "float64")
        }
        tables |= {
            f"A_{dtype}": buffers[: len(buffers) // 8 * 8].view(dtype) for dtype in sorted(self._buffers)
        }
        tables |= {name: np.ascontiguousarray(constants[value]) for name, value in self._constants.items()}
        for name, (shape, dtype) in self._memory.items():
            tables[name] = aligned(nbytes(Value(-1, shape, dtype))).view(dtype).reshape(shape)
        return tables


def _as_index(view: Op) -> str:
    """Return a view of the samples as text: their transpose, or some of their rows, which are features."""
    if view.name == "permute":
        return ".T"
    if view.name == "slice" and view.reads[0].ndim == view.out.ndim == 2:
        down, right = view.option("key")
        return f"[{down.start} : {down.stop} : {down.step}, {right.start} : {right.stop} : {right.step}]"
    raise TraceError(f"a view of the samples that is neither their transpose nor rows of them: {view}")
