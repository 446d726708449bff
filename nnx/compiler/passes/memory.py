"""The buffers that temporary values take turns in."""

from collections.abc import Callable, Mapping, Sequence

from nnx.compiler.ir.graph import Graph, Value, nbytes
from nnx.compiler.passes.alias import Aliases, lifetimes
from nnx.compiler.passes.fuse import Group


def buffers(
    graph: Graph,
    groups: Sequence[Group],
    aliases: Aliases,
    size: Callable[[Value], int] = nbytes,
) -> tuple[list[int], dict[Value, int]]:
    """Return the bytes of each buffer, and the buffer of every temporary value that owns its memory.

    Parameters
    ----------
    graph : Graph
    groups : sequence of Group
        In the order in which they are done.
    aliases : Aliases
    size : callable
        The bytes of a value; 0 for one in no buffer.

    Examples
    --------
    >>> import numpy as np
    >>> from nnx.array.namespace import array_namespace
    >>> from nnx.compiler import trace
    >>> from nnx.compiler.passes.alias import aliased
    >>> from nnx.compiler.passes.fuse import singles
    >>> graph = trace(lambda x, W: W @ (W @ (W @ (W @ x))), np.zeros((4, 1)), np.zeros((4, 4)))
    >>> sizes, which = buffers(graph, singles(graph), aliased(graph, singles(graph), {}))
    >>> sizes, {str(value): buffer for value, buffer in which.items()}
    ([32, 32], {'%2': 0, '%3': 1, '%4': 0})
    """
    first, last = _lifetimes_of_owners(graph, groups, aliases)
    outputs = set(graph.outputs)
    temporary = sorted((v for v in first if v not in outputs), key=lambda v: (first[v], v.number))
    return _scanned({value: size(value) for value in temporary if size(value)}, first, last)


def _lifetimes_of_owners(
    graph: Graph, groups: Sequence[Group], aliases: Aliases
) -> tuple[dict[Value, int], dict[Value, int]]:
    """Return the first and the last operation in which the memory of each owner is in use."""
    ops = [op for group in groups for op in group.ops]
    internal = frozenset().union(*(group.internal for group in groups))
    begins: list[int] = []  # of an operation's group, and its end
    ends: list[int] = []
    for group in groups:
        start = len(begins)
        begins += [start] * len(group.ops)
        ends += [start + len(group.ops) - 1] * len(group.ops)
    born, dies = lifetimes(graph, ops)
    first: dict[Value, int] = {}
    last: dict[Value, int] = {}
    for value in born:
        owner, a, z = aliases.owner(value), born[value], dies[value]
        if value not in internal:  # it is there when its group begins, and to its end
            a, z = begins[a], ends[z] if z < len(ops) else z
        first[owner] = min(a, first.get(owner, len(ops)))
        last[owner] = max(z, last.get(owner, 0))
    return first, last


def _scanned(
    sizes: Mapping[Value, int], first: Mapping[Value, int], last: Mapping[Value, int]
) -> tuple[list[int], dict[Value, int]]:
    """Give each value a buffer that is free while it lives: the smallest that fits, else the largest, which grows."""
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
