"""The compiler: a pure function of arrays becomes a graph of the standard's operations.

The function runs once on tracers, which know a shape and a dtype only. Each function of the standard that it calls
on them becomes an operation (`trace`). The graph is data: it can be printed, checked and run by any library.
"""

from collections.abc import Callable
from typing import Any

from nnx.compiler.ir.graph import Graph, Op, Value
from nnx.compiler.ir.namespace import Namespace
from nnx.compiler.ir.operations import TraceError
from nnx.compiler.ir.tracer import Tracer
from nnx.compiler.passes.outputs import own_outputs, step_graph
from nnx.compiler.passes.simplify import simplified
from nnx.support.tree import mapped

__all__ = [
    "Graph",
    "Op",
    "TraceError",
    "Value",
    "is_array",
    "own_outputs",
    "step_graph",
    "trace",
]


def is_array(x: Any) -> bool:
    """Whether a leaf of a tree of arguments is an array."""
    return hasattr(x, "shape") and hasattr(x, "dtype")


def trace(function: Callable[..., Any], *arguments: Any) -> Graph:
    """Return the graph of a pure function for arrays of these shapes and dtypes.

    Parameters
    ----------
    function : callable
        Pure, written with the standard's functions. It is called once.
    arguments : trees
        Dicts, tuples and lists with arrays, of which the shapes and dtypes count. All else in them (numbers, None)
        becomes part of the graph.

    Raises
    ------
    TraceError
        When the function reads an array's numbers, or calls a function that the standard or the tracer lacks.

    Examples
    --------
    >>> import numpy as np
    >>> from nnx.array.namespace import array_namespace
    >>> def cost(theta, X):
    ...     xp = array_namespace(theta)
    ...     W = xp.reshape(theta[:6], (2, 3))
    ...     return xp.mean((W @ X + 1) ** 2)
    >>> print(trace(cost, np.zeros(8), np.zeros((3, 5))))
       %0: float64[8]
       %1: float64[3, 5]
       %2: float64[6] = slice(%0, key=(0:6,))
       %3: float64[2, 3] = reshape(%2)
       %4: float64[2, 5] = %3 @ %1
       %5: float64[2, 5] = %4 + 1.0
       %6: float64[2, 5] = square(%5)
       %7: float64[] = mean(%6, axes=(0, 1), keepdims=False)
    return %7
    """
    xp = Namespace()

    def traced(leaf: Any) -> Any:
        if not is_array(leaf):
            return leaf
        dtype = str(leaf.dtype).rpartition(".")[2]  # "float32" and "torch.float32" alike
        return xp.input(tuple(map(int, leaf.shape)), dtype)

    def value(leaf: Any) -> Any:
        if is_array(leaf) and not isinstance(leaf, Tracer):
            name = type(leaf).__name__
            raise TraceError(f"the result holds a {name} that does not depend on the arguments")
        return leaf.value if isinstance(leaf, Tracer) else leaf

    given = mapped(arguments, traced)
    result = mapped(function(*given), value)
    return simplified(Graph(tuple(xp.inputs), tuple(xp.ops), mapped(given, value), result))
