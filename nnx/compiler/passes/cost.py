"""How long a graph takes, roughly: what decides whether threads or a compiler are worth their start."""

from nnx.compiler.ir.graph import Graph, nbytes
from nnx.compiler.thresholds import BYTES_PER_SECOND, FLOPS_PER_SECOND


def estimated_seconds(graph: Graph) -> float:
    """Return the seconds that a graph takes on one core, roughly: its products, and the bytes read and written."""
    flops = sum(2 * op.reads[0].size * op.out.shape[-1] for op in graph.ops if op.name == "matmul")
    moved = sum(sum(map(nbytes, {*op.reads, op.out})) for op in graph.ops if op.kind != "view")
    return flops / FLOPS_PER_SECOND + moved / BYTES_PER_SECOND
