"""The buffers that temporary values take turns in."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from nnx.compiler.ir.graph import Graph, Value, nbytes
from nnx.compiler.passes.alias import MayAlias, Part, elementwise_arguments, may_overwrite, owner
from nnx.compiler.passes.fuse import Group

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
) -> Buffers:
    """Return the buffers of all temporary values that are no parts of others.

    A value takes over the place of one that its group reads last, else the smallest free buffer that fits, else the
    largest free one, which grows. `size` returns the bytes of a value; 0 for one in no buffer.
    """
    first, last = _lifetimes(graph, groups, parts)
    found = Buffers([], {}, {})
    until: list[Time] = []  # the last use of each buffer
    makers = {op.out: (g, k) for g, group in enumerate(groups) for k, op in enumerate(group.ops)}

    def overwritten(value: Value) -> Value | None:
        """Return a value of the same form in whose place this one can be written."""
        g, k = makers[value]
        for x in (x for op in groups[g].ops[k::-1] for x in op.reads if x in found.buffer):
            alike = (x.shape, x.dtype, size(x)) == (value.shape, value.dtype, size(value))
            free = last[x][0] == g and last[x] >= first[value] and x not in found.overwrites.values()
            if alike and free and may_overwrite(graph, groups[g].ops, k, x, may_alias, reads_once=False):
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


def _lifetimes(
    graph: Graph, groups: Sequence[Group], parts: Mapping[Value, Part]
) -> tuple[dict[Value, Time], dict[Value, Time]]:
    """Return the first and the last use of the memory of each value.

    What is not internal to a group is there from its first operation to its last one.
    """
    first: dict[Value, Time] = {}
    last: dict[Value, Time] = {}
    for g, group in enumerate(groups):
        for k, op in enumerate(group.ops):
            first.setdefault(owner(op.out, parts), (g, k if op.out in group.internal else 0))
            for x in (op.out, *map(graph.base, op.reads)):
                if owner(x, parts) in first:
                    last[owner(x, parts)] = (g, k if x in group.internal else len(group.ops))
    return first, last
