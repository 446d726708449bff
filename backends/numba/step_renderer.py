"""Training steps as one function for numba: the schedule's kernels as loops, its products through BLAS.

The function does any number of steps: it gathers the samples of each batch, and changes the state in its place. All
sizes and numbers stand in tables that it is called with. So one compiled function serves every network of one form and
batches of every size, and the hash of its text names it on disk.
"""

from typing import Any, NamedTuple

from nnx.backends.numba.arrays import LINE, Arrays
from nnx.backends.numba.expressions import indented, iteration_space
from nnx.backends.numba.instructions import BARRIER, Instructions
from nnx.backends.numba.ranks import RankSum
from nnx.compiler import Graph, Op, TraceError, Value, step_graph, thresholds
from nnx.compiler.ir.operations import itemsize
from nnx.compiler.pipeline import Target, schedule


def copies_transposed(product: Op) -> bool:
    """Whether dW = dZ A^T is to read a copy of A^T, row by row.

    BLAS reads that faster, which is worth the copy for many units; of more samples it would take much memory. Of one
    sample the loop over a row is vectorized only where its elements are known to be neighbours.
    """
    m, n = product.reads[1].shape[0], product.out.shape[0]
    few = m <= thresholds.TRANSPOSED_COPY_FEW
    units = thresholds.TRANSPOSED_COPY_UNITS if few else thresholds.TRANSPOSED_COPY_MORE_UNITS
    return m == 1 or (m <= thresholds.TRANSPOSED_COPY_SAMPLES and n >= units)


def row_length(value: Value) -> int:
    """Return how many elements a row takes: whole cache lines, unless it is short.

    And one line more, where all rows would begin at a few places of the cache, which hold only some of them.
    """
    columns, each = value.shape[1], LINE // itemsize(value.dtype)
    lines = -(-columns // each)
    return columns if lines < 4 else each * (lines if lines % 32 else lines + 1)


TARGET = Target(
    iteration_space=iteration_space,
    threads=True,
    copies_transposed=copies_transposed,
    row_length=row_length,
)


class Source(NamedTuple):
    """The function `step`, and what it is called with.

    Attributes
    ----------
    text : str
    changed : tuple of str
        The names of the state's arrays that change.
    tables : dict of str to array
        What is the same in every call.
    estimated_seconds : float
        Of a step on one core.
    cost : str
        The dtype of J.
    sums : list of RankSum
        What it calls back: see `nnx.backends.numba.ranks`.
    """

    text: str
    changed: tuple[str, ...]
    tables: dict[str, Any]
    estimated_seconds: float
    cost: str
    sums: list[RankSum]


class NumbaStepRenderer:
    """A traced step(state, (X, Y[, w])) -> (state, J) on its way to the source of a compiled function.

    Raises
    ------
    TraceError
        When the function is no such step.
    """

    def __init__(self, graph: Graph) -> None:
        self._state, self._batch = _checked(graph)
        graph, slots = step_graph(graph)
        new, self._J = graph.result
        self._changed = {name: self._state[name] for name in new}
        self.schedule = schedule(graph, TARGET, slots)
        self._arrays = Arrays(self.schedule, [x for x in self._batch if x is not None])
        self._instructions = Instructions(self._arrays, self._batch)

    def source(self) -> Source:
        """Return the source of the function `step`, and what it is called with; a TraceError if there is none."""
        before = self._before()
        for instruction in self.schedule.instructions:
            self._instructions.render(instruction)
        end_of_step = self._end_of_step()
        tables = self._arrays.tables()
        parameters = self._parameters() | {name: _type(str(x.dtype), x.ndim) for name, x in tables.items()}
        step = [
            f"@njit(types.void({', '.join(parameters.values())}), **CALLED)",
            f"def step({', '.join(parameters)}):",
            "    next_barrier, float_mode = int64(1), change_float_mode(-1, FLUSH_TO_ZERO)",
            "    end = order.size if order.size > 0 else Y.shape[Y.ndim - 1]",
            *indented([*before, *self._arrays.once, BARRIER]),
            "    for k in range(count):",
            "        start = (at + k * m) % end",
            *indented([*self._instructions.lines, *end_of_step, BARRIER], 2),
            *(f"    x{x.number}[()] = s{x.number}" for x in self._changed.values() if x.ndim == 0),
            "    change_float_mode(0, float_mode)",
        ]
        kernels = [text.replace("KERNEL", name) for text, name in self._instructions.kernels.items()]
        text = "\n\n\n".join([*kernels, "\n".join(step) + "\n"])
        return Source(
            text,
            tuple(self._changed),
            tables,
            self.schedule.estimated_seconds,
            self._J.dtype,
            self._arrays.sums,
        )

    def _parameters(self) -> dict[str, str]:
        """Return numba's types of the arguments that differ from call to call."""
        found = dict.fromkeys(("t", "T", "sync", "count", "at", "m"), "types.int64")
        found |= {"sync": _type("int64", 1), "order": _type("int64", 1, readonly=True)}
        found |= {"Js": _type(self._J.dtype, 1), "rows": _type(self._batch[0].dtype, 2, readonly=True)}
        for letter, x in zip("XYw", self._batch, strict=False):
            if x is not None:
                found[letter] = _type(x.dtype, x.ndim, "A", readonly=True)
        found |= {f"x{x.number}": _type(x.dtype, x.ndim) for x in self._state.values()}
        return found | {f"y{x.number}": _type(x.dtype, x.ndim, readonly=True) for x in self._changed.values()}

    def _before(self) -> list[str]:
        """Return the lines before the first step: numbers of the state, and copies of the arrays that change."""
        changed, flat = self._changed.values(), self._arrays.flat
        old = {x: f"y{x.number}" if x in changed else f"x{x.number}" for x in self._state.values()}
        numbers = [f"s{x.number} = {name}[()]" for x, name in old.items() if x.ndim == 0]
        arrays = [(flat(old[x], x), flat(f"x{x.number}", x)) for x in changed if x.ndim]
        return numbers + [f"copy_state(t, T, {y}, {x})" for y, x in arrays]

    def _end_of_step(self) -> list[str]:
        """Return the lines at the end of a step: its cost, and the numbers of the state for the next one."""
        lines = ["if t == 0:", f"    Js[k] = {self._arrays.single(self._J)}"]
        numbers = [slot for slot in self.schedule.slots if slot.old.ndim == 0]
        if any(self.schedule.places[slot.new].memory.kind == "number" for slot in numbers):
            lines.append(BARRIER)
        return [*lines, *(f"s{slot.old.number} = {self._arrays.single(slot.new)}" for slot in numbers)]


def _checked(graph: Graph) -> tuple[dict[str, Value], tuple[Any, ...]]:
    """Return a step's state and its batch."""
    try:
        (state, batch), (_, J) = graph.arguments, graph.result
        right = len(batch) in (2, 3) and J.ndim == 0 and batch[0].ndim == 2
        right = right and all(x.shape[-1] == batch[0].shape[-1] for x in batch if x is not None)
    except (TypeError, ValueError, AttributeError, IndexError, KeyError) as error:
        raise TraceError("not a step") from error
    if not right:
        raise TraceError("not a step")
    return state, tuple(batch)


def _type(dtype: str, ndim: int, layout: str = "C", readonly: bool = False) -> str:
    """Return the source of numba's type of an array."""
    dtype = "boolean" if dtype == "bool" else dtype
    return f"types.Array(types.{dtype}, {ndim}, {layout!r}{', readonly=True' if readonly else ''})"
