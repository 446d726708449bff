"""Results of their own: every array of a graph's result is made by one operation, and is nothing else."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from nnx.compiler.ir.graph import Graph, Op, Value
from nnx.compiler.ir.operations import TraceError
from nnx.support.tree import mapped


def step_graph(graph: Graph) -> tuple[Graph, dict[Value, Value]]:
    """Return the graph of a traced training step, step(state, batch) -> (state, J), ready for its schedule, and slots.

    Its result is ({name: new array}, J) with the arrays that change, each of its own. The slots have the old value for
    each new one: the new may be written into the same array.

    Raises
    ------
    TraceError
        When the arrays of the new state have other names, shapes or dtypes than those of the old one.
    """
    old, (new, J) = graph.arguments[0], graph.result
    forms = [{name: (x.shape, x.dtype) for name, x in state.items()} for state in (old, new)]
    if forms[0] != forms[1]:
        raise TraceError("the new state's arrays have other names, shapes or dtypes than the old one's")
    changed = {name: new[name] for name in old if new[name] != old[name]}
    graph = own_outputs(replace(graph, result=(changed, J)))
    return graph, {x: old[name] for name, x in graph.result[0].items()}


def own_outputs(graph: Graph) -> Graph:
    """Return the graph with a copy wherever its result has an input, a view, a constant, or one array twice.

    A renderer can then write each result straight into an array that the caller hands in.
    """
    taken = {*graph.inputs, *graph.constants}

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
    return replace(graph, ops=(*graph.ops, *copies), result=result)
