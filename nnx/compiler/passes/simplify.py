"""A graph with less in it and the same results: nothing twice, nothing that changes nothing, nothing unused."""

from collections.abc import Callable
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
    ops: list[Op] = []
    made: dict[Value, Op] = {}

    def get(arg: Arg) -> Arg:
        return new.get(arg, arg) if isinstance(arg, Value) else arg

    for op in graph.ops:
        args = tuple(get(arg) for arg in op.args)
        same = _identity(op, args, made)
        if same is not None:
            new[op.out] = same
            continue
        name, options = op.name, op.options
        if name == "matmul" and isinstance(args[0], Value) and args[0].shape[-1] == 1:
            name = "multiply"  # (n, 1) @ (1, m): no sum
        told = tuple(arg if isinstance(arg, Value) else repr(arg) for arg in args)  # -0.0 is not 0.0
        key = (name, told, str(options), op.out.shape, op.out.dtype)
        if key in seen:
            new[op.out] = seen[key]
            continue
        seen[key] = op.out
        ops.append(Op(name, args, op.out, options))
        made[op.out] = ops[-1]

    result = mapped(graph.result, get)
    needed = {leaf for leaf in leaves(result) if isinstance(leaf, Value)}
    kept: list[Op] = []
    for op in reversed(ops):
        if op.out in needed:
            needed.update(op.reads)
            kept.append(op)
    return Graph(graph.inputs, tuple(kept[::-1]), graph.arguments, result)


def _identity(op: Op, args: tuple[Arg, ...], made: dict[Value, Op]) -> Value | None:
    """Return the argument that the operation returns as it is; None if it does something."""
    if op.kind == "view":
        (x,) = args
        assert isinstance(x, Value)
        whole = op.name != "permute" or op.option("axes") == tuple(range(x.ndim))
        if op.name == "slice":
            whole = all(isinstance(k, slice) and (k.start, k.step) == (0, 1) for k in op.option("key"))
        return x if whole and x.shape == op.out.shape else None

    def fits(x: Arg) -> Value | None:
        same = isinstance(x, Value) and x.shape == op.out.shape and x.dtype == op.out.dtype
        return x if same else None  # type: ignore[return-value]

    def is_one(x: Arg) -> bool:
        if not isinstance(x, Value):
            return x == 1
        return x in made and made[x].name == "full" and made[x].option("value") == 1

    if op.name == "positive":
        return fits(args[0])
    rules: dict[str, Callable[[], Value | None]] = {
        "multiply": lambda: fits(args[0]) if is_one(args[1]) else fits(args[1]) if is_one(args[0]) else None,
        "divide": lambda: fits(args[0]) if is_one(args[1]) else None,
    }
    return rules[op.name]() if op.name in rules else None
