"""Loops over the same columns, one after the other: each column goes through all of them before the next one does.

A softmax needs the largest number of a column before it can subtract it, and the sum before it can divide. So it is
several groups, between which its values would go to memory and back. Yet no group reads more than its own column of
what the others make. Likewise numbers computed of sums, one for each, need not wait for all sums.
"""

from collections.abc import Callable

from nnx.compiler.ir.graph import Graph, Op, Value
from nnx.compiler.passes.fuse import Group


def by_columns(
    graph: Graph, groups: list[Group], wanted: Callable[[Op], bool], after_sums: bool = False
) -> list[Group]:
    """Return the groups with those in one, as its phases, that can be done column by column.

    `wanted` tells whether an operation is to be done so. A group joins the last one that it needs, if one of
    them has sums over columns: others keep their loops, whose elements all are independent. With `after_sums`, numbers
    that are computed of sums join these.
    """
    joined: list[list[Group]] = []
    at: dict[Value, int] = {}
    for group in groups:
        g = max((at[graph.base(x)] for op in group.ops for x in op.reads if graph.base(x) in at), default=-1)
        joins = g >= 0 and (
            _follows(graph, joined[g], group, wanted) or (after_sums and _is_of_sums(graph, joined[g], group))
        )
        if not joins:
            g = len(joined)
            joined.append([])
        joined[g].append(group)
        at |= {op.out: g for op in group.ops}
    readers: dict[Value, set[int]] = {graph.base(x): {-1} for x in graph.outputs}
    for g, some in enumerate(joined):
        for x in (x for group in some for op in group.ops for x in op.reads):
            readers.setdefault(graph.base(x), set()).add(g)
    return [
        some[0] if len(some) == 1 else _in_phases(some, lambda x, g=g: readers.get(x) == {g})  # type: ignore[misc]
        for g, some in enumerate(joined)
    ]


def _in_phases(groups: list[Group], is_internal: Callable[[Value], bool]) -> Group:
    """Return groups as the phases of one."""
    phases = [
        group._replace(internal=frozenset(op.out for op in group.ops if is_internal(op.out)))
        for group in groups
    ]
    ops = tuple(op for group in groups for op in group.ops)
    internal = frozenset().union(*(phase.internal for phase in phases))
    return Group(ops, groups[0].iteration_space, internal, tuple(phases))


def _follows(graph: Graph, some: list[Group], group: Group, wanted: Callable[[Op], bool]) -> bool:
    """Whether a group can be a further phase of some groups."""
    together = [*some, group]
    m = _columns(group)
    if m is None or any(_columns(one) != m for one in some):
        return False
    ops = [op for one in together for op in one.ops]
    if not all(map(wanted, ops)) or all(op.kind == "elementwise" for op in ops):
        return False
    made = {op.out for one in some for op in one.ops}
    reads = [x for op in group.ops for x in op.reads if graph.base(x) in made]
    return all(x in made or _is_a_number_for_each(graph, x, m) for x in reads)


def _is_of_sums(graph: Graph, some: list[Group], group: Group) -> bool:
    """Whether a group computes numbers of the results of sums, and of such numbers, one for each result."""
    sums, later = some[0], [op for one in (*some[1:], group) for op in one.ops]
    if None in (sums.iteration_space, group.iteration_space):
        return False
    numbers = {op.out for op in sums.ops if op.kind == "reduction"} | {op.out for op in later}
    sizes = {x.size for x in numbers}
    made = {op.out for one in some for op in one.ops}
    reads = [x for op in group.ops for x in op.reads if graph.base(x) in made]
    return len(sizes) == 1 and all(op.kind == "elementwise" for op in later) and numbers.issuperset(reads)


def _is_a_number_for_each(graph: Graph, value: Value, m: int) -> bool:
    """Whether a view has the numbers of a vector, one for each of m columns, in their order."""
    if value.shape[-1:] != (m,) or value.size != m or graph.base(value).size != m:
        return False
    for op in graph.views(value):
        steps = [k.step for k in op.option("key") if isinstance(k, slice)] if op.name == "slice" else []
        if op.name not in ("reshape", "slice") or any(step < 0 for step in steps):
            return False
    return True


def _columns(group: Group) -> int | None:
    """Return the number of columns that a group goes over, if it can do them one by one."""
    axes = {op.option("axes") for op in group.ops if op.kind == "reduction"}
    match group.iteration_space:
        case (int(m),) if not axes:
            return m
        case (int(), int(m)) if axes <= {(0,)}:
            return m
    return None
