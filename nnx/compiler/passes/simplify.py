"""A graph with less in it and the same results: nothing twice, nothing that changes nothing, nothing unused."""

from collections.abc import Mapping
from typing import Any

from nnx.compiler.ir.graph import Arg, Graph, Op, Value
from nnx.support.tree import leaves, mapped


def simplified(graph: Graph) -> Graph:
    """Return the graph without repetitions, identities and what no output needs.

    Not a bit of the results changes: a product of one column by one row is their elementwise product, x * 1 is x,
    and what is computed twice is computed once.
    """
    new: dict[Value, Arg] = {}
    seen: dict[Any, Value] = {}
    ops: dict[Value, Op] = {}

    def get(arg: Arg) -> Arg:
        return new.get(arg, arg) if isinstance(arg, Value) else arg

    for op in graph.ops:
        args, name = tuple(map(get, op.args)), op.name
        if name == "matmul" and op.reads[0].shape[-1] == 1:
            name = "multiply"  # (n, 1) @ (1, m): no sum
        key = name, repr(args), str(op.options), op.out.shape, op.out.dtype  # in a text -0.0 is not 0.0
        same = _identity(op, args, ops) or seen.get(key)
        if same is not None:
            new[op.out] = same
        else:
            seen[key] = op.out
            ops[op.out] = Op(name, args, op.out, op.options)

    result = mapped(graph.result, get)
    needed = {leaf for leaf in leaves(result) if isinstance(leaf, Value)}
    for op in reversed(ops.values()):
        if op.out in needed:
            needed.update(op.reads)
    kept = tuple(op for op in ops.values() if op.out in needed)
    return Graph(graph.inputs, kept, graph.arguments, result)


def _identity(op: Op, args: tuple[Arg, ...], made: Mapping[Value, Op]) -> Value | None:
    """Return the argument that the operation returns as it is; None if it does something."""

    def is_one(x: Arg) -> bool:
        if isinstance(x, Value):
            return x in made and made[x].name == "full" and made[x].option("value") == 1
        return x == 1

    def is_whole(k: Any) -> bool:
        return isinstance(k, slice) and (k.start, k.step) == (0, 1)

    match op.name:
        case "positive" | "reshape" | "broadcast":
            same = True
        case "permute":
            same = op.option("axes") == tuple(range(op.out.ndim))
        case "slice":
            same = all(map(is_whole, op.option("key")))
        case "multiply" if is_one(args[0]) and not is_one(args[1]):
            return _identity(op, args[::-1], made)
        case "multiply" | "divide":
            same = is_one(args[1])
        case _:
            return None
    x = args[0]
    alike = isinstance(x, Value) and (x.shape, x.dtype) == (op.out.shape, op.out.dtype)
    return x if same and alike else None  # type: ignore[return-value]
