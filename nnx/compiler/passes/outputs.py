"""Results of their own: every array of a graph's result is made by one operation, and is nothing else."""

from nnx.compiler.ir.graph import Graph, Op, Value
from nnx.support.tree import mapped


def own_outputs(graph: Graph) -> Graph:
    """Return the graph with a copy wherever its result has an input, a view, a constant, or one array twice.

    A renderer can then write each result straight into an array that the caller hands in.

    Examples
    --------
    >>> import numpy as np
    >>> from nnx.compiler import trace
    >>> print(own_outputs(trace(lambda x: (x, x[1:], x + 1), np.zeros(3))))
       %0: float64[3]
       %1: float64[2] = slice(%0, key=(1:3,))
       %2: float64[3] = %0 + 1.0
       %3: float64[3] = copy(%0)
       %4: float64[2] = copy(%1)
    return (%3, %4, %2)
    """
    constants, seen = graph.constants(), set(graph.inputs)
    number = max((value.number for value in (*graph.inputs, *graph.makers)), default=-1) + 1
    copies: list[Op] = []

    def owned(leaf: object) -> object:
        if not isinstance(leaf, Value):
            return leaf
        if leaf in seen or leaf in constants or graph.makers[leaf].kind == "view":
            copies.append(Op("copy", (leaf,), Value(number + len(copies), leaf.shape, leaf.dtype)))
            return copies[-1].out
        seen.add(leaf)
        return leaf

    result = mapped(graph.result, owned)
    return Graph(graph.inputs, (*graph.ops, *copies), graph.arguments, result) if copies else graph
