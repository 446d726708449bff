"""Where values lie: which share memory, and the buffers that temporary ones take turns in."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from nnx.compiler.ir import views
from nnx.compiler.ir.graph import Graph, Op, Value, nbytes
from nnx.compiler.passes.fuse import Group

MayAlias = Callable[[Op], tuple[Value, ...]]
"""The arguments of an operation in whose memory its result may be written, if nothing reads them later."""


def elementwise_arguments(op: Op) -> tuple[Value, ...]:
    """Return the arguments that an elementwise operation, or a sum over ranks, may be written over."""
    return op.reads if op.kind in ("elementwise", "all_reduce") else ()


class Part(NamedTuple):
    """A value that is written straight into its place in the result of a concat: whole[start:stop] along an axis."""

    whole: Value
    axis: int
    start: int
    stop: int


def parts_of_concats(graph: Graph, groups: Sequence[Group]) -> dict[Value, Part]:
    """Return the values that can be written straight into the result of a concat.

    A concat may be a vector but for some parts, as theta with other running means: the vector is written there, and
    those parts over it.
    """
    parts: dict[Value, Part] = {}
    written = {op.out for group in groups for op in group.ops}
    for op in (op for group in groups for op in group.ops if op.name == "concat"):
        updated = next(
            (x for x in map(graph.base, op.reads) if x in written and is_updated(graph, x, op)), None
        )
        if updated is not None and updated not in (*graph.outputs, *parts):
            parts[updated] = Part(op.out, 0, 0, updated.size)
            continue
        for arg, start, stop in op.joined:
            value = graph.base(arg)
            if value not in written or value in graph.outputs or value in parts:
                continue
            only_reshaped = all(view.name == "reshape" for view in graph.views(arg))
            strides = views.contiguous(op.out.shape)  # those of the slice, too
            if only_reshaped and views.reshaped(arg.shape, strides, value.shape) is not None:
                parts[value] = Part(op.out, op.option("axis"), start, stop)
    return parts


def is_updated(graph: Graph, vector: Value, concat: Op) -> bool:
    """Whether a concat has parts of a vector where they are there, and nothing else reads the vector."""
    if vector.ndim != 1 or vector.shape != concat.out.shape:
        return False
    there = {
        x
        for x, start, stop in concat.joined
        if graph.extent(x) == (vector, start, stop) and _is_flat(graph, x)
    }
    reads = (x for op in graph.ops if op.kind != "view" for x in op.reads)
    return all(x in there for x in reads if graph.base(x) == vector)


def _is_flat(graph: Graph, value: Value) -> bool:
    """Whether a value is a slice in another shape."""
    return all(op.name == "reshape" for op in graph.views(value)[1:])


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
        once = reads_once and not groups[g].phases  # each phase reads what it needs anew
        if not later and may_overwrite(graph, groups[g].ops, k, old, may_alias, once):
            found.add(new)
    return found


Time: TypeAlias = tuple[int, int]
"""The number of a group, and of an operation in it."""


class Buffers(NamedTuple):
    """The bytes of each buffer, the buffer of each temporary value, and the value that it is written over."""

    sizes: list[int]
    buffer: dict[Value, int]
    overwrites: dict[Value, Value]


def buffers(
    graph: Graph,
    groups: Sequence[Group],
    parts: Mapping[Value, Part],
    size: Callable[[Value], int] = nbytes,
    may_alias: MayAlias = elementwise_arguments,
    beside: int = 0,
) -> Buffers:
    """Return the buffers of all temporary values that are no parts of others.

    A value takes over the place of one that its group reads last, else the smallest free buffer that fits, else the
    largest free one, which grows. `size` returns the bytes of a value; 0 for one in no buffer. Values of up to
    `beside` bytes last until a group that reads or makes them must be done: see `last_times`.
    """
    ends = last_times(graph, groups)
    first, last = _lifetimes(graph, groups, parts, lambda g, x: ends[g] if size(x) <= beside else g)
    found = Buffers([], {}, {})
    until: list[Time] = []  # the last use of each buffer
    makers = {op.out: (g, k) for g, group in enumerate(groups) for k, op in enumerate(group.ops)}

    def overwritten(value: Value) -> Value | None:
        """Return a value of the same form in whose place this one can be written."""
        g, k = makers[value]
        for x in (x for op in groups[g].ops[k::-1] for x in op.reads if x in found.buffer):
            free = last[x][0] == g and last[x] >= first[value] and x not in found.overwrites.values()
            alike = free and (x.shape, x.dtype, size(x)) == (value.shape, value.dtype, size(value))
            if alike and may_overwrite(graph, groups[g].ops, k, x, may_alias, reads_once=False):
                return x
        return None

    for value in sorted(first.keys() - set(graph.outputs), key=lambda x: (first[x], x.number)):
        n, sizes = size(value), found.sizes
        if n == 0:
            continue
        free = [b for b, end in enumerate(until) if end < first[value]]
        if (before := overwritten(value)) is not None:
            found.overwrites[value], b = before, found.buffer[before]
        elif free:  # the smallest that fits, else the largest
            b = min(free, key=lambda b: (sizes[b] < n, abs(sizes[b] - n)))
            sizes[b] = max(sizes[b], n)
        else:
            b = len(sizes)
            sizes.append(n)
            until.append(last[value])
        found.buffer[value], until[b] = b, last[value]
    return found


def last_times(graph: Graph, groups: Sequence[Group]) -> list[int]:
    """Return for each group the last one beside which it may still run: the next one reads what it makes."""
    makers = {op.out: g for g, group in enumerate(groups) for op in group.ops}
    ends = [len(groups) - 1] * len(groups)
    for g, group in enumerate(groups):
        for x in (graph.base(x) for op in group.ops for x in op.reads):
            if makers.get(x, g) < g:
                ends[makers[x]] = min(ends[makers[x]], g - 1)
    return ends


def _lifetimes(
    graph: Graph, groups: Sequence[Group], parts: Mapping[Value, Part], until: Callable[[int, Value], int]
) -> tuple[dict[Value, Time], dict[Value, Time]]:
    """Return the first and the last use of the memory of each value.

    What is not internal to a group is there from its first operation to its last one, or to that of the group
    `until(group, value)`.
    """
    first: dict[Value, Time] = {}
    last: dict[Value, Time] = {}
    for g, group in enumerate(groups):
        for k, op in enumerate(group.ops):
            first.setdefault(owner(op.out, parts), (g, k if op.out in group.internal else 0))
            for x in (op.out, *map(graph.base, op.reads)):
                whole = owner(x, parts)
                if whole in first:
                    end = max(until(g, whole), g)
                    here = (end, k if x in group.internal and end == g else len(groups[end].ops))
                    last[whole] = max(last.get(whole, here), here)
    return first, last
