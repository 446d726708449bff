"""A graph: the straight list of operations that a pure function is, for one set of shapes and dtypes."""

from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, pairwise
from math import prod
from typing import Any, TypeAlias

from nnx.compiler.ir.operations import DTYPES, KIND_OF, ROUNDED, SYMBOLS, TraceError, itemsize
from nnx.support.tree import leaves


@dataclass(frozen=True, slots=True, repr=False)
class Value:
    """An array in a graph: made once, by one operation, or handed in."""

    number: int
    shape: tuple[int, ...]
    dtype: str

    @property
    def size(self) -> int:
        """The number of its elements."""
        return prod(self.shape)

    @property
    def ndim(self) -> int:
        """The number of its axes."""
        return len(self.shape)

    def __hash__(self) -> int:
        return self.number

    def __repr__(self) -> str:
        return f"%{self.number}"


def nbytes(value: Value) -> int:
    """Return the bytes of a value."""
    return value.size * itemsize(value.dtype)


Scalar: TypeAlias = bool | int | float
Arg: TypeAlias = Value | Scalar


@dataclass(frozen=True, slots=True)
class Op:
    """One operation: out = name(args, options)."""

    name: str  # the standard's function, or reshape, slice, permute, broadcast (views), copy, full, arange
    args: tuple[Arg, ...]  # a number stands beside arrays, in the dtype of the operation
    out: Value
    options: tuple[tuple[str, Any], ...] = ()  # axis, keepdims, shape, key, ...: never an array
    kind: str = field(init=False, compare=False)
    """One of elementwise, reduction, view and source, or the name itself: matmul, concat, copy, all_reduce."""
    reads: tuple[Value, ...] = field(init=False, compare=False)
    """The arrays among its arguments."""

    def __post_init__(self) -> None:  # once: the passes ask for them again and again
        object.__setattr__(self, "kind", KIND_OF.get(self.name, self.name))
        object.__setattr__(self, "reads", tuple(arg for arg in self.args if isinstance(arg, Value)))

    @property
    def joined(self) -> list[tuple[Value, int, int]]:
        """The arguments of a concat, each with where its part begins and ends along the axis."""
        ends = accumulate((x.shape[self.option("axis")] for x in self.reads), initial=0)
        return [(x, *ends) for x, ends in zip(self.reads, pairwise(ends), strict=True)]

    def option(self, name: str) -> Any:
        """Return an option by its name."""
        return dict(self.options)[name]

    def __str__(self) -> str:
        made = f"{self.out!s:>5}: {self.out.dtype}{list(self.out.shape)} = "
        args = [*map(repr, self.args)]
        if self.name in SYMBOLS and len(args) == 2:
            return made + f" {SYMBOLS[self.name]} ".join(args)
        return made + f"{self.name}({', '.join(args + [f'{k}={shown(v)}' for k, v in self.options])})"


def shown(option: Any) -> str:
    """Return an option as people write it: the slice of a key as 0:6."""
    if isinstance(option, slice):
        parts = [option.start, option.stop, *([option.step] if option.step not in (None, 1) else [])]
        return ":".join("" if part is None else str(part) for part in parts)
    if isinstance(option, tuple):
        return f"({', '.join(map(shown, option))}{',' if len(option) == 1 else ''})"
    return str(option)


@dataclass(frozen=True)
class Graph:
    """A pure function of arrays as the list of its operations."""

    inputs: tuple[Value, ...]  # the arrays handed in, in the order of `arguments`
    ops: tuple[Op, ...]
    arguments: Any  # a tree: what the function was called with, with a Value where an array stands
    result: Any  # what it returned

    def __post_init__(self) -> None:
        self.validate()

    @cached_property
    def makers(self) -> dict[Value, Op]:
        """The operation that makes each value."""
        return {op.out: op for op in self.ops}

    @cached_property
    def outputs(self) -> tuple[Value, ...]:
        """The arrays of the result, each once."""
        return tuple(dict.fromkeys(leaf for leaf in leaves(self.result) if isinstance(leaf, Value)))

    @property
    def next_number(self) -> int:
        """The number of a new value."""
        return 1 + max((x.number for x in (*self.inputs, *self.makers)), default=-1)

    @cached_property
    def _bases(self) -> dict[Value, Value]:
        """What each view, or view of a view, looks at."""
        found: dict[Value, Value] = {}
        for op in (op for op in self.ops if op.kind == "view"):
            found[op.out] = found.get(op.reads[0], op.reads[0])
        return found

    def base(self, value: Value) -> Value:
        """Return the value that a view, or a view of a view, looks at; another is its own."""
        return self._bases.get(value, value)

    def views(self, value: Value) -> list[Op]:
        """Return the operations that lead from `base(value)` to the value."""
        path: list[Op] = []
        while value in self.makers and self.makers[value].kind == "view":
            path.insert(0, self.makers[value])
            value = path[0].reads[0]
        return path

    def extent(self, value: Value) -> tuple[Value, int, int]:
        """Return what a value is a view of, and from where to where: of a vector the slice, else the whole."""
        base = self.base(value)
        match [op.option("key") for op in self.views(value)[:1] if op.name == "slice"]:
            case [(slice(start=int(start), stop=int(stop), step=1),)] if base.ndim == 1:
                return base, start, stop
        return base, 0, base.size

    @cached_property
    def constants(self) -> frozenset[Value]:
        """The values that depend on no input and are the same in every call, but for copies of them."""
        found: set[Value] = set()
        for op in self.ops:
            if op.name not in ("copy", "all_reduce") and all(arg in found for arg in op.reads):
                found.add(op.out)
        return frozenset(found)

    def validate(self) -> None:
        """Raise a TraceError unless every value is made once, before it is used, of a known dtype."""
        known = {x.number: x for x in self.inputs}
        if len(known) != len(self.inputs):
            raise TraceError("an input is there twice")
        for op in self.ops:
            for arg in op.reads:
                if known.get(arg.number) != arg:
                    raise TraceError(f"{arg} is used before it is made, in {op}")
            if op.out.number in known:
                raise TraceError(f"{op.out} is made twice, the second time in {op}")
            if op.out.dtype not in (*DTYPES, ROUNDED):
                raise TraceError(f"unknown dtype {op.out.dtype!r} in {op}")
            if op.name in ("reshape", "permute") and op.out.size != op.reads[0].size:
                raise TraceError(f"{op.name} changes the number of elements: {op}")
            known[op.out.number] = op.out
        for value in self.outputs:
            if known.get(value.number) != value:
                raise TraceError(f"the result holds {value}, which nothing makes")

    def __str__(self) -> str:
        given = [f"{value!s:>5}: {value.dtype}{list(value.shape)}" for value in self.inputs]
        return "\n".join([*given, *map(str, self.ops), f"return {self.result}"])
