"""Which operations are done in one loop: elementwise ones over the same elements, and reductions of what they make."""

from collections.abc import Callable, Hashable
from typing import NamedTuple

from nnx.compiler.ir.graph import Graph, Op, Value
from nnx.support.tree import leaves


class Group(NamedTuple):
    """Operations that are done one after the other for each element (or each block of them).

    They have their iteration space in common; None: a single operation, by itself. What is `internal` they make, and no
    other group reads: it need never be in memory as a whole. A group with `phases` does these one after the other for
    each column, see `nnx.compiler.passes.columns`.
    """

    ops: tuple[Op, ...]
    iteration_space: Hashable
    internal: frozenset[Value]
    phases: tuple["Group", ...] = ()


def fused(graph: Graph, iteration_space: Callable[[Op], Hashable]) -> list[Group]:
    """Return the operations that are done in each call (no views, no constants) in groups, in an order for them.

    `iteration_space` returns what the operations of a group must have in common, usually the shape that they go over;
    None for one that stays by itself. They read each other's results element by element: not through a view, and not a
    reduction's.
    """
    constants = graph.constants
    todo = [op for op in graph.ops if op.kind != "view" and op.out not in constants]
    in_memory = _in_memory(graph, todo, iteration_space)
    at: dict[Value, int] = {}
    groups: list[list[Op]] = []
    spaces: list[Hashable] = []
    latest = 0
    for op in _small_first(graph, todo):
        space = iteration_space(op)

        def is_beside(x: Value, space: Hashable = space) -> bool:
            """Whether an operation can be in the group that makes x."""
            return (
                x in at
                and space is not None
                and spaces[at[x]] == space
                and graph.makers[x].kind == "elementwise"
            )

        lowest = max(
            (at[graph.base(x)] + (not is_beside(x)) for x in op.reads if graph.base(x) in at), default=0
        )
        if op.kind == "elementwise" and all(graph.base(x) in in_memory for x in op.reads):
            lowest = max(lowest, latest)  # its result takes memory until it is read: late
        fitting = (g for g in range(lowest, len(groups)) if space is not None and spaces[g] == space)
        g = next((g for g in fitting if _same_axes(op, groups[g])), len(groups))
        if g == len(groups):
            groups.append([])
            spaces.append(space)
            latest = latest if space == () else g  # numbers stand between no arrays: as for `_small_first`
        groups[g].append(op)
        at[op.out] = g
    return _with_internal(graph, groups, spaces)


def _small_first(graph: Graph, ops: list[Op]) -> list[Op]:
    """Return the operations with those on single numbers and pairs that depend on the state alone in front.

    So Adam's factors, from t, and the keys of random masks do not stand between those that read them. What depends on
    a batch stays, also if it has two samples: the schedules of all numbers of samples are alike.
    """
    early = {x for x in leaves(graph.arguments[:1]) if isinstance(x, Value)} | graph.constants
    for op in ops:
        if op.out.size <= 2 and op.kind == "elementwise" and all(graph.base(x) in early for x in op.reads):
            early.add(op.out)
    return sorted(ops, key=lambda op: op.out not in early)


def _in_memory(graph: Graph, ops: list[Op], iteration_space: Callable[[Op], Hashable]) -> set[Value]:
    """Return the values that are in memory as a whole in any case."""
    reads = [(op, x) for op in ops for x in op.reads]
    whole = {graph.base(x) for op, x in reads if iteration_space(op) is None or x != graph.base(x)}
    return whole | {*graph.inputs, *graph.constants, *map(graph.base, graph.outputs)}


def _same_axes(op: Op, ops: list[Op]) -> bool:
    """Whether all reductions of a group with one more operation go along the same axes: threads can divide it then."""
    axes = {x.option("axes") for x in (op, *ops) if x.kind == "reduction"}
    return op.kind != "reduction" or len(axes) == 1


def _with_internal(graph: Graph, groups: list[list[Op]], spaces: list[Hashable]) -> list[Group]:
    """Return the groups with the values that no other group reads. A view reads a value as a whole."""
    readers: dict[Value, set[int]] = {graph.base(x): {-1} for x in graph.outputs}
    for g, ops in enumerate(groups):
        for x in (x for op in ops for x in op.reads):
            readers.setdefault(graph.base(x), set()).add(g if graph.base(x) == x else -1)
    return [
        Group(tuple(ops), spaces[g], frozenset(op.out for op in ops if readers.get(op.out) == {g}))
        for g, ops in enumerate(groups)
    ]
