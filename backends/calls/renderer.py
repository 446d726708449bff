"""A graph on its way to a function that is a list of a library's calls, each into a place planned beforehand."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np

from nnx.backends.calls.chain import chained
from nnx.backends.calls.program_cache import Replay, entry, returned
from nnx.compiler import Graph, Group, Op, TraceError, Value, leaves, nbytes, planned

MOST = 1 << 62
"""Elements that no vector has."""

Taken: TypeAlias = list[tuple[str, Any]]
"""How a view is taken: expressions, one of the other, with {0} for the array and {1} for what stands beside it."""


class Lowering(ABC):
    """What an adapter adds to: how its library makes arrays, and calls it for each operation.

    What lies in buffers is made once, and is a global of the function; what is handed in, and the results, change
    from call to call, and are its local variables.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph, self._groups = chained(graph, 2 * self.piece if self.piece else MOST)
        self.constants = graph.constants()
        self._old = _state(graph)
        self.plan = planned(
            self.graph, self._groups, self._over, lambda value: min(nbytes(value), 8 * self.piece)
        )
        self._in_place = {new: old for new, old in self._old.items() if self._is_free(new, old)}
        self.globals: dict[str, Any] = {}
        self.names: dict[Value, str] = {value: f"x{value.number}" for value in graph.inputs}
        self.lines: list[str] = []
        self._buffers = [self.bytes(size) for size in self.plan.buffers]

    # The library's part.

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
    def result(self, value: Value) -> Callable[[], Any]:
        """Return a function that gives an array for a result, which nobody else has."""

    @abstractmethod
    def over(self, op: Op) -> tuple[Value, ...]:
        """Return the arguments in whose memory the result may be written, if they are not needed after it."""

    @abstractmethod
    def write(self, op: Op) -> None:
        """Add the lines that do an operation."""

    piece = 0
    """Elements of a long vector that are done at a time; 0: all, as where the library has threads of its own for it."""

    copy: str
    """The end of an expression that copies an array."""
    permuted: str
    broadcast: str
    """How these views are taken, as in `Taken`."""

    @abstractmethod
    def is_view(self, x: Any, of: Any) -> bool:
        """Whether an array lies in the memory of another."""

    # What is the same for all.

    def narrow(self, op: Op) -> bool:
        """Whether a product is of few rows by many samples as they are handed in, which is quicker turned round.

        The libraries would copy all of the samples, rows that they are, into an order of their own.
        """
        rows, columns = op.out.shape[-2:]
        flat = all(x.ndim == 2 for x in (*op.reads, op.out))
        return flat and op.reads[-1] in self.graph.inputs and rows <= 32 and columns >= 64

    def turned(self, op: Op, is_transpose: str, product: str, copy: str, line: str) -> list[str]:
        """Return the lines of a product a b, as (b^T a^T)^T where b is a transpose, else `line`.

        In `product` and `copy` {0} stands for the memory of (a b)^T. It takes half to two thirds of the time.
        """
        value = Value(op.out.number, op.out.shape[::-1], op.out.dtype)
        name = f"turned_{value.number}"
        self.globals[name] = self.shaped(self.bytes(nbytes(value)), value)
        return [
            f"if {is_transpose}:", f"    {product.format(name)}", f"    {copy.format(name)}", "else:", f"    {line}"
        ]  # fmt: skip

    def function(self) -> Replay:
        """Return the function: of the graph's arguments, and of whether it may write over the old state."""
        parameters, body, given = entry(self.graph, self.unlike)
        self.globals |= given
        for op in self.graph.ops:
            if op.out in self.constants and op.kind != "view":
                self._constant(op)
        for group in self._groups:
            self.add(group)
        for value in self.graph.outputs:
            base = self.graph.base(value)
            if value != base or value in self.constants or value in self.plan.parts:  # the result is its own
                self.lines.append(f"r{value.number} = {self.name(value)}{self.copy}")
                self.names[value] = f"r{value.number}"
        result = returned(self.graph, self.names, self.globals)
        head = f"def replayed({parameters}):"
        source = "\n    ".join([head, *body, *self.lines, f"return {result}"])
        exec(compile(source, "<nnx graph>", "exec"), self.globals)
        function: Replay = self.globals["replayed"]
        function.source = source  # for people
        return function

    def add(self, group: Group) -> None:
        """Add the lines that do a group."""
        if group.space is None:
            self.write(group.ops[0])
        else:
            self._by_pieces(group)

    def _by_pieces(self, group: Group) -> None:
        """Do several operations on a piece of theta, then on the next: what comes between stays in the cache."""
        (size,) = group.ops[0].out.shape
        vectors = dict.fromkeys(x for op in group.ops for x in (*op.reads, op.out) if x.ndim)
        wholes = {self.plan.owner(op.out) for op in self.graph.ops if op.out not in group.inner}
        cut = {}
        for value in vectors:
            owner = self.plan.owner(value)
            if owner in group.inner and owner not in wholes:  # the memory of one piece is enough
                if owner not in self.names:
                    self.names[owner] = self._between(owner, Value(owner.number, (self.piece,), owner.dtype))
                self.names[value] = self.names[owner]
                cut[value] = f"{self.name(value)}[:high - low]"
            else:
                cut[value] = f"{self.name(value)}[low:high]"
        outer, whole = self.lines, {value: self.names[value] for value in vectors}
        self.lines = [f"p{value.number} = {text}" for value, text in cut.items()]
        self.names |= {value: f"p{value.number}" for value in vectors}
        for op in group.ops:
            self.write(op)
        outer += [
            f"for low in range(0, {size}, {self.piece}):",
            f"    high = min(low + {self.piece}, {size})",
            *(f"    {line}" for line in self.lines),
        ]
        self.lines = outer
        self.names |= whole

    def _between(self, owner: Value, piece: Value) -> str:
        """Return the name of the memory for a piece of what comes between."""
        self._global(owner, self.shaped(self._buffers[self.plan.buffer[owner]], piece))
        return self.names[owner]

    def unlike(self, name: str, value: Value) -> str:
        """Return an expression that is true when the array of this name is not like a value."""
        self.globals[f"dtype_{value.dtype}"] = self.dtype(value.dtype)
        return f"{name}.shape != {value.shape} or {name}.dtype != dtype_{value.dtype}"

    def dtype(self, name: str) -> Any:
        """Return the library's dtype by the standard's name."""
        return np.dtype(name)

    def taken(self, op: Op) -> Taken:
        """Return how a view is taken."""
        ways = {
            "slice": ("{0}[{1}]", "key"), "reshape": ("{0}.reshape({1})", None),
            "permute": (self.permuted, "axes"), "broadcast": (self.broadcast, None),
        }  # fmt: skip
        way, option = ways[op.name]
        return [(way, op.option(option) if option else op.out.shape)]

    def misplaced(self, op: Op) -> Iterator[tuple[Value, int, int]]:
        """Yield what is not written straight into its place in a concat: each with where it begins and ends."""
        at = 0
        for x in op.reads:
            start, at = at, at + x.shape[op.option("axis")]
            part = self.plan.parts.get(self.graph.base(x))
            if part is None or (part.whole, part.start) != (op.out, start):
                yield x, start, at

    def name(self, value: Value) -> str:
        """Return the name of the variable that is the value."""
        if value not in self.names:
            op = self.graph.makers[value]
            number = value.number
            if op.kind == "view":
                self._define(value, self.name(op.reads[0]), self.taken(op))
            elif value in self.plan.shared:
                self.names[value] = self.name(self.plan.shared[value])
            elif value in self.plan.parts:
                part = self.plan.parts[value]
                key = (slice(None),) * part.axis + (slice(part.start, part.stop),)
                self._define(
                    value, self.name(part.whole), [("{0}[{1}]", key), ("{0}.reshape({1})", value.shape)]
                )
            elif value in self.graph.outputs:
                self.globals[f"take{number}"] = self.result(value)
                self.names[value] = f"o{number}"
                old = self._in_place.get(value)
                choice = f"{self.name(old)} if over else " if old else ""
                self.lines.append(f"o{number} = {choice}take{number}()")
            else:
                self._global(value, self.shaped(self._buffers[self.plan.buffer[value]], value))
        return self.names[value]

    def _global(self, value: Value, array: Any) -> None:
        self.names[value] = f"v{value.number}"
        self.globals[f"v{value.number}"] = array

    def _define(self, value: Value, source: str, steps: Taken) -> None:
        """Make a view: at once where what it looks at stays in its place, else in every call."""
        array = self.globals.get(source)
        text = source
        for number, (step, key) in enumerate(steps):
            name = f"i{value.number}_{number}"
            self.globals[name] = key
            text = step.format(text, name)
        if array is not None:
            found = eval(text, self.globals)
            if not self.is_view(found, array):
                raise TraceError(f"{value} is not the view that it should be")
            self._global(value, found)
        else:
            self.names[value] = f"v{value.number}"
            self.lines.append(f"v{value.number} = {text}")

    def scalar(self, number: Any, dtype: str) -> str:
        """Return the name of a number as an array of no axes."""
        x = np.asarray(number, dtype)
        name = f"c_{dtype}_{x.tobytes().hex()}"
        if name not in self.globals:
            self.globals[name] = self.array(x)
        return name

    def _constant(self, op: Op) -> None:
        """Compute now what is the same in every call."""
        if op.name == "full":
            self._global(op.out, self.array(np.full(op.out.shape, op.option("value"), op.out.dtype)))
        elif op.name == "arange":
            start, step = op.option("start"), op.option("step")
            array = np.arange(start, start + step * op.out.size, step).astype(op.out.dtype)
            self._global(op.out, self.array(array))
        else:
            self._global(op.out, self.array(np.empty(op.out.shape, op.out.dtype)))
            before, self.lines = self.lines, []
            self.write(op)
            with np.errstate(all="ignore"):
                exec("\n".join(self.lines), self.globals)
            self.lines = before

    # What may be written over the state that was before.

    def _over(self, op: Op) -> tuple[Value, ...]:
        """Return what `over` does; what is written over its own old self takes no other's place."""
        return () if self._old.get(op.out) in op.reads else self.over(op)

    def _is_free(self, new: Value, old: Value) -> bool:
        """Whether nobody reads the old array any more when the first number is written where the new one lies."""
        ops = [op for op in self.graph.ops if op.kind != "view"]
        first = next(at for at, op in enumerate(ops) if self.plan.owner(op.out) == new)
        for at, op in enumerate(ops[first:], first):
            for value in op.reads:
                direct = at == first and value == old and old in self.over(op)
                if self.graph.base(value) == old and not direct:
                    return False
        return (old.shape, old.dtype) == (new.shape, new.dtype)


def _state(graph: Graph) -> dict[Value, Value]:
    """Return the old array for every new one, of a step(state, ...) -> (state, ...); of another function none."""
    try:
        (old, *_), (new, *_) = graph.arguments, graph.result
        changed = {new[name]: old[name] for name in old if new[name] != old[name]}
        same = [new[name] for name in old if new[name] == old[name]]
    except (TypeError, KeyError, ValueError, IndexError):
        return {}
    own = all(isinstance(x, Value) and x == graph.base(x) for x in changed)
    own = own and not {*changed} & {*graph.inputs} and len({*changed}) + len(same) == len(new)
    rest = [x for x in leaves(graph.result[1:]) if isinstance(x, Value)]  # what a caller may keep
    if not own or any(x in changed or graph.base(x) in graph.inputs for x in rest):
        return {}
    return {x: was for x, was in changed.items() if isinstance(was, Value)}
