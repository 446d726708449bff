"""Which values share memory: parts of a concat, results written over an argument, and a state updated in place."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from nnx.compiler.ir import views
from nnx.compiler.ir.graph import Graph, Op, Value
from nnx.compiler.passes.fuse import Group

MayAlias = Callable[[Op], tuple[Value, ...]]
"""The arguments of an operation in whose memory its result may be written, if nothing reads them later."""


class Part(NamedTuple):
    """A value that is written straight into its place in the result of a concat: whole[start:stop] along an axis."""

    whole: Value
    axis: int
    start: int
    stop: int


@dataclass(frozen=True)
class Aliases:
    """Which values share memory.

    Attributes
    ----------
    parts : dict of Value to Part
    shared : dict of Value to Value
        A value, and another of its shape and dtype that takes over its memory at the value's last use.
    in_place : frozenset of Value
        The new values of the state that may be written over the old ones.
    """

    parts: dict[Value, Part]
    shared: dict[Value, Value]
    in_place: frozenset[Value] = frozenset()

    def owner(self, value: Value) -> Value:
        """Return the value whose memory a value is in: for most their own."""
        while value in self.shared or value in self.parts:
            value = self.shared[value] if value in self.shared else self.parts[value].whole
        return value


def elementwise_arguments(op: Op) -> tuple[Value, ...]:
    """Return the arguments that an elementwise operation may be written over."""
    return op.reads if op.kind == "elementwise" else ()


def aliased(
    graph: Graph,
    groups: Sequence[Group],
    slots: Mapping[Value, Value],
    may_alias: MayAlias = elementwise_arguments,
    reads_once: bool = True,
) -> Aliases:
    """Return which values share memory when the groups are done in order.

    Parameters
    ----------
    graph : Graph
    groups : sequence of Group
    slots : dict of Value to Value
        The old value of the state for each new one.
    may_alias : callable
    reads_once : bool
        Whether a group's loop reads each element once, before it writes it, and keeps what is internal in registers.
        False: its operations go over memory one after the other.

    Examples
    --------
    Two halves of a gradient are written where they belong, and the square where its root was:

    >>> import numpy as np
    >>> from nnx.array.namespace import array_namespace
    >>> from nnx.compiler import trace
    >>> from nnx.compiler.passes.fuse import singles
    >>> def f(x):
    ...     xp = array_namespace(x)
    ...     return xp.sum(xp.concat([xp.exp(x), xp.sqrt(x) ** 2]))
    >>> graph = trace(f, np.zeros(4))
    >>> found = aliased(graph, singles(graph), {})
    >>> [(str(value), str(part.whole), part.start, part.stop) for value, part in found.parts.items()]
    [('%1', '%4', 0, 4), ('%3', '%4', 4, 8)]
    >>> {str(value): str(other) for value, other in found.shared.items()}
    {'%2': '%3'}
    """
    parts = _parts(graph, {op.out for group in groups for op in group.ops})
    found = Aliases(parts, _shared(graph, groups, parts, slots, may_alias))
    in_place = frozenset(
        new
        for new, old in slots.items()
        if _is_in_place(graph, groups, found, new, old, may_alias, reads_once)
    )
    return Aliases(found.parts, found.shared, in_place)


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


def _shared(
    graph: Graph,
    groups: Sequence[Group],
    parts: Mapping[Value, Part],
    slots: Mapping[Value, Value],
    may_alias: MayAlias,
) -> dict[Value, Value]:
    """Return the values whose memory another one takes over."""
    ops = [op for group in groups for op in group.ops]
    born, dies = lifetimes(graph, ops)
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
        if slots.get(out) in ops[at].reads:
            continue  # it is written over the old state, which an earlier owner of its memory would have overwritten
        for value in may_alias(ops[at]):
            free = value in born and value not in fixed and value not in shared and dies[value] == at
            free = free and value not in viewed[at]
            if free and (value.shape, value.dtype) == (out.shape, out.dtype):
                shared[value] = out
                break
    return shared


def lifetimes(graph: Graph, ops: Sequence[Op]) -> tuple[dict[Value, int], dict[Value, int]]:
    """Return which operation makes each value, and which one reads it, or a view of it, last.

    Outputs live until after the last operation.
    """
    born = {op.out: at for at, op in enumerate(ops)}
    dies = dict(born)
    for at, op in enumerate(ops):
        for base in map(graph.base, op.reads):
            if base in dies:
                dies[base] = at
    dies |= {base: len(ops) for base in map(graph.base, graph.outputs) if base in dies}
    return born, dies


def _is_in_place(
    graph: Graph,
    groups: Sequence[Group],
    aliases: Aliases,
    new: Value,
    old: Value,
    may_alias: MayAlias,
    reads_once: bool,
) -> bool:
    """Whether nothing reads the old value any more once the memory of the new one is written."""
    places = [(g, k, op) for g, group in enumerate(groups) for k, op in enumerate(group.ops)]
    first, at, writer = next(
        (g, k, op)
        for g, k, op in places
        if aliases.owner(op.out) == new and not (reads_once and op.out in groups[g].internal)
    )
    reads = [(g, k, x) for g, k, op in places for x in op.reads if g >= first and graph.base(x) == old]
    if any(g > first or x != old for g, _, x in reads):
        return False
    when = [k for _, k, _ in reads]
    if not when:
        return True
    if reads_once and writer.kind != "elementwise":
        return False
    last = min(when) if reads_once else max(when)
    return last < at or (last == at and old in may_alias(writer))
