"""Where the arrays of a recording lie: which share memory, which are slices of another, which buffers are used again."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from nnx.recording import views
from nnx.recording.recording import Op, Recording, Value

BYTES = {"bool": 1, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "float32": 4}


class Node(NamedTuple):
    """What is done at once: one operation, or several in one loop."""

    reads: tuple[Value, ...]
    writes: tuple[Value, ...]
    over: tuple[Value, ...] = ()
    """Those that are read element by element, so that one of `writes` may take their memory."""


class Part(NamedTuple):
    """A value that is written straight into its place in the result of a concat."""

    whole: Value
    axis: int
    start: int
    stop: int


@dataclass(frozen=True)
class Plan:
    """Where the values of a recording lie.

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


def planned(recording: Recording, nodes: Sequence[Node] | None = None) -> Plan:
    """Return where everything lies when the nodes are done in order.

    Parameters
    ----------
    recording : Recording
    nodes : sequence of Node, or None
        None: each operation by itself.

    Examples
    --------
    Two halves of a gradient are written where they belong, and the square where its root was:

    >>> import numpy as np
    >>> from nnx.arrays import array_namespace
    >>> from nnx.recording import record
    >>> def f(x):
    ...     xp = array_namespace(x)
    ...     return xp.sum(xp.concat([xp.exp(x), xp.sqrt(x) ** 2]))
    >>> plan = planned(record(f, np.zeros(4)))
    >>> [(str(value), str(part.whole), part.start, part.stop) for value, part in plan.parts.items()]
    [('%1', '%4', 0, 4), ('%3', '%4', 4, 8)]
    >>> [(str(value), str(other)) for value, other in plan.shared.items()], plan.buffers
    ([('%2', '%3')], (64,))
    """
    constants = recording.constants()
    if nodes is None:
        nodes = [node(op) for op in recording.ops if op.kind != "view" and op.out not in constants]
    written = {value for one in nodes for value in one.writes}
    parts = _parts(recording, written)

    born, dies = _lives(recording, nodes, parts)
    shared: dict[Value, Value] = {}
    fixed = {*parts, *recording.outputs}
    for at in range(len(nodes) - 1, -1, -1):
        free = [v for v in nodes[at].over if v in written and v not in fixed and v not in shared and dies[v] == at]
        free = [v for v in free if v not in {part.whole for part in parts.values()}]
        for out in nodes[at].writes:
            for v in free:
                if (v.shape, v.dtype) == (out.shape, out.dtype):
                    shared[v] = out
                    free.remove(v)
                    break

    plan = Plan(parts, shared, (), {})
    first: dict[Value, int] = {}
    last: dict[Value, int] = {}
    for value in written:
        owner = plan.owner(value)
        first[owner] = min(born[value], first.get(owner, len(nodes)))
        last[owner] = max(dies[value], last.get(owner, 0))
    temporary = [value for value in first if value not in recording.outputs]
    buffers, buffer = _scanned(sorted(temporary, key=lambda v: (first[v], v.number)), first, last)
    return Plan(parts, shared, tuple(buffers), buffer)


def node(op: Op) -> Node:
    """Return an operation as a node by itself."""
    over: Iterable[Value] = op.reads if op.kind == "elementwise" else ()
    if op.name == "where":  # is done as a copy of its last, over which the other is written
        over = op.reads[-1:] if isinstance(op.args[2], Value) and op.args[2] not in op.args[:2] else ()
    return Node(op.reads, (op.out,), tuple(v for v in over if v.shape == op.out.shape))


def _parts(recording: Recording, written: set[Value]) -> dict[Value, Part]:
    """Return the values that can be written straight into the result of a concat."""
    parts: dict[Value, Part] = {}
    outputs = set(recording.outputs)
    for op in recording.ops:
        if op.name != "concat" or op.out not in written:
            continue
        axis, at = op.option("axis"), 0
        for arg in op.reads:
            start, at = at, at + arg.shape[axis]
            value = recording.base(arg)
            if value not in written or value in outputs or value in parts or value == op.out:
                continue
            only_reshaped = all(view.name == "reshape" for view in recording.views(arg))
            strides = views.contiguous(op.out.shape)  # those of the slice, too
            if only_reshaped and views.reshaped(arg.shape, strides, value.shape) is not None:
                parts[value] = Part(op.out, axis, start, at)
    return parts


def _lives(
    recording: Recording, nodes: Sequence[Node], parts: dict[Value, Part]
) -> tuple[dict[Value, int], dict[Value, int]]:
    """Return the node that makes each value, and the last that reads it or a view of it."""
    born = {value: at for at, one in enumerate(nodes) for value in one.writes}
    dies = dict(born)
    for at, one in enumerate(nodes):
        for value in one.reads:
            base = recording.base(value)
            if base in dies:
                dies[base] = max(dies[base], at)
    for value in recording.outputs:
        base = recording.base(value)
        if base in dies:
            dies[base] = len(nodes)
    return born, dies


def _scanned(
    values: Sequence[Value], first: dict[Value, int], last: dict[Value, int]
) -> tuple[list[int], dict[Value, int]]:
    """Give each value a buffer that nothing lives in at the same time: the fitting one, or one that grows."""
    buffers: list[int] = []
    buffer: dict[Value, int] = {}
    busy: list[tuple[int, int]] = []  # until when, which
    free: list[int] = []
    for value in values:
        free += [which for until, which in busy if until < first[value]]
        busy = [(until, which) for until, which in busy if until >= first[value]]
        size = nbytes(value)
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

