"""Training steps as one function for numba: the schedule's kernels as loops, its products through BLAS.

The function does any number of steps: it gathers the samples of each batch, and changes the state in its place. All
sizes and numbers stand in tables that it is called with. So one compiled function serves every network of one form and
batches of every size, and the hash of its text names it on disk.
"""

from typing import Any, NamedTuple

from nnx.backends.numba.arrays import LINE, Arrays
from nnx.backends.numba.expressions import expression, indented, iteration_space, number_dtype
from nnx.backends.numba.kernel import KernelSource
from nnx.backends.numba.threads import threads
from nnx.backends.numba.tile_update import Update
from nnx.compiler import Graph, Op, TraceError, Value, own_outputs
from nnx.compiler.ir.operations import FLOATS, itemsize
from nnx.compiler.pipeline import Target, schedule
from nnx.compiler.schedule import Barrier, Copy, Gather, Gemm, Instruction, Kernel, TileUpdate

OWNER_COMPUTES = 128
"""Samples up to which the threads divide a product with a W as they divide its update."""

TRANSPOSED = 256
"""Samples up to which A^T may be copied, if the derivative has as many rows; 64 rows are enough for 32 samples."""

BARRIER = "next_barrier = barrier(sync, T, next_barrier)"


def copies_transposed(product: Op) -> bool:
    """Whether dW = dZ A^T is to read a copy of A^T, row by row.

    BLAS reads that faster, which is worth the copy for many units; of more samples it would take much memory. Of one
    sample the loop over a row is vectorized only where its elements are known to be neighbours.
    """
    m, n = product.reads[1].shape[0], product.out.shape[0]
    return m == 1 or (m <= TRANSPOSED and n >= (64 if m <= 32 else TRANSPOSED))


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
    tile_updates=True,
    gathers=True,
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
    """

    text: str
    changed: tuple[str, ...]
    tables: dict[str, Any]
    estimated_seconds: float
    cost: str


class NumbaStepRenderer:
    """A traced step on its way to the source of a compiled function.

    Parameters
    ----------
    graph : Graph
        Of step(state, (X, Y)) or step(state, (X, Y, w)) -> (state, J), the state a dict of arrays.

    Raises
    ------
    TraceError
        When the function is no such step.
    """

    def __init__(self, graph: Graph) -> None:
        self._state, self._changed, self._batch = _checked(graph)
        new = {name: graph.result[0][name] for name in self._changed}
        graph = own_outputs(Graph(graph.inputs, graph.ops, graph.arguments, (new, graph.result[1])))
        new, self._J = graph.result
        self.schedule = schedule(graph, TARGET, {new[name]: old for name, old in self._changed.items()})
        X, *others = (x for x in self._batch if x is not None)
        gathered = {x: f"{letter}B" for x, letter in zip(others, "Yw", strict=False)}
        self._arrays = Arrays(self.schedule, X, gathered)
        self._kernels: dict[str, str] = {}  # text: name
        self._update: Update | None = None  # the optimizer's loop, where it goes over tiles
        self._step: list[str] = []  # lines of every step

    def source(self) -> Source:
        """Return the source of the function `step`, and what it is called with.

        Raises
        ------
        TraceError
            When an operation has no loop here.
        """
        before = self._begin()
        for instruction in self.schedule.instructions:
            self._render(instruction)
        self._end_step()
        after = self._end()
        parameters = self._parameters()
        tables = self._arrays.tables()
        parameters |= {name: _type(str(x.dtype), x.ndim) for name, x in tables.items()}
        step = [
            f"@njit(types.void({', '.join(parameters.values())}), **CALLED)",
            f"def step({', '.join(parameters)}):",
            "    announce_call(t, T, sync)",
            "    next_barrier, before = int64(1), flush_to_zero()",
            *indented([*before, *self._arrays.once, BARRIER]),
            "    for k in range(count):",
            "        start = (at + k * m) % end",
            *indented([*self._step, BARRIER], 2),
            *indented(after),
            "    set_float_mode(before)",
        ]
        kernels = [text.replace("KERNEL", name) for text, name in self._kernels.items()]
        text = "\n\n\n".join([*kernels, "\n".join(step) + "\n"])
        return Source(text, tuple(self._changed), tables, self.schedule.estimated_seconds, self._J.dtype)

    # The function's frame.

    def _parameters(self) -> dict[str, str]:
        """Return numba's types of the arguments that differ from call to call."""
        found = dict.fromkeys(("t", "T", "sync", "count", "at", "m"), "types.int64")
        found |= {"sync": _type("int64", 1), "order": _type("int64", 1, readonly=True)}
        found |= {"Js": _type(self._J.dtype, 1), "rows": _type(self._batch[0].dtype, 2, readonly=True)}
        for letter, x in zip("XYw", self._batch, strict=False):
            if x is not None:
                found[letter] = _type(x.dtype, x.ndim, "A", readonly=True)
        found |= {f"x{x.number}": _type(x.dtype, x.ndim) for x in self._state.values()}
        olds = (x for x in self._changed.values() if x.ndim)
        return found | {f"y{x.number}": _type(x.dtype, x.ndim, readonly=True) for x in olds}

    def _begin(self) -> list[str]:
        """Return the lines before the first step: numbers of the state, and copies of the arrays that change."""
        lines = ["end = order.size if order.size > 0 else Y.shape[Y.ndim - 1]"]
        lines += [f"s{x.number} = x{x.number}[()]" for x in self._state.values() if x.ndim == 0]
        for x in self._changed.values():
            if x.ndim and x not in self._copied_by_update():
                lines.append(f"copy_state(t, T, {self._flat('y', x)}, {self._flat('x', x)})")
        return lines

    def _end_step(self) -> None:
        """Write the end of a step: its cost, and the numbers of the state for the next one."""
        arrays = self._arrays
        self._step += ["if t == 0:", f"    Js[k] = {arrays.single(self._J)}"]
        numbers = [slot for slot in self.schedule.slots if slot.old.ndim == 0]
        if any(self.schedule.places[slot.new].memory.kind == "number" for slot in numbers):
            self._step.append(BARRIER)
        self._step += [f"s{slot.old.number} = {arrays.single(slot.new)}" for slot in numbers]

    def _end(self) -> list[str]:
        """Return the lines after the last step: the numbers of the state, and NaN behind the costs where it has one."""
        lines = []
        for x in self._changed.values():
            if x.ndim == 0:
                lines += ["if t == 0:", f"    x{x.number}[()] = s{x.number}"]
                lines += [f"    if s{x.number} * 0 != 0:", "        Js[count] = nan"]
            elif x.size:
                lines += [f"if not all_finite(t, T, {self._flat('x', x)}):", "    Js[count] = nan"]
        return lines

    def _flat(self, letter: str, value: Value) -> str:
        name = f"{letter}{value.number}"
        return name if value.ndim == 1 else f"as_vector({name}, {self._arrays.row(0, (value.size,))})"

    def _copied_by_update(self) -> set[Value]:
        """Return the arrays of the state that the optimizer's loop alone reads, and changes in place: Adam's m and v.

        In the first step it copies them itself, each tile when it needs it.
        """
        base, update = self.schedule.graph.base, None
        others: set[Value] = set()
        for one in self.schedule.instructions:
            match one:
                case TileUpdate():
                    update, read = one.update, one.product.reads
                case Kernel(ranges=(_, *_)):
                    read = ()
                case Kernel():
                    read = one.outside
                case Gemm(op):
                    read = op.reads
                case Copy(source):
                    read = (source,)
                case _:
                    read = ()
            others |= {base(x) for x in read}
        if update is None:
            return set()
        slots = (slot for slot in self.schedule.slots if slot.in_place and slot.new in update.written)
        return {slot.old for slot in slots if slot.old in update.outside} - others

    # Instructions.

    def _render(self, instruction: Instruction) -> None:
        match instruction:
            case Gather():
                self._gather()
            case Gemm():
                self._gemm(instruction)
            case Kernel(ranges=(_, *_)):
                self._update_ranges(instruction)
            case Kernel(ops=(op,), iteration_space=()):
                self._compute_number(op)
            case Kernel():
                self._kernel(instruction)
            case Copy(transposed=True):
                self._transpose(instruction)
            case Copy():
                self._copy(instruction)
            case TileUpdate():
                self._tile_update(instruction)
            case Barrier():
                self._step.append(BARRIER)
            case _:
                raise TraceError(f"{instruction} has no loop")

    def _gather(self) -> None:
        """Find the samples of a batch: a part of all samples, or in a given order copied to a place of their own."""
        X, *others = self._batch
        memory = self._arrays.memory("XB", X.shape[::-1], X.dtype)
        self._step += [
            "if order.size > 0:",
            f"    gather(t, T, rows, order, start, {memory})",
            f"    {BARRIER}",
            f"    x{X.number} = {memory}.T",
            "elif rows.size > 0:",
            f"    x{X.number} = rows[start : start + m].T",
            "else:",
            f"    x{X.number} = X[:, start : start + m]",
        ]
        for letter, x in zip("Yw", others, strict=False):
            if x is not None:  # every thread copies all of it, since it is little
                memory = self._arrays.memory(f"{letter}B", x.shape, x.dtype)
                self._step.append(f"gather{x.ndim}({letter}, order, start, {memory})")

    def _gemm(self, gemm: Gemm) -> None:
        op, arrays = gemm.op, self._arrays
        a, b = op.reads if len(op.reads) == 2 else op.reads * 2
        if op.out.ndim != 2 or op.out.dtype not in FLOATS or any(x.dtype != op.out.dtype for x in (a, b)):
            raise TraceError("a product that is no product of two matrices of floats")
        operands = ", ".join(map(arrays.operand, (a, b, op.out)))
        scalars = f"scalars_{op.out.dtype}"
        if not gemm.partial_sums:
            self._step.append(f"gemm_partition(t, T, {operands}, {scalars})")
            return
        transposed = any(view.name == "permute" for view in self.schedule.graph.views(a))
        size = (threads() - 1) * op.out.size if op.out.shape[1] <= OWNER_COMPUTES else 0
        sums = arrays.memory(f"E_{op.out.dtype}", (size,), op.out.dtype)
        self._step += [
            f"sums = gemm_owner_computes(t, T, {operands}, {sums}, {scalars}, int64({int(transposed)}))",
            "if sums > 1:",
            f"    {BARRIER}",
            f"    add_partial_sums(t, T, sums, {arrays.name(op.out)}, {sums}, {arrays.row(0, op.out.shape)})",
        ]

    def _compute_number(self, op: Op) -> None:
        """Compute a single number, in every thread."""
        args = []
        for arg in op.args:
            if (number := self.schedule.literal(arg)) is not None:
                dtype = arg.dtype if isinstance(arg, Value) else number_dtype(op)
                args.append(self._arrays.number(number, dtype))
            elif isinstance(arg, Value) and self._arrays.is_single(arg):
                args.append(self._arrays.single(arg))
            else:
                raise TraceError("an element of an array")
        self._step.append(f"s{op.out.number} = {expression(op, args)}")

    def _kernel(self, kernel: Kernel) -> None:
        """Call a function of its own, which kernels of the same form share."""
        source = KernelSource(kernel, self._arrays)
        parts = ", ".join(f"{letter}{self._arrays.rows}" for letter in "iIjJ")
        row = self._arrays.row(0, kernel.iteration_space)
        self._arrays.once.append(f"{parts} = by_{kernel.partition}(t, T, {row})")
        call = f"{self._function(source.text)}({', '.join([*source.parameters, parts])})"
        if kernel.partition == "one":
            results = "".join(f"{self._arrays.result(x)}, " for x in source.results)
            self._step += ["if t == 0:", f"    {results + '= ' if results else ''}{call}"]
        else:
            self._step.append(call)

    def _transpose(self, copy: Copy) -> None:
        shape = (copy.target.shape[0], row_length(copy.target)) if copy.worthwhile else (0, 0)
        memory = self._arrays.memory(f"B{copy.target.number}", shape, copy.target.dtype)
        view = self._transposed_view(copy.source)
        row = self._arrays.row(0, copy.target.shape)
        self._step.append(f"b{copy.target.number} = transpose(t, T, {view}, {memory}, {row})")

    def _transposed_view(self, value: Value) -> str:
        name = self._arrays.name(value)
        return name.removesuffix(".T") if name.endswith(".T") else f"{name}.T"

    def _copy(self, copy: Copy) -> None:
        source, target, arrays = copy.source, copy.target, self._arrays
        if target.ndim == 0:
            if not arrays.is_single(source):
                raise TraceError("an element of an array")
            self._step += ["if t == 0:", f"    {arrays.result(target)} = {arrays.single(source)}"]
        elif source.ndim == target.ndim == 1:
            part = arrays.part(target, copy.start, copy.stop)
            self._step.append(f"copy_state(t, T, {arrays.name(source)}, {part})")
        elif source.shape == target.shape:
            self._step += ["if t == 0:", f"    {arrays.name(target)}[...] = {arrays.name(source)}"]
        else:
            raise TraceError(f"{copy} has no loop")

    # The optimizer's loop over tiles.

    def _tile_update(self, tile: TileUpdate) -> None:
        update, arrays = self._update_of(tile), self._arrays
        (a, b), copy, dtype = tile.product.reads, tile.transposed, tile.product.out.dtype
        row = arrays.row(tile.start, tile.product.out.shape)
        if tile.product.name == "multiply":  # of one sample
            left, right = arrays.name(a), f"B{copy.number}" if copy else arrays.name(b)
        else:
            left, right = arrays.operand(a), f"b{copy.number}" if copy else arrays.operand(b)
        text, arguments = update.over_tiles(tile.product.name == "matmul")
        call = [row, "m", left, right, f"scalars_{dtype}", *arguments]
        self._step.append(f"{self._function(text)}(t, T, k == 0, {', '.join(call)})")

    def _update_ranges(self, kernel: Kernel) -> None:
        """Go over the parts of theta that no tile belongs to."""
        assert self._update is not None
        first = self._arrays.rows
        for start, stop in kernel.ranges:
            self._arrays.row(start, (stop - start,))
        text, arguments = self._update.over_ranges()
        call = ["D", str(first), str(self._arrays.rows), *arguments]
        self._step.append(f"{self._function(text)}(t, T, k == 0, {', '.join(call)})")

    def _update_of(self, tile: TileUpdate) -> Update:
        if self._update is None:
            source = KernelSource(tile.update, self._arrays)
            olds = {
                f"y{x.number}": f"x{x.number}"
                for x in self._changed.values()
                if x in self._copied_by_update()
            }
            gradient = self._arrays.name(tile.gradient)
            self._update = Update(source, self._function(source.text), gradient, olds)
        return self._update

    def _function(self, text: str) -> str:
        """Return the name of a function of this text."""
        return self._kernels.setdefault(text, f"k{len(self._kernels)}")


def _checked(graph: Graph) -> tuple[dict[str, Value], dict[str, Value], tuple[Any, ...]]:
    """Return a step's state, those of its arrays that change, and its batch."""
    try:
        (state, batch), (new, J) = graph.arguments, graph.result
        arrays = (*state.values(), *new.values(), *batch[:2], J)
        right = set(state) == set(new) and len(batch) in (2, 3) and all(isinstance(x, Value) for x in arrays)
        right = right and J.ndim == 0 and all(_alike(state[name], new[name]) for name in state)
        right = right and batch[0].ndim == 2 and all(x.shape[-1] == batch[0].shape[-1] for x in batch if x)
    except (TypeError, ValueError, AttributeError, IndexError) as error:
        raise TraceError("not a step") from error
    if not right:
        raise TraceError("not a step")
    return state, {name: x for name, x in state.items() if new[name] != x}, tuple(batch)


def _alike(x: Value, y: Value) -> bool:
    return (x.shape, x.dtype) == (y.shape, y.dtype)


def _type(dtype: str, ndim: int, layout: str = "C", readonly: bool = False) -> str:
    """Return the source of numba's type of an array."""
    dtype = "boolean" if dtype == "bool" else dtype
    return f"types.Array(types.{dtype}, {ndim}, {layout!r}{', readonly=True' if readonly else ''})"
