"""Which operations are done in one loop: elementwise ones over the same elements, and reductions of what they make."""

from collections.abc import Callable, Hashable
from typing import NamedTuple

from nnx.compiler.ir.graph import Graph, Op, Value


class Group(NamedTuple):
    """Operations that are done one after the other for each element (or each block of them).

    Attributes
    ----------
    ops : tuple of Op
    iteration_space : hashable, or None
        What the operations have in common; None: a single operation, by itself.
    internal : frozenset of Value
        What they make and no other group reads: it need never be in memory as a whole.
    """

    ops: tuple[Op, ...]
    iteration_space: Hashable
    internal: frozenset[Value]


def computed(graph: Graph) -> list[Op]:
    """Return the operations that are done in each call: all but views and constants."""
    constants = graph.constants()
    return [op for op in graph.ops if op.kind != "view" and op.out not in constants]


def singles(graph: Graph) -> list[Group]:
    """Return each operation as a group by itself."""
    return [Group((op,), None, frozenset()) for op in computed(graph)]


def fused(graph: Graph, iteration_space: Callable[[Op], Hashable]) -> list[Group]:
    """Return the operations in groups, in an order in which they can be done.

    Parameters
    ----------
    graph : Graph
    iteration_space : callable
        What the operations of a group must have in common, usually the shape that they go over; None for one that
        stays by itself.

    Notes
    -----
    A group's operations read each other's results element by element: not through a view, and not a reduction's.
    Small operations that depend on the inputs alone (the factors of Adam, from t) come first, so that they do not
    stand between those that read them.

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
    todo = computed(graph)
    in_memory = _in_memory(graph, todo, iteration_space)
    at: dict[Value, int] = {}
    groups: list[list[Op]] = []
    spaces: list[Hashable] = []
    for op in _small_first(graph, todo):
        key = iteration_space(op)
        lowest = _lowest(graph, op, key, at, spaces)
        if op.kind == "elementwise" and all(graph.base(value) in in_memory for value in op.reads):
            lowest = max(
                lowest, len(groups) - 1
            )  # as late as possible: its result takes memory until it is read
        fitting = [
            g
            for g in range(lowest, len(groups))
            if key is not None and spaces[g] == key and _same_axes(op, groups[g])
        ]
        if not fitting:
            fitting = [len(groups)]
            groups.append([])
            spaces.append(key)
        groups[fitting[0]].append(op)
        at[op.out] = fitting[0]
    return _with_internal(graph, groups, spaces)


def _lowest(graph: Graph, op: Op, key: Hashable, at: dict[Value, int], spaces: list[Hashable]) -> int:
    """Return the first group in which all that an operation reads is there."""
    lowest = 0
    for value in op.reads:
        base = graph.base(value)
        if base in at:
            direct = value == base and graph.makers[base].kind == "elementwise" and key is not None
            lowest = max(lowest, at[base] + (0 if direct and spaces[at[base]] == key else 1))
    return lowest


def _with_internal(graph: Graph, groups: list[list[Op]], spaces: list[Hashable]) -> list[Group]:
    """Return the groups with the values that no other group reads. A view reads a value as a whole."""
    readers: dict[Value, set[int]] = {}
    for g, ops in enumerate(groups):
        for value in (value for op in ops for value in op.reads):
            base = graph.base(value)
            readers.setdefault(base, set()).add(g if base == value else -1)
    for value in graph.outputs:
        readers.setdefault(graph.base(value), set()).add(-1)
    return [
        Group(tuple(ops), spaces[g], frozenset(op.out for op in ops if readers.get(op.out) == {g}))
        for g, ops in enumerate(groups)
    ]


def _in_memory(graph: Graph, ops: list[Op], iteration_space: Callable[[Op], Hashable]) -> set[Value]:
    """Return the values that are in memory as a whole in any case."""
    found = {*graph.inputs, *graph.constants(), *map(graph.base, graph.outputs)}
    for op in ops:
        for value in op.reads:
            if iteration_space(op) is None or value != graph.base(value):
                found.add(graph.base(value))
    return found


def _same_axes(op: Op, ops: list[Op]) -> bool:
    """Whether all reductions of a group with one more operation go along the same axes: threads can divide it then."""
    return op.kind != "reduction" or all(
        other.option("axes") == op.option("axes") for other in ops if other.kind == "reduction"
    )


def _small_first(graph: Graph, ops: list[Op]) -> list[Op]:
    """Return the operations with those on single numbers that depend on the inputs alone in front."""
    early: set[Value] = {*graph.inputs, *graph.constants()}
    first: list[Op] = []
    rest: list[Op] = []
    for op in ops:
        of_inputs = all(graph.base(value) in early for value in op.reads)
        if op.out.size == 1 and of_inputs and op.kind == "elementwise":
            early.add(op.out)
            first.append(op)
        else:
            rest.append(op)
    return first + rest
