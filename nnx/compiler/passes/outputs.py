"""Results of their own: every array of a graph's result is made by one operation, and is nothing else."""

from collections.abc import Callable
from typing import Any

from nnx.compiler.ir.graph import Graph, Op, Value
from nnx.support.tree import mapped


def own_outputs(graph: Graph) -> Graph:
    """Return the graph with a copy wherever its result has an input, a view, a constant, or one array twice.

    A renderer can then write each result straight into an array that the caller hands in.
    """
    taken = {*graph.inputs, *graph.constants()}

    def is_taken(x: Value) -> bool:
        found = x in taken or graph.makers[x].kind == "view"
        taken.add(x)
        return found

    return with_copies(graph, is_taken)


def with_copies(graph: Graph, wanted: Callable[[Value], bool]) -> Graph:
    """Return the graph with a copy, made at its end, of each array of its result for which it is wanted."""
    copies: list[Op] = []

    def copied(leaf: Any) -> Any:
        if not isinstance(leaf, Value) or not wanted(leaf):
            return leaf
        out = Value(graph.next_number + len(copies), leaf.shape, leaf.dtype)
        copies.append(Op("copy", (leaf,), out))
        return out

    result = mapped(graph.result, copied)
    return Graph(graph.inputs, (*graph.ops, *copies), graph.arguments, result)
