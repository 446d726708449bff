"""Which values share memory: parts of a concat, and results written over what is not read any more."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from nnx.compiler.ir import views
from nnx.compiler.ir.graph import Graph, Op, Value
from nnx.compiler.passes.fuse import Group

MayAlias = Callable[[Op], tuple[Value, ...]]
"""The arguments of an operation in whose memory its result may be written, if nothing reads them later."""


def elementwise_arguments(op: Op) -> tuple[Value, ...]:
    """Return the arguments that an elementwise operation may be written over."""
    return op.reads if op.kind == "elementwise" else ()


class Part(NamedTuple):
    """A value that is written straight into its place in the result of a concat: whole[start:stop] along an axis."""

    whole: Value
    axis: int
    start: int
    stop: int


def parts_of_concats(graph: Graph, groups: Sequence[Group]) -> dict[Value, Part]:
    """Return the values that can be written straight into the result of a concat."""
    parts: dict[Value, Part] = {}
    written = {op.out for group in groups for op in group.ops}
    for op in (op for group in groups for op in group.ops if op.name == "concat"):
        for arg, start, stop in op.joined:
            value = graph.base(arg)
            if value not in written or value in graph.outputs or value in parts:
                continue
            only_reshaped = all(view.name == "reshape" for view in graph.views(arg))
            strides = views.contiguous(op.out.shape)  # those of the slice, too
            if only_reshaped and views.reshaped(arg.shape, strides, value.shape) is not None:
                parts[value] = Part(op.out, op.option("axis"), start, stop)
    return parts


def owner(value: Value, parts: Mapping[Value, Part]) -> Value:
    """Return the value whose memory a value is in: for most their own."""
    while value in parts:
        value = parts[value].whole
    return value


def may_overwrite(
    graph: Graph, ops: Sequence[Op], at: int, value: Value, may_alias: MayAlias, reads_once: bool
) -> bool:
    """Whether the operation ops[at] of a group may be written over a value that no later group reads.

    `reads_once`: the group is a loop that reads each element once, before it writes it, and keeps it in a register.
    Otherwise its operations go over memory one after the other.
    """
    reads = [(k, x) for k, op in enumerate(ops) for x in op.reads if graph.base(x) == value]
    if not reads:
        return True
    if any(x != value for _, x in reads):
        return False  # through a view any element may be read at any time
    last = min(reads)[0] if reads_once else max(reads)[0]
    return value in may_alias(ops[at]) if last == at else last < at and ops[at].kind == "elementwise"


def updated_in_place(
    graph: Graph,
    groups: Sequence[Group],
    slots: Mapping[Value, Value],
    may_alias: MayAlias,
    reads_once: bool,
) -> set[Value]:
    """Return the new values of the state (`slots`: with their old ones) that may be written over the old ones."""
    parts, found = parts_of_concats(graph, groups), set()
    for new, old in slots.items():
        g, k = next(
            (g, k)
            for g, group in enumerate(groups)
            for k, op in enumerate(group.ops)
            if owner(op.out, parts) == new
        )
        later = any(graph.base(x) == old for group in groups[g + 1 :] for op in group.ops for x in op.reads)
        if not later and may_overwrite(graph, groups[g].ops, k, old, may_alias, reads_once):
            found.add(new)
    return found
