"""The cost of a step on a GPU, from its schedule: launches, products, and the bytes that its kernels move."""

from collections.abc import Iterable
from typing import NamedTuple

from nnx.backends.cupy.step import Launch, Product, RenderedStep
from nnx.compiler.ir.graph import Graph, Value, nbytes
from nnx.compiler.passes.barriers import regions_of
from nnx.compiler.schedule import Gemm, Instruction


class Cost(NamedTuple):
    """The cost of one step.

    Attributes
    ----------
    kernels, products : int
        The calls.
    bytes : int
        Of the arrays that the kernels read and write: each array once for each kernel.
    least_bytes : int
        Of kernels that are fused as far as possible. They read the results of products, the state and the batch once.
        They write the new state and the factors of products once. A value that must wait for a later product is
        written and read once, too.
    product_bytes, flops : int
        The matrices that products read and write, and their multiplications and additions.
    """

    kernels: int
    products: int
    bytes: int
    least_bytes: int
    product_bytes: int
    flops: int

    @property
    def ratio(self) -> float:
        """The bytes of the kernels over the least ones."""
        return self.bytes / max(self.least_bytes, 1)


def cost(step: RenderedStep) -> Cost:
    """Return the cost of a step."""
    graph = step.schedule.graph
    products = [call for call in step.calls if isinstance(call, Product)]
    kernels = [x for x in step.schedule.instructions if not isinstance(x, Gemm)]
    moved = list(zip(step.calls, moved_bytes(step), strict=True))
    return Cost(
        kernels=len(kernels),
        products=len(products),
        bytes=sum(n for call, n in moved if isinstance(call, Launch)),
        least_bytes=_least(graph, kernels, [_moved(graph, x) for x in kernels]),
        product_bytes=sum(n for call, n in moved if isinstance(call, Product)),
        flops=sum(x.flops for x in products),
    )


def moved_bytes(step: RenderedStep) -> list[int]:
    """Return for each call the bytes that it reads and writes: each array once."""
    graph = step.schedule.graph
    return [sum(sum(map(nbytes, some)) for some in _moved(graph, x)) for x in step.schedule.instructions]


Moved = tuple[set[Value], set[Value]]
"""The values that an instruction reads and writes, without constants."""


def _moved(graph: Graph, instruction: Instruction) -> Moved:
    """Return the values in memory that an instruction reads and writes; of a vector only the part that it uses."""
    reads, writes = ([region.value for region in regions] for regions in regions_of(instruction))
    inner = graph.constants | {op.out for op in getattr(instruction, "ops", ())}
    return {x for x in reads if graph.base(x) not in inner}, {*writes}


def _least(graph: Graph, kernels: Iterable[Instruction], moved: Iterable[Moved]) -> int:
    """Return the bytes that kernels must read and write at least."""
    behind = _products_behind(graph)
    readers: dict[Value, list[frozenset[int]]] = {}  # of each value: the products that its readers wait for
    made: set[Value] = set()
    found = 0
    for kernel, (reads, writes) in zip(kernels, moved, strict=True):
        waits = frozenset().union(*(behind[op.out] for op in getattr(kernel, "ops", ())))
        made |= writes
        for x in reads:
            readers.setdefault(x, []).append(waits)
    needed = {graph.base(x) for op in graph.ops if op.kind == "matmul" for x in op.reads} | {*graph.outputs}
    needed |= {graph.base(x) for op in graph.ops if op.kind == "concat" for x in op.reads}
    for x, waiting in readers.items():
        base = graph.base(x)
        must_wait = any(waits - behind[base] for waits in waiting)
        if base not in made or must_wait:
            found += nbytes(x)
        if base in made and must_wait:
            needed.add(base)
    return found + sum(nbytes(x) for x in made & needed)


def _products_behind(graph: Graph) -> dict[Value, frozenset[int]]:
    """Return for each value the products that it depends on, by the numbers of their results."""
    found: dict[Value, frozenset[int]] = dict.fromkeys(graph.inputs, frozenset())
    for op in graph.ops:
        found[op.out] = frozenset().union(*(found[x] for x in op.reads))
        if op.kind == "matmul":
            found[op.out] |= {op.out.number}
    return found
