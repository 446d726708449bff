"""Training steps as one function for numba: chains of elementwise operations as loops, products through BLAS.

The function goes over any number of mini-batches, picks out their samples, and changes the state in its place. Its
source holds no size and no number: all of them stand in tables that it is called with. So one compiled function serves
every network of one form, whatever its sizes, and batches of every size; and the source's hash names it on disk.
"""

from typing import Any, NamedTuple

import array_api_compat.numpy
import numpy as np

from nnx.backends.numba.kernel import Kernel, beside, expression, indented, space
from nnx.backends.numba.threads import small, threads
from nnx.backends.numba.tile_update import Tiled, derivatives, tiled
from nnx.backends.numpy.calls import aligned
from nnx.compiler import Graph, Group, Op, TraceError, Value, fused, leaves, nbytes
from nnx.compiler.ir.evaluate import evaluated
from nnx.compiler.passes.alias import Aliases, Part, aliased
from nnx.compiler.passes.cost import estimated_seconds
from nnx.compiler.passes.memory import buffers

OWNED = 128
"""Samples up to which a product with a W is shared out as its update is."""

TURNED = 256
"""Samples up to which A^T may be copied."""

Memory = tuple[Any, int, int]


class Plan(NamedTuple):
    """Which values share memory, and the buffers of the others."""

    parts: dict[Value, Part]
    shared: dict[Value, Value]
    buffers: list[int]
    buffer: dict[Value, int]

    def owner(self, value: Value) -> Value:
        """Return the value whose memory a value is in: for most their own."""
        return Aliases(self.parts, self.shared).owner(value)


def planned(graph: Graph, groups: list[Group]) -> Plan:
    """Return where values lie when the groups are done in order."""
    aliases = aliased(graph, groups, {})
    whole = {aliases.owner(op.out) for group in groups for op in group.ops if op.out not in group.internal}
    sizes = buffers(graph, groups, aliases, lambda value: nbytes(value) if value in whole else 0)
    return Plan(aliases.parts, aliases.shared, *sizes)


class Source(NamedTuple):
    """The function `step`, and what it is called with.

    Attributes
    ----------
    text : str
    state : dict of str to str
        The parameter for each of the state's arrays that change, by their names in the state; it is written into.
    tables : dict of str to array
        What is the same in every call: sizes, numbers, constants, and memory for what comes between.
    work : float
        Seconds that a step would take on one core, roughly.
    """

    text: str
    state: dict[str, str]
    tables: dict[str, Any]
    work: float


class Loops:
    """The graph of a step on its way to the source of a compiled function.

    Parameters
    ----------
    graph : Graph
        Of step(state, (X, Y)) or step(state, (X, Y, w)) -> (state, J), the state a dict of arrays.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        alone = derivatives(graph)
        self._tiled: Tiled = tiled(graph, fused(graph, lambda op: None if op.out in alone else space(op)))
        if set(self._tiled.parts) == set(alone):
            self.groups: list[Group] = self._tiled.groups
        else:
            self.groups = fused(graph, space)
            self._tiled = Tiled(self.groups, {}, None, [])
        self._turn = self._to_turn()
        self.plan: Plan = planned(graph, self.groups)
        self._constants = graph.constants()
        self._once: list[str] = []  # before the first batch
        self._each: list[str] = []  # for every batch
        self._last: list[str] = []  # at its end
        self._kernels: dict[str, str] = {}  # text: name
        self._names: dict[Value, str] = {}
        self._sizes: list[tuple[int, int, int, int]] = []
        self._numbers: dict[str, list[Any]] = {}
        self._fixed: dict[str, Value] = {}  # arrays that are the same in every call
        self._made: dict[str, Value] = {}  # memory beside the plan's
        self._dtypes: set[str] = set()
        self._turns: dict[Value, str] = {}  # an A^T: its copy
        self._kernel: Kernel | None = None  # the optimizer's loop
        self._shared = 0  # numbers that one thread computes for all
        self._in_place: dict[Value, Value] = {}
        self._read: list[Memory] = []  # since the threads have met
        self._written: list[Memory] = []
        self._lines = self._long_lines()
        sizes = list(self.plan.buffers)
        for value, line in self._lines.items():
            buffer = self.plan.buffer[value]
            sizes[buffer] = max(sizes[buffer], nbytes(value) // value.shape[1] * line)
        self._offsets = [int(offset) for offset in np.cumsum([0, *(-(-size // 64) * 64 for size in sizes)])]

    def source(self) -> Source:
        """Return the source of the function `step`, and what it is called with.

        Raises
        ------
        TraceError
            When an operation has no loop here, or the function is no step.
        """
        state, batch, new, J = self._arguments()
        changing = {name: value for name, value in state.items() if new[name] != value}
        for name, value in changing.items():
            self._carry(value, new[name])
        for value in state.values():
            self._names[value] = f"x{value.number}"
            if value.ndim == 0:
                self._names[value] = f"s{value.number}"
                self._once.append(f"s{value.number} = x{value.number}[()]")
            elif value in changing.values() and value not in self._own():
                x, y = (self._vector(f"{letter}{value.number}", value) for letter in "xy")
                self._once.append(f"copy_state(t, T, {y}, {x})")
        places = self._batch(*batch)
        for group in self.groups:
            if group is self._tiled.update:
                self._rest()
            elif group.ops[0].out in self._tiled.parts:
                self._tile(group.ops[0])
            elif group.iteration_space is not None:
                self._loop(group)
            else:
                self._single(group.ops[0])
        self._each += ["if t == 0:", f"    Js[k] = {self.single(J)}"]
        for name, value in changing.items():
            self._end(value, new[name])
        after: list[str] = []
        for value in changing.values():
            x = f"x{value.number}"
            if value.ndim == 0:
                after += ["if t == 0:", f"    {x}[()] = s{value.number}"]
                after += [f"    if s{value.number} * 0 != 0:", "        Js[count] = nan"]
            elif value.size:
                after += [f"if not all_finite(t, T, {self._vector(x, value)}):", "    Js[count] = nan"]
        return self._source(state, changing, places, after)

    def _arguments(self) -> tuple[dict[str, Value], tuple[Any, ...], dict[str, Value], Value]:
        """Return the state, the batch, the new state and J."""
        try:
            (state, batch), (new, J) = self.graph.arguments, self.graph.result
            right = set(state) == set(new) and J.ndim == 0 and len(batch) in (2, 3)
            right = right and all(isinstance(x, Value) for x in (*state.values(), *new.values(), *batch[:2]))
            changed = [value for name, value in new.items() if value != state[name]]
            right = right and len({*changed}) == len(changed) and not {*changed} & {*self.graph.inputs}
            right = right and all(x == self.graph.base(x) and x not in self._constants for x in changed)
        except (TypeError, ValueError, AttributeError) as error:
            raise TraceError("not a step") from error
        if not right or not all(
            batch[0].ndim == 2 and x.shape[-1] == batch[0].shape[-1] for x in leaves(batch) if x
        ):
            raise TraceError("not a step")
        return state, tuple(batch), new, J

    def _source(
        self,
        state: dict[str, Value],
        changing: dict[str, Value],
        places: dict[str, tuple[str, str, int]],
        after: list[str],
    ) -> Source:
        memory = aligned(self._offsets[-1] + 64)
        tables: dict[str, Any] = {
            "D": np.asarray(self._sizes, np.int64).reshape(-1, 4),
            "S": np.zeros(max(self._shared, 1)),
            **{f"C_{t}": np.asarray(numbers, t) for t, numbers in self._numbers.items()},
            **{f"U_{t}": np.asarray([1, 0, small()], t) for t in ("float32", "float64")},
            **{f"A_{t}": memory[: len(memory) // 8 * 8].view(t) for t in sorted(self._dtypes)},
            **dict(zip(self._fixed, _values(self.graph, list(self._fixed.values())), strict=True)),
            **{name: _aligned(value) for name, value in self._made.items()},
        }
        parameters = dict.fromkeys(("t", "T", "sync", "count", "at", "m"), "types.int64")
        parameters |= {
            "sync": _type("int64", 1),
            "order": _type("int64", 1, "C", True),
            "Js": _type(self.graph.result[1].dtype, 1),
        }
        for name, (dtype, layout, ndim) in places.items():
            parameters[name] = _type(dtype, ndim, layout, True)
        parameters |= {f"x{value.number}": _type(value.dtype, value.ndim) for value in state.values()}
        parameters |= {
            f"y{value.number}": _type(value.dtype, value.ndim, "C", True)
            for value in changing.values()
            if value.ndim
        }
        parameters |= {name: _type(str(x.dtype), x.ndim) for name, x in tables.items()}
        kernels = "\n\n\n".join(text.replace("KERNEL", name) for text, name in self._kernels.items())
        lines = [
            f"def step({', '.join(parameters)}):",
            "    announce_call(t, T, sync)",
            "    next_barrier, before = int64(1), flush_to_zero()",
            *indented(self._once),
            "    next_barrier = barrier(sync, T, next_barrier)",
            "    for k in range(count):",
            "        start = (at + k * m) % end",
            *indented(self._each, 2),
            *indented(self._last, 2),
            "        next_barrier = barrier(sync, T, next_barrier)",
            *indented(after),
            "    set_float_mode(before)",
        ]
        signature = f"types.void({', '.join(parameters.values())})"
        text = "\n".join(lines)
        return Source(
            f"{kernels}\n\n\n@njit({signature}, **CALLED)\n{text}\n",
            {name: f"x{value.number}" for name, value in changing.items()},
            tables,
            estimated_seconds(self.graph),
        )

    # What changes from batch to batch.

    def _carry(self, old: Value, new: Value) -> None:
        """Let the new state lie where the old one is, if nobody reads the old one when the new one is written."""
        if old.ndim == 0:
            return
        at = next(g for g, group in enumerate(self.groups) if any(op.out == new for op in group.ops))
        safe = self.graph.makers[new].kind == "elementwise" and self.groups[at].iteration_space is not None
        safe = safe and (old.shape, old.dtype) == (new.shape, new.dtype)
        inner = frozenset().union(*(group.internal for group in self.groups))
        safe = safe and not any(self.plan.owner(x) == new for x in self.plan.shared if x not in inner)
        for g, group in enumerate(self.groups):
            for value in (value for op in group.ops for value in op.reads):
                if self.graph.base(value) == old and (g > at or (g == at and value != old)):
                    safe = False
        # In one loop, who reads the old one must have it before the new one is written, or would find that.
        ops = self.groups[at].ops
        reads = [k for k, op in enumerate(ops) if old in op.reads]
        safe = safe and not (reads and reads[0] > next(k for k, op in enumerate(ops) if op.out == new))
        if safe:
            self._in_place[new] = old
        else:
            self._made[f"o{new.number}"] = new
            self._names[new] = f"o{new.number}"

    def _batch(self, X: Value, Y: Value, w: Value | None = None) -> dict[str, tuple[str, str, int]]:
        """Write how the samples of a batch are found; return the parameters: dtype, layout and axes."""
        places = {"rows": (X.dtype, "C", 2), "X": (X.dtype, "A", 2)}
        self._fixed["XB"], self._fixed["YB"] = Value(-1, X.shape[::-1], X.dtype), Value(-2, Y.shape, Y.dtype)
        self._names[X] = f"x{X.number}"
        self._once.append("end = order.size if order.size > 0 else Y.shape[Y.ndim - 1]")
        self._each += [
            "if order.size > 0:",
            "    gather(t, T, rows, order, start, XB)",
            "    next_barrier = barrier(sync, T, next_barrier)",
            f"    x{X.number} = XB.T",
            "elif rows.size > 0:",
            f"    x{X.number} = rows[start : start + m].T",
            "else:",
            f"    x{X.number} = X[:, start : start + m]",
        ]
        for letter, value in {"Y": Y, **({} if w is None else {"w": w})}.items():
            places[letter] = (value.dtype, "A", value.ndim)
            self._fixed[f"{letter}B"] = Value(-2, value.shape, value.dtype)
            self._names[value] = f"{letter}B"
            self._each.append(
                f"gather{value.ndim}({letter}, order, start, {letter}B)"
            )  # by every thread: it is little
        self._X = X
        return places

    def _end(self, old: Value, new: Value) -> None:
        """Let the next batch begin where this one has come to."""
        if old.ndim == 0:
            self._last.append(f"s{old.number} = {self.single(new)}")
        elif new not in self._in_place:
            meeting = "next_barrier = barrier(sync, T, next_barrier)"
            if meeting not in self._last:
                self._last.append(meeting)
            x, y = self._vector(f"x{old.number}", old), self._vector(self.name(new), new)
            self._last.append(f"copy_state(t, T, {y}, {x})")

    # Where a value lies.

    def _row(self, start: int, shape: tuple[int, ...]) -> str:
        """Return a row of the table: where an array lies in memory, its rows and columns."""
        if len(shape) not in (1, 2):
            raise TraceError(f"an array of {len(shape)} axes")
        n, m = shape if len(shape) == 2 else (1, *shape)
        self._sizes.append((start, start + n * m, n, m))
        return f"D[{len(self._sizes) - 1}]"

    def number(self, number: Any, dtype: str) -> str:
        """Return a number, out of the table of its dtype."""
        table = self._numbers.setdefault(dtype, [])
        table.append(number)
        return f"C_{dtype}[{len(table) - 1}]"

    def literal(self, arg: Any) -> Any:
        """Return the Python number that an argument is, or a constant of no axes; None: it is an array."""
        if not isinstance(arg, Value):
            return arg
        op = self.graph.makers.get(arg)
        return op.option("value") if op is not None and op.name == "full" and arg.ndim == 0 else None

    def is_single(self, value: Value) -> bool:
        """Whether a value is a single number, which is a variable of its own."""
        base = self.graph.base(value)
        flat = all(view.name in ("reshape", "broadcast") for view in self.graph.views(value))
        return base.ndim == 0 and base not in self._constants and flat

    def single(self, value: Value) -> str:
        """Return the variable that is a single number."""
        return self._names[self.graph.base(value)]

    def name(self, value: Value) -> str:
        """Return the variable that is the value, an array."""
        if value in self._names:
            return self._names[value]
        name = self._names[value] = f"v{value.number}"
        op = self.graph.makers[value]
        if value in self._in_place:
            self._names[value] = name = self.name(self._in_place[value])
        elif value in self._constants and op.kind != "view":
            self._names[value] = name = f"f{value.number}"
            self._fixed[name] = value
        elif op.kind == "view":
            view = self._view(self.name(op.reads[0]), op)
            lines = self._each if self.graph.base(value) == self._X else self._once
            lines.append(f"{name} = {view}")
        elif value in self.plan.shared:
            self._names[value] = name = self.name(self.plan.shared[value])
            if self.plan.shared[value].ndim == 0:
                raise TraceError("a number shares its memory")
        elif value in self.plan.parts:
            part = self.plan.parts[value]
            if part.whole.ndim != 1:
                raise TraceError("a part of a stack")
            whole = self.name(part.whole)
            self._once.append(f"{name} = {self._slice(whole, part.start, value.shape)}")
        else:
            self._dtypes.add(value.dtype)
            offset = self._offsets[self.plan.buffer[value]] // np.dtype(value.dtype).itemsize
            shape = (*value.shape[:-1], self._lines.get(value, value.shape[-1])) if value.ndim else ()
            self._once.append(f"{name} = {self._slice(f'A_{value.dtype}', offset, shape)}")
        return name

    def _long_lines(self) -> dict[Value, int]:
        """Return the matrices of the plan's memory that have longer lines than columns, and how long."""
        found = {}
        for value in self.plan.buffer:
            if value.ndim == 2 and value.dtype in ("float32", "float64"):
                found[value] = _line(value.shape[1], value.dtype)
        alone = [
            op
            for group in self.groups
            if group.iteration_space is None
            for op in group.ops
            if op.name != "matmul"
        ]
        views = [op for op in self.graph.ops if op.kind == "view" and op.name != "permute"]
        for x in (x for op in (*alone, *views) for x in (*op.reads, op.out)):
            found.pop(self.plan.owner(self.graph.base(x)), None)
        return {value: line for value, line in found.items() if line > value.shape[1]}

    def _where(self, value: Value) -> str:
        return f"operand({self.name(value)}, {self._row(0, value.shape)})"

    def _slice(self, vector: str, start: int, shape: tuple[int, ...]) -> str:
        """Return an array of this shape that lies in a vector."""
        return f"{'matrix' if len(shape) == 2 else 'part'}({vector}, {self._row(start, shape)})"

    def _shaped(self, array: str, shape: tuple[int, ...]) -> str:
        return f"{'as_matrix' if len(shape) == 2 else 'as_vector'}({array}, {self._row(0, shape)})"

    def _vector(self, array: str, value: Value) -> str:
        return array if value.ndim == 1 else f"as_vector({array}, {self._row(0, (value.size,))})"

    def _view(self, array: str, op: Op) -> str:
        value = op.reads[0]
        if op.name == "permute" and value.ndim == 2:
            return f"{array}.T"
        if op.name == "reshape" and self.graph.base(value) != self._X:
            return self._shaped(array, op.out.shape)
        if op.name == "slice" and value.ndim == 1:
            key = next(key for key in op.option("key") if key is not None)
            if isinstance(key, slice) and key.step == 1:
                found = self._slice(array, key.start, (key.stop - key.start,))
                return self._shaped(found, op.out.shape) if op.out.ndim == 2 else found
        raise TraceError(f"{op.name} of {value.ndim} axes has no loop")

    # What is done.

    def _memory(self, value: Value, part: tuple[int, int] | None = None) -> Memory:
        """Return where a value lies, or a part of a vector: what tells the place from others, and from which byte on.

        And up to which.
        """
        value, begin, end = self.graph.extent(value)
        if part:
            begin, end = part
        item = nbytes(value) // max(value.size, 1)
        owner, start = value, begin * item
        stop = end * item
        while owner in self.plan.shared or owner in self.plan.parts:
            if owner in self.plan.shared:
                owner = self.plan.shared[owner]
            else:
                place = self.plan.parts[owner]
                owner, ahead = place.whole, place.start * nbytes(place.whole) // place.whole.size
                start, stop = start + ahead, stop + ahead
        if owner in self._lines:
            stop = owner.shape[0] * self._lines[owner] * item
        return self.plan.buffer.get(owner, self._in_place.get(owner, owner)), start, stop

    def _wait(self, read: list[Memory], written: list[Memory]) -> None:
        """Let the threads meet if one would read, or write over, what another may not be done with."""
        if _overlap(read + written, self._written) or _overlap(written, self._read):
            self._meet()
        self._read += read
        self._written += written

    def _meet(self) -> None:
        self._each.append("next_barrier = barrier(sync, T, next_barrier)")
        self._read, self._written = [], []

    def _by_one(self, line: str) -> None:
        """Do something in one thread."""
        self._each += ["if t == 0:", f"    {line}"]

    def _single(self, op: Op) -> None:
        if op.kind == "elementwise" and op.out.ndim == 0:
            args = []
            for arg in op.args:
                number = self.literal(arg)
                if number is not None:
                    args.append(self.number(number, arg.dtype if isinstance(arg, Value) else beside(op)))
                elif self.is_single(arg):  # type: ignore[arg-type]
                    args.append(self.single(arg))  # type: ignore[arg-type]
                else:
                    raise TraceError("an element of an array")
            self._names[op.out] = f"s{op.out.number}"
            self._each.append(f"s{op.out.number} = {expression(op, args)}")
            return
        out = op.out
        if op.name != "concat":
            writes = [self._memory(out)]
            if self._by_owner(op):
                writes.append((f"E_{out.dtype}", 0, 1))  # one memory, which a product at a time has
            self._wait([*map(self._memory, op.reads)], writes)
        if op.name == "matmul" and out.ndim == 2 and all(x.dtype == out.dtype for x in op.reads):
            a, b = op.reads if len(op.reads) == 2 else op.reads * 2
            if out.dtype not in ("float32", "float64"):
                raise TraceError("a product of integers")
            self._product(op, ", ".join(map(self._where, (a, b, out))))
            for factor in op.reads:
                self._turned(factor)
        elif op.name == "concat" and out.ndim == 1:
            at = 0
            for arg in op.reads:
                start, at = at, at + arg.size
                part = self.plan.parts.get(self.graph.base(arg))
                if part is None or (part.whole, part.start) != (out, start):
                    self._wait([self._memory(arg)], [self._memory(out)])
                    x = self.name(arg)  # before the line below: it may have one of its own
                    to = self._slice(self.name(out), start, (arg.size,))
                    self._by_one(f"{to}[:] = {x}")
        elif op.name == "copy":
            x = self.name(op.reads[0])
            self._by_one(f"{self.name(out)}[...] = {x}")
        else:
            raise TraceError(f"{op.name} of {[x.ndim for x in op.reads]} axes has no loop")

    def _by_owner(self, op: Op) -> bool:
        """Whether an operation is a product with a W, which the threads share out as its update is."""
        W = self.graph.base(op.reads[0])
        return op.name == "matmul" and bool(self._tiled.parts) and W in self._in_place.values()

    def _product(self, op: Op, arrays: str) -> None:
        """Write a product; one with a W is done in parts, which are summed then."""
        out, a = op.out, op.reads[0]
        if not self._by_owner(op):
            self._each.append(f"gemm_partition(t, T, {arrays}, U_{out.dtype})")
            return
        turned = int(any(view.name == "permute" for view in self.graph.views(a)))
        more = f"E_{out.dtype}"
        before = self._made[more].size if more in self._made else 0
        size = (threads() - 1) * out.size if out.shape[1] <= OWNED else 0
        self._made[more] = Value(-1, (max(size, before),), out.dtype)
        self._each += [
            f"sums = gemm_owner_computes(t, T, {arrays}, {more}, U_{out.dtype}, int64({turned}))",
            "if sums > 1:",
            "    next_barrier = barrier(sync, T, next_barrier)",
            f"    add_partial_sums(t, T, sums, {self.name(out)}, {more}, {self._row(0, out.shape)})",
        ]

    def _loop(self, group: Group) -> None:
        """Call a kernel: a function of its own, which groups of the same form share."""
        kernel = Kernel(self, group)
        name = self._kernels.setdefault(kernel.text, f"k{len(self._kernels)}")
        outs = [op.out for op in group.ops if op.out not in group.internal and op.out not in kernel.results]
        reads = [x for op in group.ops for x in op.reads if x not in group.internal]
        self._wait([*map(self._memory, reads)], [*map(self._memory, outs)])
        number = len(self._sizes)
        shares = ", ".join(f"{letter}{number}" for letter in "iIjJ")
        self._once.append(f"{shares} = by_{kernel.divided}(t, T, {self._row(0, kernel.space)})")
        if kernel.divided != "one":
            self._each.append(f"{name}({', '.join([*kernel.parameters, shares])})")
            return
        results = "".join(f"s{value.number}, " for value in kernel.results)
        self._by_one(f"{results + '= ' if results else ''}{name}({', '.join([*kernel.parameters, shares])})")
        first, self._shared = self._shared, self._shared + len(kernel.results)
        for place, value in enumerate(kernel.results, first):
            self._each.append(f"    S[{place}] = s{value.number}")
            self._names[value] = f"s{value.number}"
        if kernel.results:
            self._meet()
        for place, value in enumerate(kernel.results, first):
            dtype = "bool_" if value.dtype == "bool" else value.dtype
            self._each.append(f"s{value.number} = {dtype}(S[{place}])")

    # The optimizer's loop, with the products before it.

    def _to_turn(self) -> dict[Value, tuple[Value, int]]:
        """Return each A of which a product reads A^T: that, and the samples if it is worth a copy row by row.

        BLAS reads that faster, which is worth it for many units; the copy of more samples would take much memory. Of a
        single sample the loop over a row is one of vectors only where the row's elements are known to be neighbours.
        """
        found, batch = {}, self.graph.arguments[1]
        for value in self._tiled.parts:
            right = self.graph.makers[value].reads[1]
            m, n, views = right.shape[0], value.shape[0], self.graph.views(right)
            if [view.name for view in views] != ["permute"]:
                continue
            A = views[0].reads[0]
            worth = m == 1 or (m <= TURNED and n >= (64 if m <= 32 else 256))
            if A == batch[0] or A in self.graph.makers:
                found[A] = right, m if worth else 0
        return found

    def _turned(self, A: Value) -> None:
        """Copy A to A^T, row by row, when it is there."""
        if A not in self._turn or self._turn[A][0] in self._turns:
            return
        right, m = self._turn[A]
        self._turns[right] = name = f"b{right.number}"
        self._made[f"B{right.number}"] = Value(-1, (m, _line(right.shape[1], right.dtype)), right.dtype)
        arrays = f"{self.name(right)}, B{right.number}, {self._row(0, right.shape)}"
        self._wait([self._memory(A)], [(name, 0, 1)])
        self._each.append(f"{name} = transpose(t, T, {arrays})")

    def _tile(self, op: Op) -> None:
        """Write a product of dtheta, and the optimizer's loop over its part of theta, tile by tile."""
        (a, b), value, dtheta = op.reads, op.out, self.plan.parts[op.out].whole
        place, extra = self._tiled.parts[value], [(self._turns[b], 0, 1)] if b in self._turns else []
        reads, writes = self._of_update(*place)
        self._wait([self._memory(a), self._memory(b), *extra, *reads], [self._memory(value), *writes])
        x, y, d = self.name(a), self.name(b), self._row(place[0], value.shape)
        if op.name == "multiply":
            product = "tile_outer(a, b, r, rows, c, columns, dtheta, at, width)"
            y = f"B{b.number}" if b in self._turns else y
        else:
            product = "tile_gemm(a, b, r, rows, c, columns, dtheta, at, width, scalars)"
            x, y = self._where(a), self._turns.get(b) or self._where(b)
        call = self._of_theta(
            {"d": d, "m": "m", "a": x, "b": y, "scalars": f"U_{value.dtype}"},
            dtheta,
            "i0, i1, j0, j1, R, C, place = tiling(t, T, d, m)",
            "for above in range((i1 - i0 + R - 1) // R):  # from the last rows up: those read last before",
            "    r = i0 + ((i1 - i0 - 1) // R - above) * R",
            "    for c in range(j0, j1, C):",
            "        rows, columns = min(R, i1 - r), min(C, j1 - c)",
            "        at, width, first, length, count = tile(d, r, c, rows, columns, place)",
            f"        {product}",
            "        for q in range(count):",
            "            low, high, ahead = first + q * d[3], first + q * d[3] + length, at + q * width",
            "            UPDATE",
        )
        self._each.append(call)

    def _rest(self) -> None:
        """Write the optimizer's loop over what is left of theta."""
        (dtheta,) = {self.plan.parts[value].whole for value in self._tiled.parts}
        for start, stop in self._tiled.rest:
            reads, writes = self._of_update(start, stop)
            self._wait([self._memory(dtheta, (start, stop)), *reads], writes)
        rows = [self._row(start, (stop - start,)) for start, stop in self._tiled.rest]
        last = len(self._sizes)
        call = self._of_theta(
            {"D": "D", "first": str(last - len(rows)), "last": str(last)},
            dtheta,
            "for k in range(first, last):",
            "    low, high = partition(t, T, D[k][3], LINE)",
            "    low, high = D[k][0] + low, D[k][0] + high",
            "    ahead = low",
            "    UPDATE",
        )
        self._each.append(call)

    def _of_theta(self, given: dict[str, str], dtheta: Value, *lines: str) -> str:
        """Return the call of a function of these lines, which go over parts of theta, with what is given by name.

        UPDATE stands for the optimizer's loop over theta[low:high], whose part of dtheta begins at `ahead`.
        """
        if self._kernel is None:
            assert self._tiled.update is not None
            self._kernel = Kernel(self, self._tiled.update)
        kernel, out = self._kernel, self.name(dtheta)
        name = self._kernels.setdefault(kernel.text, f"k{len(self._kernels)}")
        names = {x: "dtheta" if x == out else p for x, p in kernel.parameters.items()}
        olds = {f"y{value.number}": names[f"x{value.number}"] for value in self._own()}
        cut = {out: "dtheta[ahead : ahead + high - low]"}
        arguments = [
            cut.get(x, f"{p}[low:high]") if x in kernel.arrays else p for x, p in kernel.parameters.items()
        ]
        calls = [
            *(["if fresh:"] if olds else []),
            *(f"    copy_state(ZERO, ONE, {y}[low:high], {x}[low:high])" for y, x in olds.items()),
            f"{name}({', '.join(arguments)}, 0, 0, 0, high - low)",
        ]
        body = [
            line.replace("UPDATE", call)
            for line in lines
            for call in (calls if line.endswith("UPDATE") else [""])
        ]
        text = "\n".join(
            [
                "@njit(**PLAIN)",
                f"def KERNEL(t, T, fresh, {', '.join([*given, *names.values(), *olds])}):",
                *indented(body),
            ]
        )
        function = self._kernels.setdefault(text, f"k{len(self._kernels)}")
        return f"{function}(t, T, k == 0, {', '.join([*given.values(), *names, *olds])})"

    def _own(self) -> list[Value]:
        """Return what the optimizer's loop alone reads, of the state that it changes in its place: m, v.

        It is copied to its place in the first step, each tile as it is needed there.
        """
        update = self._tiled.update
        if update is None:
            return []
        others = {
            self.graph.base(x)
            for group in self.groups
            for op in group.ops
            for x in op.reads
            if group is not update or x != self.graph.base(x)
        }
        own = {x for op in update.ops for x in op.reads} - others
        made = {op.out for op in update.ops}
        return [old for new, old in self._in_place.items() if old in own and new in made]

    def _of_update(self, start: int, stop: int) -> tuple[list[Memory], list[Memory]]:
        """Return what the optimizer's loop reads beside dtheta, and writes, from where to where in theta."""
        group = self._tiled.update
        assert group is not None
        wholes = {self.plan.parts[value].whole for value in self._tiled.parts}
        made = {op.out for op in group.ops}
        reads = {x for op in group.ops for x in op.reads if x.ndim} - made - wholes
        writes = made - group.internal
        return tuple([self._memory(x, (start, stop)) for x in some] for some in (reads, writes))  # type: ignore[return-value]


def _line(columns: int, dtype: str) -> int:
    """Return how many numbers a line of so many columns takes: whole cache lines, unless it is short.

    And one more, where all lines would begin at a few places of the cache, which hold but some of them.
    """
    each = 64 // np.dtype(dtype).itemsize
    lines = -(-columns // each)
    return columns if lines < 4 else each * (lines if lines % 32 else lines + 1)


def _overlap(some: list[Memory], others: list[Memory]) -> bool:
    return any(
        place == there and start < end and begin < stop
        for place, start, stop in some
        for there, begin, end in others
    )


def _type(dtype: str, ndim: int, layout: str = "C", readonly: bool = False) -> str:
    """Return the source of numba's type of an array."""
    dtype = "boolean" if dtype == "bool" else dtype
    return f"types.Array(types.{dtype}, {ndim}, {layout!r}{', readonly=True' if readonly else ''})"


def _aligned(value: Value) -> Any:
    """Return an array like this value that begins with a cache line."""
    return aligned(nbytes(value)).view(value.dtype).reshape(value.shape)


def _values(graph: Graph, values: list[Value]) -> list[Any]:
    """Return what is the same in every call; memory alone for what is no part of the graph."""
    found = evaluated(graph, {}, array_api_compat.numpy)
    return [np.ascontiguousarray(found[value]) if value.number >= 0 else _aligned(value) for value in values]
