"""Where the arrays of a graph lie: which share memory, are slices of others, take turns in a buffer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from nnx.compiler.ir import views
from nnx.compiler.ir.graph import Graph, Op, Value
from nnx.compiler.passes.fuse import Group

BYTES = {"bool": 1, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "float32": 4}


class Part(NamedTuple):
    """A value that is written straight into its place in the result of a concat."""

    whole: Value
    axis: int
    start: int
    stop: int


@dataclass(frozen=True)
class Plan:
    """Where the values of a graph lie.

    Attributes
    ----------
    parts : dict of Value to Part
        Those that are written into a slice of another.
    shared : dict of Value to Value
        Those that have the memory of another of their size and dtype, which is made when they are read last.
    buffers : tuple of int
        The bytes of the buffers that temporary values take turns in.
    buffer : dict of Value to int
        The buffer of every temporary value that is in neither `parts` nor `shared`.
    """

    parts: dict[Value, Part]
    shared: dict[Value, Value]
    buffers: tuple[int, ...]
    buffer: dict[Value, int]

    def owner(self, value: Value) -> Value:
        """Return the value whose memory a value is in; of most their own."""
        while True:
            if value in self.shared:
                value = self.shared[value]
            elif value in self.parts:
                value = self.parts[value].whole
            else:
                return value


def nbytes(value: Value) -> int:
    """Return the bytes of a value."""
    return value.size * BYTES.get(value.dtype, 8)


def over(op: Op) -> tuple[Value, ...]:
    """Return the arguments in whose memory the result may be written, if they are not needed after it."""
    return op.reads if op.kind == "elementwise" else ()


def planned(
    graph: Graph,
    groups: Sequence[Group] | None = None,
    over: Callable[[Op], tuple[Value, ...]] = over,
    inner: Callable[[Value], int] = nbytes,
) -> Plan:
    """Return where everything lies when the groups are done in order.

    Parameters
    ----------
    graph : Graph
    groups : sequence of Group, or None
        See `fused`. None: each operation by itself.
    over : callable
        See `over`; of the same shape and dtype as the result.
    inner : callable
        The bytes that are needed of a value that never leaves its group.

    Examples
    --------
    Two halves of a gradient are written where they belong, and the square where its root was:

    >>> import numpy as np
    >>> from nnx.array.namespace import array_namespace
    >>> from nnx.compiler import trace
    >>> def f(x):
    ...     xp = array_namespace(x)
    ...     return xp.sum(xp.concat([xp.exp(x), xp.sqrt(x) ** 2]))
    >>> plan = planned(trace(f, np.zeros(4)))
    >>> [(str(value), str(part.whole), part.start, part.stop) for value, part in plan.parts.items()]
    [('%1', '%4', 0, 4), ('%3', '%4', 4, 8)]
    >>> [(str(value), str(other)) for value, other in plan.shared.items()], plan.buffers
    ([('%2', '%3')], (64,))
    """
    if groups is None:
        constants = graph.constants()
        each = [op for op in graph.ops if op.kind != "view" and op.out not in constants]
        groups = [Group((op,), None, frozenset()) for op in each]
    ops = [op for group in groups for op in group.ops]
    begins: list[int] = []  # of an operation's group, and its end
    ends: list[int] = []
    for group in groups:
        start = len(begins)
        begins += [start] * len(group.ops)
        ends += [start + len(group.ops) - 1] * len(group.ops)
    within = frozenset().union(*(group.inner for group in groups))
    parts = _parts(graph, {op.out for op in ops})

    born, dies = _lives(graph, ops)
    # What a group reads through a view it reads as a whole, at any time within its loop.
    viewed = [
        {graph.base(x) for op in group.ops for x in op.reads if x != graph.base(x)}
        for group in groups
        for _ in group.ops
    ]
    shared: dict[Value, Value] = {}
    fixed = {*parts, *graph.outputs, *(part.whole for part in parts.values())}
    for at in range(len(ops) - 1, -1, -1):
        out = ops[at].out
        for value in over(ops[at]):
            free = value in born and value not in fixed and value not in shared and dies[value] == at
            free = free and value not in viewed[at]
            if free and (value.shape, value.dtype) == (out.shape, out.dtype):
                shared[value] = out
                break

    plan = Plan(parts, shared, (), {})
    first: dict[Value, int] = {}
    last: dict[Value, int] = {}
    small: dict[Value, bool] = {}
    for value in born:
        owner = plan.owner(value)
        whole = value not in within  # it is there when its group begins, and to its end
        a, z = born[value], dies[value]
        a, z = (begins[a], ends[z] if z < len(ops) else z) if whole else (a, z)
        first[owner] = min(a, first.get(owner, len(ops)))
        last[owner] = max(z, last.get(owner, 0))
        small[owner] = small.get(owner, True) and not whole
    temporary = sorted((v for v in first if v not in graph.outputs), key=lambda v: (first[v], v.number))
    sizes = {value: inner(value) if small[value] else nbytes(value) for value in temporary}
    buffers, buffer = _scanned({value: size for value, size in sizes.items() if size}, first, last)
    return Plan(parts, shared, tuple(buffers), buffer)


def _parts(graph: Graph, written: set[Value]) -> dict[Value, Part]:
    """Return the values that can be written straight into the result of a concat."""
    parts: dict[Value, Part] = {}
    outputs = set(graph.outputs)
    for op in graph.ops:
        if op.name != "concat" or op.out not in written:
            continue
        axis, at = op.option("axis"), 0
        for arg in op.reads:
            start, at = at, at + arg.shape[axis]
            value = graph.base(arg)
            if value not in written or value in outputs or value in parts or value == op.out:
                continue
            only_reshaped = all(view.name == "reshape" for view in graph.views(arg))
            strides = views.contiguous(op.out.shape)  # those of the slice, too
            if only_reshaped and views.reshaped(arg.shape, strides, value.shape) is not None:
                parts[value] = Part(op.out, axis, start, at)
    return parts


def _lives(graph: Graph, ops: Sequence[Op]) -> tuple[dict[Value, int], dict[Value, int]]:
    """Return the operation that makes each value, and the last that reads it or a view of it."""
    born = {op.out: at for at, op in enumerate(ops)}
    dies = dict(born)
    for at, op in enumerate(ops):
        for value in op.reads:
            base = graph.base(value)
            if base in dies:
                dies[base] = max(dies[base], at)
    for value in graph.outputs:
        base = graph.base(value)
        if base in dies:
            dies[base] = len(ops)
    return born, dies


def _scanned(
    sizes: Mapping[Value, int], first: Mapping[Value, int], last: Mapping[Value, int]
) -> tuple[list[int], dict[Value, int]]:
    """Give each value a buffer that nothing lives in at the same time: the fitting one, or one that grows."""
    buffers: list[int] = []
    buffer: dict[Value, int] = {}
    busy: list[tuple[int, int]] = []  # until when, which
    free: list[int] = []
    for value, size in sizes.items():
        free += [which for until, which in busy if until < first[value]]
        busy = [(until, which) for until, which in busy if until >= first[value]]
        fitting = [which for which in free if buffers[which] >= size]
        if fitting:
            which = min(fitting, key=lambda b: buffers[b])
        elif free:
            which = max(free, key=lambda b: buffers[b])
            buffers[which] = size
        else:
            which = len(buffers)
            buffers.append(size)
        if which in free:
            free.remove(which)
        buffer[value] = which
        busy.append((last[value], which))
    return buffers, buffer
