"""The optimizer's operations on end, so that a library can do them piece by piece, each while it is in the cache."""

from nnx.compiler import Graph, Group, Op, Value


def chained(graph: Graph, least: int) -> tuple[Graph, list[Group]]:
    """Return the graph with the elementwise operations on a long vector on end, and what is done together.

    Parameters
    ----------
    graph : Graph
    least : int
        The elements from which a vector is long.
    """
    constants = graph.constants()
    made: set[Value] = set()  # by the chain
    late: set[Value] = set()  # from what the chain has made
    before: list[Op] = []
    chain: list[Op] = []
    behind: list[Op] = []
    for op in graph.ops:
        reads = {graph.base(x) for x in op.reads}
        link = op.out not in constants and not reads & late and _is_link(graph, op, least)
        if link and (not chain or op.out.shape == chain[0].out.shape):
            chain.append(op)
            made.add(op.out)
        elif reads & (late | made):
            behind.append(op)
            late.add(graph.base(op.out))
        else:
            before.append(op)
    read = {graph.base(x) for op in (*before, *behind) if op.kind != "view" for x in op.reads}
    inner = frozenset(made - read - {graph.base(x) for x in graph.outputs})
    new = Graph(graph.inputs, (*before, *chain, *behind), graph.arguments, graph.result)

    def alone(ops: list[Op]) -> list[Group]:
        return [
            Group((op,), None, frozenset()) for op in ops if op.kind != "view" and op.out not in constants
        ]

    together = [Group(tuple(chain), chain[0].out.shape, inner)] if chain else []
    return new, [*alone(before), *together, *alone(behind)]


def _is_link(graph: Graph, op: Op, least: int) -> bool:
    """Whether an operation goes over a long vector element by element."""
    return (
        op.kind == "elementwise"
        and op.out.ndim == 1
        and op.out.size >= least
        and all(x.ndim == 0 or (x.shape == op.out.shape and graph.base(x) == x) for x in op.reads)
    )
