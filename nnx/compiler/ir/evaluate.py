"""A graph done operation by operation with any library that follows the standard."""

from collections.abc import Mapping
from typing import Any

from nnx.array.all_reduce import all_reduce
from nnx.compiler.ir.graph import Graph, Op, Value


def evaluated(graph: Graph, inputs: Mapping[Value, Any], xp: Any) -> dict[Value, Any]:
    """Return the arrays of all values that depend on these inputs alone; without any, the graph's constants."""
    found = dict(inputs)
    for op in graph.ops:
        if all(x in found for x in op.reads):
            found[op.out] = done(op, [found[x] if isinstance(x, Value) else x for x in op.args], xp)
    return found


def done(op: Op, args: list[Any], xp: Any, dtype: Any = None) -> Any:
    """Return what one operation makes: an array of xp's dtype of that name, or of the given one."""
    option, out = dict(op.options), op.out
    dtype = getattr(xp, out.dtype) if dtype is None else dtype
    match op.name:
        case "reshape":
            return xp.reshape(args[0], out.shape)
        case "slice":
            return args[0][option["key"]]
        case "permute":
            return xp.permute_dims(args[0], option["axes"])
        case "broadcast":
            return xp.broadcast_to(args[0], out.shape)
        case "copy":
            return xp.asarray(args[0], copy=True)
        case "concat":
            return xp.concat(args, axis=option["axis"])
        case "all_reduce":
            return all_reduce(args[0], option["communicator"])
        case "full":
            return xp.full(out.shape, option["value"], dtype=dtype)
        case "arange":
            start, step = option["start"], option["step"]
            return xp.arange(start, start + step * out.size, step, dtype=dtype)
        case "astype":
            return xp.astype(args[0], dtype)
        case _ if op.kind == "reduction":
            axis = option["axes"][0] if op.name.startswith("arg") else option["axes"]
            return getattr(xp, op.name)(args[0], axis=axis, keepdims=option["keepdims"])
    return getattr(xp, op.name)(*args)
