"""Products in bfloat16: each factor is rounded once, however many products read it."""

from dataclasses import replace

from nnx.compiler.ir.graph import Graph, Op, Value
from nnx.compiler.ir.operations import ROUNDED


def in_precision(graph: Graph, precision: str | None) -> Graph:
    """Return a graph whose products read the factors of a precision: "bfloat16" rounds them."""
    return with_rounded_factors(graph) if precision == ROUNDED else graph


def with_rounded_factors(graph: Graph) -> Graph:
    """Return the graph with a copy in bfloat16 of each factor of a product of float32, which the product reads.

    A factor that is a transpose is the transpose of the copy. The results of the products stay float32, and products of
    other dtypes, and those with a constant, stay as they are.
    """
    ops: list[Op] = []
    rounded: dict[Value, Value] = {}  # of each factor

    def factor(x: Value) -> Value:
        if x not in rounded:
            op = graph.makers.get(x)
            if op is not None and op.name == "permute":
                op = replace(op, args=(factor(op.reads[0]),))
            else:
                op = Op("astype", (x,), x)
            rounded[x] = Value(graph.next_number + len(rounded), x.shape, ROUNDED)
            ops.append(replace(op, out=rounded[x]))
        return rounded[x]

    constants = graph.constants
    for op in graph.ops:  # each behind its factors
        if op.name == "matmul" and op.out.dtype == "float32" and constants.isdisjoint(op.reads):
            op = replace(op, args=tuple(map(factor, op.reads)))
        ops.append(op)
    return replace(graph, ops=tuple(ops))
