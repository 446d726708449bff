"""Which operations are done in one loop: elementwise ones over the same elements, and sums of what they make."""

from collections.abc import Callable, Hashable
from typing import NamedTuple

from nnx.compiler.ir.graph import Graph, Op, Value


class Group(NamedTuple):
    """Operations that are done one after the other for each element (or each block of them).

    Attributes
    ----------
    ops : tuple of Op
    space : hashable, or None
        What the operations have in common; None: a single operation, by itself.
    inner : frozenset of Value
        What they make and nobody else reads: it need never be in memory as a whole.
    """

    ops: tuple[Op, ...]
    space: Hashable
    inner: frozenset[Value]


def fused(graph: Graph, space: Callable[[Op], Hashable]) -> list[Group]:
    """Return all operations but views and constants, in groups, in an order in which they can be done.

    Parameters
    ----------
    graph : Graph
    space : callable
        What the operations of a group must have in common, usually the shape that they go over; None for one that
        stays by itself.

    Notes
    -----
    A group's operations read each other's results element by element: not through a view, and not a reduction's.
    What depends on the inputs alone and is small (the factors of Adam, from t) is done first, so that it does not
    stand between those that need it.

    Examples
    --------
    >>> import numpy as np
    >>> from nnx.array.namespace import array_namespace
    >>> from nnx.compiler import trace
    >>> def softmax(Z):
    ...     xp = array_namespace(Z)
    ...     E = xp.exp(Z - xp.max(Z, axis=-2, keepdims=True))
    ...     return E / xp.sum(E, axis=-2, keepdims=True)
    >>> graph = trace(softmax, np.zeros((3, 4)))
    >>> [[op.name for op in group.ops] for group in fused(graph, lambda op: op.reads[0].shape)]
    [['max'], ['subtract', 'exp', 'sum'], ['divide']]
    """
    constants = graph.constants()
    todo = [op for op in graph.ops if op.kind != "view" and op.out not in constants]
    whole = _whole(graph, todo, space)
    at: dict[Value, int] = {}
    groups: list[list[Op]] = []
    spaces: list[Hashable] = []
    for op in _small_first(graph, todo):
        key = space(op)
        lowest = 0
        for value in op.reads:
            base = graph.base(value)
            if base in at:
                direct = value == base and graph.makers[base].kind == "elementwise" and key is not None
                lowest = max(lowest, at[base] + (0 if direct and spaces[at[base]] == key else 1))
        if op.kind == "elementwise" and all(graph.base(value) in whole for value in op.reads):
            lowest = max(
                lowest, len(groups) - 1
            )  # as late as it can be: its result need not be kept till then
        fitting = [
            g
            for g in range(lowest, len(groups))
            if key is not None and spaces[g] == key and _same_way(op, groups[g])
        ]
        if not fitting:
            fitting = [len(groups)]
            groups.append([])
            spaces.append(key)
        groups[fitting[0]].append(op)
        at[op.out] = fitting[0]

    readers: dict[Value, set[int]] = {}
    for g, ops in enumerate(groups):
        for op in ops:
            for value in op.reads:
                # Through a view a value is read as a whole.
                readers.setdefault(graph.base(value), set()).add(g if graph.base(value) == value else -1)
    for value in graph.outputs:
        readers.setdefault(graph.base(value), set()).add(-1)
    return [
        Group(tuple(ops), spaces[g], frozenset(op.out for op in ops if readers.get(op.out) == {g}))
        for g, ops in enumerate(groups)
    ]


def _whole(graph: Graph, ops: list[Op], space: Callable[[Op], Hashable]) -> set[Value]:
    """Return the values that are in memory as a whole in any case."""
    found = {*graph.inputs, *graph.constants(), *map(graph.base, graph.outputs)}
    for op in ops:
        for value in op.reads:
            if space(op) is None or value != graph.base(value):
                found.add(graph.base(value))
    return found


def _same_way(op: Op, ops: list[Op]) -> bool:
    """Whether all sums of a group with one more operation go along the same axes, so that it can be shared out."""
    return op.kind != "reduction" or all(
        other.option("axes") == op.option("axes") for other in ops if other.kind == "reduction"
    )


def _small_first(graph: Graph, ops: list[Op]) -> list[Op]:
    """Return the operations with those on single numbers that depend on the inputs alone in front."""
    early: set[Value] = {*graph.inputs, *graph.constants()}
    first: list[Op] = []
    rest: list[Op] = []
    for op in ops:
        if (
            op.out.size == 1
            and all(graph.base(value) in early for value in op.reads)
            and op.kind == "elementwise"
        ):
            early.add(op.out)
            first.append(op)
        else:
            rest.append(op)
    return first + rest
