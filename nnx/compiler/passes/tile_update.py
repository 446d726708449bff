"""The optimizer's kernel cut up: each dW is made tile by tile, and a tile is used while it is in the cache.

theta, its derivative and the optimizer's vectors do not fit into a core's cache. For few samples a step takes as long
as reading and writing them. So a tile of dW = dZ A^T is written over the tile before it, and the optimizer's kernel
goes over it at once: dtheta as a whole is never in memory.
"""

from collections import Counter
from collections.abc import Callable, Hashable
from typing import NamedTuple

from nnx.compiler.ir.graph import Graph, Op, Value
from nnx.compiler.ir.operations import FLOATS
from nnx.compiler.passes.fuse import Group, fused


class Tiled(NamedTuple):
    """The groups in a new order, and what is done tile by tile.

    Each product that makes one of the `parts` of dtheta, the `gradient`, stands behind all that read that part of
    theta. The optimizer's kernel, `update`, goes over the parts with them, and over the `rest` of dtheta by itself.
    """

    groups: list[Group]
    gradient: Value | None = None
    parts: dict[Value, tuple[int, int]] = {}  # noqa: RUF012  # never written into
    update: Group | None = None
    rest: list[tuple[int, int]] = []  # noqa: RUF012


def tiled(graph: Graph, iteration_space: Callable[[Op], Hashable]) -> Tiled:
    """Return the fused groups, with the products of dtheta where the optimizer's kernel can go on with their tiles.

    Where that cannot be for all of them, no product is cut into tiles.
    """
    parts = _derivatives(graph)
    groups = fused(graph, lambda op: None if op.out in parts else iteration_space(op))
    return _moved(graph, groups, parts) or Tiled(fused(graph, iteration_space))


def _derivatives(graph: Graph) -> dict[Value, tuple[Value, int, int]]:
    """Return each dW that is a product read for dtheta alone: what it is a part of, from where to where."""
    outputs = {graph.base(x) for x in graph.outputs}
    uses = Counter(graph.base(x) for op in graph.ops if op.kind != "view" for x in op.reads)
    found = {}
    for concat in graph.ops:
        if concat.name == "concat" and concat.out.ndim == 1 and concat.out not in outputs:
            for x, start, stop in concat.joined:
                value = graph.base(x)
                alone = uses[value] == 1 and value not in outputs
                flat = all(view.name == "reshape" for view in graph.views(x))
                if alone and flat and value in graph.makers and _is_product(graph.makers[value]):
                    found[value] = concat.out, start, stop
    return found


def _is_product(op: Op) -> bool:
    """Whether an operation is dZ A^T, of one sample or of several."""
    if len(op.reads) != 2 or op.out.ndim != 2 or any(x.dtype != op.out.dtype for x in op.reads):
        return False
    n, k = op.out.shape
    one = op.name == "multiply" and [x.shape for x in op.reads] == [(n, 1), (1, k)]
    return op.out.dtype in FLOATS and (one or (op.name == "matmul" and op.reads[0] != op.reads[1]))


def _moved(graph: Graph, groups: list[Group], parts: dict[Value, tuple[Value, int, int]]) -> Tiled | None:
    """Return the groups with each product behind the last that reads its part of theta; None if that cannot be."""
    wholes = {whole for whole, *_ in parts.values()}
    if len(wholes) != 1:
        return None
    gradient = wholes.pop()
    at = next((g for g, group in enumerate(groups) if _is_update(graph, groups, group, gradient)), None)
    if at is None:
        return None
    update = groups[at]
    vectors = {x for op in update.ops for x in op.reads} - {op.out for op in update.ops} - {gradient}
    made = {op.out: g for g, group in enumerate(groups) for op in group.ops}
    reads = [
        (g, graph.extent(x)) for g, group in enumerate(groups[:at]) for op in group.ops for x in op.reads
    ]
    behind: dict[int, int] = {}
    for x, (_, start, stop) in parts.items():
        readers = (g for g, (v, begin, end) in reads if v in vectors and begin < stop and start < end)
        ready = (made[graph.base(v)] for v in vectors if graph.base(v) in made)
        behind[made[x]] = max(made[x], *readers, *ready)
    if max(behind.values()) >= at:
        return None
    order = sorted(range(len(groups)), key=lambda g: (behind.get(g, g), g in behind))
    places = {x: (start, stop) for x, (_, start, stop) in parts.items()}
    ends = [0, *(end for place in sorted(places.values()) for end in place), gradient.size]
    rest = [(a, b) for a, b in zip(ends[::2], ends[1::2], strict=True) if a < b]
    return Tiled([groups[g] for g in order], gradient, places, update, rest)


def _is_update(graph: Graph, groups: list[Group], group: Group, gradient: Value) -> bool:
    """Whether a group alone reads dtheta, element by element, and makes nothing but a new state."""
    readers = [some for some in groups for op in some.ops for x in op.reads if graph.base(x) == gradient]
    return all(some is group for some in readers) and all(
        op.kind == "elementwise"
        and op.out.shape == gradient.shape
        and (op.out in group.internal or op.out in graph.outputs)
        and all(x.shape == gradient.shape or x.ndim == 0 for x in op.reads)
        and all(graph.base(x) == x for x in op.reads if x.ndim)
        for op in group.ops
    )
