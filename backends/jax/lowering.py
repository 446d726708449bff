"""A graph as a function of JAX's arrays, in which each flat vector is a `ParameterTree`.

On a CPU, XLA computes a loop that it fuses with a slice, a concatenation or a reshaped matrix number by number. A step
of 784-512-512-10 took 50 times as long at m = 1, 12 times as long at m = 32. So theta, its gradient and the optimizer's
vectors are split before the first step, and joined by calls of their own when somebody reads them.
"""

from collections import defaultdict
from collections.abc import Iterator
from itertools import accumulate, pairwise
from typing import Any, NamedTuple, TypeAlias

from nnx.array.namespace import Array
from nnx.compiler import Graph, Op, Value, mapped
from nnx.compiler.ir.evaluate import done
from nnx.compiler.thresholds import XLA_TRANSPOSED_COLUMNS

Layout: TypeAlias = tuple[tuple[int, int, tuple[int, ...]], ...]
"""The parts of a vector (P,): where each begins and ends, and its shape."""


class ParameterTree(NamedTuple):
    """A flat vector (P,) as an array for each parameter, in the parameter's shape."""

    parts: tuple[Array, ...]

    def joined(self, xp: Any) -> Array:
        """Return the vector (P,)."""
        vectors = [part.reshape(-1) for part in self.parts]
        return xp.concatenate(vectors) if len(vectors) > 1 else xp.copy(vectors[0])


def is_tree(x: Any) -> bool:
    """Whether x is a `ParameterTree`."""
    return isinstance(x, ParameterTree)


def layouts(graph: Graph) -> dict[int, Layout]:
    """Return the layout of the vectors of each length P that the graph slices."""
    places: dict[int, set[int]] = defaultdict(set)
    shapes: dict[tuple[int, int, int], tuple[int, ...]] = {}

    def extent(op: Op) -> tuple[int, int, int]:
        P = op.reads[0].size
        start, stop, _ = op.option("key")[0].indices(P)
        return P, start, stop

    def slices_an_input(op: Op | None) -> bool:
        return op is not None and op.name == "slice" and op.reads[0].ndim == 1 and op.reads[0] in graph.inputs

    for op in graph.ops:
        if slices_an_input(op):
            P, start, stop = extent(op)
            places[P] |= {0, start, stop, P}
        maker = graph.makers.get(op.reads[0]) if op.name == "reshape" else None
        if maker is not None and slices_an_input(maker) and maker.out.ndim == 1:
            shapes[extent(maker)] = op.out.shape
    return {
        P: tuple(
            (start, stop, shapes.get((P, start, stop), (stop - start,)))
            for start, stop in pairwise(sorted(found))
        )
        for P, found in places.items()
    }


class Lowered:
    """The function that a graph is, of JAX's arrays. It takes vectors whole or split, and returns them split.

    Parameters
    ----------
    graph : Graph
    jax : module
    """

    def __init__(self, graph: Graph, jax: Any) -> None:
        self._graph, self._jax, self._layouts = graph, jax, layouts(graph)

    def __call__(self, *arguments: Any) -> Any:
        """Return what the graph's function does, with a `ParameterTree` for each vector that has a layout."""
        graph = self._graph
        given = map(self.split, _arrays(graph.arguments, arguments))
        found: dict[Value, Any] = dict(zip(graph.inputs, given, strict=True))
        for op in graph.ops:
            args = [found[x] if isinstance(x, Value) else x for x in op.args]
            out = self._of_trees(op, args) if any(map(is_tree, args)) or op.name == "concat" else None
            found[op.out] = self._of_arrays(op, list(map(self._joined, args))) if out is None else out
        return mapped(graph.result, lambda leaf: self.split(found[leaf]) if isinstance(leaf, Value) else leaf)

    def split(self, x: Any) -> Any:
        """Return a vector of a known length as a `ParameterTree`; anything else as it is."""
        if is_tree(x) or x.ndim != 1 or x.shape[0] not in self._layouts:
            return x
        return ParameterTree(
            tuple(x[start:stop].reshape(shape) for start, stop, shape in self._layouts[x.shape[0]])
        )

    def _joined(self, x: Any) -> Any:
        return x.joined(self._jax.numpy) if is_tree(x) else x

    def _of_arrays(self, op: Op, args: list[Any]) -> Any:
        """Return what an operation makes of arrays.

        For few samples W^T dZ is (dZ^T W)^T. The barriers keep XLA from turning that back into the slower product.
        """
        if op.name == "matmul" and op.out.ndim == 2 and op.out.shape[1] <= XLA_TRANSPOSED_COLUMNS:
            maker = self._graph.makers.get(op.reads[0])
            if maker is not None and maker.name == "permute":
                barrier = self._jax.lax.optimization_barrier
                return barrier(barrier(args[1].T) @ args[0].T).T
        return _do(op, args, self._jax)

    def _of_trees(self, op: Op, args: list[Any]) -> Any:
        """Return what an operation makes of trees part by part; None if it needs the joined vectors."""
        if op.name == "concat":
            return self._tree_of_parts(op, args)
        layout = self._layouts[sum(part.size for part in next(filter(is_tree, args)).parts)]
        if op.name == "slice":
            key = op.option("key")[0].indices(op.reads[0].size)
            return next(
                (args[0].parts[i].reshape(-1) for i, (*at, _) in enumerate(layout) if (*at, 1) == key), None
            )
        if op.name == "sum" and not op.option("keepdims"):
            return sum(_do(op, [part.reshape(-1)], self._jax) for part in args[0].parts)
        if op.kind != "elementwise" and op.name != "copy":
            return None
        trees = [self.split(x) if hasattr(x, "ndim") else x for x in args]
        return ParameterTree(
            tuple(
                _do(op, [x.parts[i] if is_tree(x) else x for x in trees], self._jax)
                for i in range(len(layout))
            )
        )

    def _tree_of_parts(self, op: Op, args: list[Any]) -> ParameterTree | None:
        """Return the vectors that are concatenated as a tree, if they are the parts of a layout."""
        layout = self._layouts.get(op.out.size) if op.out.ndim == 1 else None
        stops = list(accumulate(x.size for x in op.reads))
        if layout is None or stops != [stop for _, stop, _ in layout]:
            return None
        return ParameterTree(
            tuple(self._joined(x).reshape(shape) for x, (*_, shape) in zip(args, layout, strict=True))
        )


def _arrays(traced: Any, given: Any) -> Iterator[Any]:
    """Yield the given arguments' arrays and trees in the order of the graph's inputs."""
    if isinstance(traced, Value):
        yield given
    elif isinstance(traced, dict):
        for key, branch in traced.items():
            yield from _arrays(branch, given[key])
    elif isinstance(traced, tuple | list):
        for branch, x in zip(traced, given, strict=True):
            yield from _arrays(branch, x)


def _do(op: Op, args: list[Any], jax: Any) -> Any:
    """Return what one operation makes."""
    dtype = jax.dtypes.canonicalize_dtype(op.out.dtype)  # no 64 bits, unless x64 is on
    if op.name == "copy":
        return args[0]
    if op.name == "concat":
        args = jax.lax.optimization_barrier(args)
    found = done(op, args, jax.numpy, dtype)
    return found.astype(dtype) if op.kind == "reduction" else found
