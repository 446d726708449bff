"""A graph as a function of JAX's arrays, in which each flat vector is a `ParameterTree`.

On a CPU, XLA computes a loop that it fuses with a slice, a concatenation or a reshaped matrix number by number. A step
of 784-512-512-10 took 50 times as long at m = 1, 12 times as long at m = 32. So theta, its gradient and the optimizer's
vectors are split before the first step, and joined by calls of their own when they are read.
"""

from functools import partial, reduce
from itertools import accumulate
from math import prod
from typing import Any, NamedTuple, TypeAlias

from nnx.array.all_reduce import all_reduce
from nnx.array.namespace import Array
from nnx.compiler import Graph, Op, Value
from nnx.compiler.ir.evaluate import done
from nnx.compiler.thresholds import XLA_TRANSPOSED_COLUMNS
from nnx.support.tree import mapped

Layouts: TypeAlias = dict[tuple[int, ...], tuple[tuple[int, ...], ...]]
"""The shapes of the parameters in a vector, by the vector's shape (P,)."""

TOTALS = {"sum": "add", "max": "maximum"}
"""Reductions of a whole vector, each with the function that joins the results of its parts."""


class ParameterTree(NamedTuple):
    """A flat vector (P,) as an array for each parameter, in the parameter's shape."""

    parts: tuple[Array, ...]


def is_tree(x: Any) -> bool:
    """Whether x is a `ParameterTree`."""
    return isinstance(x, ParameterTree)


def joined(x: Any, xp: Any) -> Any:
    """Return the vector (P,) of a `ParameterTree`; anything else as it is."""
    return xp.concatenate([part.reshape(-1) for part in x.parts]) if is_tree(x) else x


def split(x: Any, layouts: Layouts, xp: Any) -> Any:
    """Return a vector that has a layout as a `ParameterTree`; anything else as it is."""
    if is_tree(x) or x.shape not in layouts:
        return x
    shapes = layouts[x.shape]
    parts = xp.split(x, list(accumulate(map(prod, shapes)))[:-1])
    return ParameterTree(tuple(part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)))


class Lowered:
    """The function that a graph is, of JAX's arrays. It takes vectors whole or split, and returns them split.

    Attributes
    ----------
    layouts : dict
        The parameters of each vector that the graph concatenates, as it does the gradient.
    """

    def __init__(self, graph: Graph, jax: Any) -> None:
        self._graph, self._jax = graph, jax
        self.layouts: Layouts = {
            op.out.shape: tuple(self._before_reshape(x).shape for x in op.reads)
            for op in graph.ops
            if op.name == "concat" and op.out.ndim == 1 and op.out.size > 1
        }

    def __call__(self, *arguments: Any) -> Any:
        """Return what the graph's function does, with a `ParameterTree` for each vector that has a layout."""
        graph, leaves = self._graph, self._jax.tree.leaves
        given = map(self.split, leaves(arguments, is_leaf=is_tree))
        found: dict[Value, Any] = dict(zip(leaves(graph.arguments), given, strict=True))
        for op in graph.ops:
            found[op.out] = self._done(op, [found[x] if isinstance(x, Value) else x for x in op.args])
        return mapped(graph.result, lambda leaf: found[leaf] if isinstance(leaf, Value) else leaf)

    def split(self, x: Any) -> Any:
        """Return a vector that has a layout as a `ParameterTree`; anything else as it is."""
        return split(x, self.layouts, self._jax.numpy)

    def _before_reshape(self, x: Value) -> Value:
        maker = self._graph.makers.get(x)
        return maker.reads[0] if maker is not None and maker.name == "reshape" else x

    def _done(self, op: Op, args: list[Any]) -> Any:
        """Return what an operation makes, part by part of trees if it can be.

        Other operations join the parts, and split a vector that they make. XLA removes each slice of a concatenation.
        """
        xp = self._jax.numpy
        trees = [x for x in args if is_tree(x)]
        if trees and op.kind == "elementwise" and op.out.ndim == 1:
            columns = zip(*(x.parts if is_tree(x) else [x] * len(trees[0].parts) for x in args), strict=True)
            return ParameterTree(tuple(self._of_arrays(op, list(column)) for column in columns))
        if trees and op.name in TOTALS:
            totals = [getattr(xp, op.name)(part) for part in trees[0].parts]
            return reduce(getattr(xp, TOTALS[op.name]), totals).reshape(op.out.shape)
        return self.split(self._of_arrays(op, [joined(x, xp) for x in args]))

    def _of_arrays(self, op: Op, args: list[Any]) -> Any:
        """Return what an operation makes of arrays."""
        dtype = self._jax.dtypes.canonicalize_dtype(op.out.dtype)  # no 64 bits, unless x64 is on
        if op.name == "matmul":
            return self._product(op, args[0], args[1], dtype)
        if op.name == "all_reduce":
            return self._summed(op.option("communicator"), args[0])
        return done(op, args, self._jax.numpy, dtype)

    def _summed(self, communicator: Any, x: Array) -> Array:
        """Return the sum of a vector over all ranks: a call of the host, one after the other, in the order of steps."""
        from jax.experimental import io_callback

        return io_callback(partial(all_reduce, communicator=communicator), x, x, ordered=True)

    def _product(self, op: Op, a: Array, b: Array, dtype: Any) -> Any:
        """Return a b. What is float64 in the graph is no TF32, though JAX may have it in float32.

        For few samples W^T dZ is (dZ^T W)^T. The barriers keep XLA from turning that back into the slower product.
        """
        precision = "highest" if op.out.dtype == "float64" else None
        matmul = partial(self._jax.numpy.matmul, precision=precision, preferred_element_type=dtype)
        maker = self._graph.makers.get(op.reads[0])
        transposed = maker is not None and maker.name == "permute" and op.out.ndim == 2
        if transposed and op.out.shape[1] <= XLA_TRANSPOSED_COLUMNS:
            barrier = self._jax.lax.optimization_barrier
            return barrier(matmul(barrier(b.T), a.T)).T
        return matmul(a, b)
