"""The optimizer's kernel cut up: each dW is made tile by tile, and a tile is used while it is in the cache.

theta, its derivative and the optimizer's vectors do not fit into a core's cache. For few samples a step takes as long
as reading and writing them. So a tile of dW = dZ A^T is written over the tile before it, and the optimizer's kernel
goes over it at once: dtheta as a whole is never in memory.
"""

from collections.abc import Callable, Hashable
from typing import NamedTuple

from nnx.compiler.ir.graph import Graph, Op, Value
from nnx.compiler.passes.fuse import Group, fused


class Tiled(NamedTuple):
    """The groups in a new order, and what is done tile by tile.

    Attributes
    ----------
    groups : list of Group
        Each product that makes a part of dtheta, in a group of its own, stands behind all that read that part of theta.
    gradient : Value or None
        dtheta.
    parts : dict of Value to (int, int)
        What these products make: from where to where in dtheta.
    update : Group or None
        The optimizer's kernel, which goes over `parts` with them, and over the `rest` by itself.
    rest : list of (int, int)
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
    alone = _derivatives(graph)
    found = _moved(graph, fused(graph, lambda op: None if op.out in alone else iteration_space(op)), alone)
    return found if found is not None and {*found.parts} == {*alone} else Tiled(fused(graph, iteration_space))


def _derivatives(graph: Graph) -> dict[Value, tuple[Value, int]]:
    """Return each dW that is a product read for dtheta alone: what it is a part of, and from where on."""
    readers: dict[Value, list[Op]] = {}
    for op in graph.ops:
        if op.kind != "view":
            for x in dict.fromkeys(map(graph.base, op.reads)):
                readers.setdefault(x, []).append(op)
    outputs = {graph.base(x) for x in graph.outputs}
    found = {}
    for op in graph.ops:
        if op.name != "concat" or op.out.ndim != 1 or op.out in outputs:
            continue
        start = 0
        for x in op.reads:
            value = graph.base(x)
            maker = graph.makers.get(value)
            alone = readers[value] == [op] and op.reads.count(x) == 1 and value not in outputs
            flat = all(view.name == "reshape" for view in graph.views(x))
            if maker and alone and flat and _is_product(maker):
                found[value] = op.out, start
            start += x.size
    return found


def _is_product(op: Op) -> bool:
    """Whether an operation is dZ A^T, of one sample or of several."""
    if len(op.reads) != 2 or op.out.ndim != 2 or any(x.dtype != op.out.dtype for x in op.reads):
        return False
    if op.out.dtype not in ("float32", "float64"):
        return False
    n, k = op.out.shape
    one = op.name == "multiply" and [x.shape for x in op.reads] == [(n, 1), (1, k)]
    return one or (op.name == "matmul" and op.reads[0] != op.reads[1])


def _moved(graph: Graph, groups: list[Group], derivatives: dict[Value, tuple[Value, int]]) -> Tiled | None:
    """Return the groups with each product behind the last that reads its part of theta; None if that cannot be."""
    updates = [
        (at, group, x)
        for at, group in enumerate(groups)
        for x in {whole for whole, _ in derivatives.values()} & {x for op in group.ops for x in op.reads}
        if _is_update(graph, groups, group, x)
    ]
    if len(updates) != 1:
        return None
    at, update, gradient = updates[0]
    parts = {x: (start, start + x.size) for x, (whole, start) in derivatives.items() if whole == gradient}
    vectors = {x for op in update.ops for x in op.reads} - {op.out for op in update.ops} - {gradient}
    made = {op.out: g for g, group in enumerate(groups) for op in group.ops}
    ready = max((made[graph.base(x)] for x in vectors if graph.base(x) in made), default=-1)
    behind: dict[int, list[Group]] = {}
    for x, part in parts.items():
        last = max(made[x], ready, _last_reader(graph, groups[:at], vectors, part))
        if last >= at:
            return None
        behind.setdefault(last, []).append(groups[made[x]])
    own = {made[x] for x in parts}
    order = [
        one for g, group in enumerate(groups) for one in ([] if g in own else [group]) + behind.get(g, [])
    ]
    return Tiled(order, gradient, parts, update, _rest(gradient.size, sorted(parts.values())))


def _last_reader(graph: Graph, groups: list[Group], vectors: set[Value], part: tuple[int, int]) -> int:
    """Return the last group that reads a part of one of these vectors; -1 if none does."""
    last = -1
    for g, group in enumerate(groups):
        for value in (value for op in group.ops for value in op.reads):
            base, begin, end = graph.extent(value)
            if base in vectors and begin < part[1] and part[0] < end:
                last = g
    return last


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


def _rest(P: int, places: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return what lies between the places, up to P."""
    ends = [0, *(stop for _, stop in places)]
    starts = [*(start for start, _ in places), P]
    return [(a, b) for a, b in zip(ends, starts, strict=True) if a < b]
