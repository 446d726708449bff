"""Which matrices lie column by column in memory: those with a sample in each column.

Samples are the rows of a table in memory, so X (n, m) is a view of some of its rows: its columns are in one piece. A
product of W with it can lie so, too, and what is computed from that element by element. Then no product needs a copy of
a factor, and consecutive threads read consecutive units of a sample.
"""

from collections.abc import Container

from nnx.compiler.ir import views
from nnx.compiler.ir.graph import Graph, Op, Value
from nnx.support.tree import leaves


def column_major(graph: Graph, parts: Container[Value]) -> frozenset[Value]:
    """Return the matrices whose first axis is dense; all other values lie in row-major order.

    They are the batch's (the second argument of the graph's function), products whose right factor lies so, and
    what is computed of them. A concat lies in row-major order, with its `parts`.
    """
    batch = [x for x in leaves(graph.arguments[1:2]) if isinstance(x, Value)]
    found = {x for x in batch if x.ndim == 2 and _has_its_views(graph, x)}
    of_samples = {x for x in batch if x.ndim} | found
    constants = graph.constants
    for op in graph.ops:
        x = op.out
        if op.kind in ("view", "concat") or x.ndim != 2 or x in constants or x in parts:
            continue
        if op.name == "matmul":
            strides = _strides(graph, op.reads[1], found)
            lies_so = strides is not None and strides[0] == 1
        else:
            lies_so = any(y.shape[-1:] == x.shape[-1:] for y in map(graph.base, op.reads) if y in of_samples)
        if lies_so and _has_its_views(graph, x):
            found.add(x)
            of_samples.add(x)
    return frozenset(found)


def _strides(graph: Graph, value: Value, found: Container[Value]) -> views.Strides | None:
    base = graph.base(value)
    strides = (1, base.shape[0]) if base in found else views.contiguous(base.shape)
    return _through(graph.views(value), base, strides)


def _through(path: list[Op], base: Value, strides: views.Strides | None) -> views.Strides | None:
    """Return the strides of a view of a view ... of a value; None where that takes a copy."""
    shape = base.shape
    for op in path:
        viewed = views.viewed(op, shape, strides) if strides is not None else None
        shape, strides = op.out.shape, viewed[1] if viewed else None
    return strides


def _has_its_views(graph: Graph, value: Value) -> bool:
    """Whether all views of a matrix are views of it column by column, too."""
    looking = [op.out for op in graph.ops if op.kind == "view" and graph.base(op.out) == value]
    return all(_through(graph.views(x), value, (1, value.shape[0])) is not None for x in looking)
