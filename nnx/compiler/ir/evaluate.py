"""A graph done operation by operation with any library that follows the standard."""

from collections.abc import Mapping
from typing import Any

from nnx.compiler.ir.graph import Graph, Op, Value


def evaluated(graph: Graph, inputs: Mapping[Value, Any], xp: Any) -> dict[Value, Any]:
    """Return the arrays of all values that depend on these inputs alone; without any, the graph's constants.

    Parameters
    ----------
    graph : Graph
    inputs : dict of Value to array
    xp : namespace

    Examples
    --------
    >>> import array_api_compat.numpy as xp
    >>> import numpy as np
    >>> from nnx.compiler import trace
    >>> graph = trace(lambda x: x * 2 + 1, np.zeros(3))
    >>> evaluated(graph, {graph.inputs[0]: np.arange(3.0)}, xp)[graph.outputs[0]]
    array([1., 3., 5.])
    """
    found = dict(inputs)
    for op in graph.ops:
        if all(x in found for x in op.reads):
            found[op.out] = done(op, [found[x] if isinstance(x, Value) else x for x in op.args], xp)
    return found


def done(op: Op, args: list[Any], xp: Any, dtype: Any = None) -> Any:
    """Return the array that one operation makes.

    Parameters
    ----------
    op : Op
    args : list of array or Python number
        In the place of the operation's arguments.
    xp : namespace
    dtype : dtype or None
        Of an array that is made of nothing or converted; None: that of the graph.
    """
    dtype = getattr(xp, op.out.dtype) if dtype is None else dtype
    match op.name:
        case "reshape":
            return xp.reshape(args[0], op.out.shape)
        case "slice":
            return args[0][op.option("key")]
        case "permute":
            return xp.permute_dims(args[0], op.option("axes"))
        case "broadcast":
            return xp.broadcast_to(args[0], op.out.shape)
        case "copy":
            return xp.asarray(args[0], copy=True)
        case "concat":
            return xp.concat(args, axis=op.option("axis"))
        case "full":
            return xp.full(op.out.shape, op.option("value"), dtype=dtype)
        case "arange":
            start, step = op.option("start"), op.option("step")
            return xp.arange(start, start + step * op.out.size, step, dtype=dtype)
        case "astype":
            return xp.astype(args[0], dtype)
        case "argmax" | "argmin":
            return getattr(xp, op.name)(args[0], axis=op.option("axes")[0], keepdims=op.option("keepdims"))
    if op.kind == "reduction":
        return getattr(xp, op.name)(args[0], axis=op.option("axes"), keepdims=op.option("keepdims"))
    return getattr(xp, op.name)(*args)
