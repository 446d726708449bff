"""The optimizer's loop cut up: each dW is made tile by tile, and a tile is used up while it is in the cache.

theta, its derivative and the optimizer's vectors do not fit into a core's cache, and for few samples a step takes as
long as reading and writing them. A tile of dW = dZ A^T is written over the tile before it, and the optimizer's loop
goes over it at once: dtheta as a whole is never in memory. (Of more than 256 samples a thread's share is one tile.)
"""

from typing import NamedTuple

from nnx.compiler import Graph, Group, Op, Value


class Tiled(NamedTuple):
    """The groups in a new order, and what is done tile by tile.

    Attributes
    ----------
    groups : list of Group
        Each product that makes a part of dtheta, in a group of its own, stands behind all that read that part of theta.
    parts : dict of Value to (int, int)
        What these products make: from where to where in dtheta.
    update : Group or None
        The optimizer's loop, which goes over `parts` with them, and over the `rest` by itself.
    rest : list of (int, int)
    """

    groups: list[Group]
    parts: dict[Value, tuple[int, int]]
    update: Group | None
    rest: list[tuple[int, int]]


def derivatives(graph: Graph) -> dict[Value, tuple[Value, int]]:
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


def tiled(graph: Graph, groups: list[Group]) -> Tiled:
    """Return the groups with the products of dtheta moved to where the optimizer's loop can go on with them."""
    plain = Tiled(groups, {}, None, [])
    parts = derivatives(graph)
    wholes = {whole for whole, _ in parts.values()}
    updates = [
        (at, group, x)
        for at, group in enumerate(groups)
        for x in wholes & {x for op in group.ops for x in op.reads}
        if _is_update(graph, groups, group, x)
    ]
    if len(updates) != 1:
        return plain
    at, group, dtheta = updates[0]
    parts = {x: place for x, place in parts.items() if place[0] == dtheta}
    vectors = {x for op in group.ops for x in op.reads} - {op.out for op in group.ops} - {dtheta}
    made = {op.out: g for g, some in enumerate(groups) for op in some.ops}
    ready = max((made[graph.base(x)] for x in vectors if graph.base(x) in made), default=-1)

    behind: dict[int, list[Group]] = {}  # what comes behind a group
    own = {op.out: g for g, some in enumerate(groups) for op in some.ops if op.out in parts}
    for x, (_, start) in parts.items():
        last = max(own[x], ready)
        for g, some in enumerate(groups[:at]):
            for value in (value for op in some.ops for value in op.reads):
                base, begin, end = graph.extent(value)
                if base in vectors and begin < start + x.size and start < end:
                    last = max(last, g)
        if last >= at:
            return plain
        behind.setdefault(last, []).append(groups[own[x]])
    moved = [
        one
        for g, some in enumerate(groups)
        for one in ([] if g in own.values() else [some]) + behind.get(g, [])
    ]
    places = {x: (start, start + x.size) for x, (_, start) in parts.items()}
    return Tiled(moved, places, group, _rest(dtheta.size, sorted(places.values())))


def _is_update(graph: Graph, groups: list[Group], group: Group, dtheta: Value) -> bool:
    """Whether a group goes over dtheta element by element, as nobody else does, and makes nothing but a new state."""
    readers = [some for some in groups for op in some.ops for x in op.reads if graph.base(x) == dtheta]
    return all(some is group for some in readers) and all(
        op.kind == "elementwise"
        and op.out.shape == dtheta.shape
        and (op.out in group.internal or op.out in graph.outputs)
        and all(x.shape == dtheta.shape or x.ndim == 0 for x in op.reads)
        and all(graph.base(x) == x for x in op.reads if x.ndim)
        for op in group.ops
    )


def _rest(P: int, places: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return what lies between the places, up to P."""
    ends = [0, *(stop for _, stop in places)]
    starts = [*(start for start, _ in places), P]
    return [(a, b) for a, b in zip(ends, starts, strict=True) if a < b]
