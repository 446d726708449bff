"""A graph as a function for JAX, written so that XLA makes fast loops of it on a CPU.

XLA computes what it fuses with a slice, a concatenation or a matrix read as a vector number by number: a step took ten
times as long. So the flat vectors (theta, its gradient, the optimizer's) are pieces here, one for each parameter, in
its shape: they are cut before the first loop, and joined for whoever reads them, each by a call of its own.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

from nnx.compiler import Graph, Op, TraceError, Value, mapped

FEW, MANY, LARGE = 64, 256, 256
"""Samples up to which (dZ^T W)^T is quicker than W^T dZ; and up to which, where W has so many rows and columns."""

NARROW, WIDE = 32, 512
"""Rows of `a` up to which, and rows and columns of `b` from which, a b is quicker as (b^T a^T)^T, where b is a
transpose: XLA would turn all of it round in memory, which takes as long as the product."""


class Pieces(NamedTuple):
    """A flat vector, as the matrices that its parameters are."""

    parts: tuple[Any, ...]

    def flat(self) -> "Pieces":
        """Return each piece as a vector."""
        return Pieces(tuple(part.reshape(-1) for part in self.parts))


class Lowered:
    """A traced function, of JAX's arrays; its vectors come whole or in pieces.

    Parameters
    ----------
    graph : Graph
    jax : module
    turned : Value or None
        The input that lies in memory as its transpose does: samples picked out of X^T.
    """

    def __init__(self, graph: Graph, jax: Any, turned: Value | None = None) -> None:
        self._graph, self._jax, self._turned = graph, jax, turned
        cuts: dict[int, set[int]] = {}  # P: where the slices of an input of P numbers begin and end
        for op in graph.ops:
            if op.name == "slice" and op.reads[0] in graph.inputs and op.reads[0].ndim == 1:
                P = op.reads[0].size
                cuts.setdefault(P, {0, P}).update(op.option("key")[0].indices(P)[:2])
        self._cuts = {P: sorted(found) for P, found in cuts.items()}
        self._shapes: dict[int, list[tuple[int, ...]]] = {
            P: [(stop - start,) for start, stop in pairwise(found)] for P, found in self._cuts.items()
        }
        for op in graph.ops:
            piece = graph.makers.get(op.reads[0]) if op.name == "reshape" else None
            if piece and piece.name == "slice" and piece.reads[0] in graph.inputs and piece.out.ndim == 1:
                P = piece.reads[0].size
                start, stop, _ = piece.option("key")[0].indices(P)
                i = self._cuts[P].index(start)
                if self._cuts[P][i + 1] == stop:
                    self._shapes[P][i] = op.out.shape

    def __call__(self, *arguments: Any) -> Any:
        """Return what the traced function does, with pieces in place of vectors."""
        graph = self._graph
        given = map(self.cut, _arrays(graph.arguments, arguments))
        found: dict[Value, Any] = dict(zip(graph.inputs, given, strict=True))
        for op in graph.ops:
            args = [found[x] if isinstance(x, Value) else x for x in op.args]
            out = self._by_piece(op, args)
            found[op.out] = self._of_wholes(op, args) if out is None else out
            self._awaited(op, found)
        return mapped(graph.result, lambda leaf: self.cut(found[leaf]) if isinstance(leaf, Value) else leaf)

    def _awaited(self, op: Op, found: dict[Value, Any]) -> None:
        """Let who reads W after W^T dZ wait for that, so that XLA need not copy W to write the new one over it.

        It knows no order but that of data, and not that no number is larger than infinity.
        """
        if op.name != "matmul" or op.out.ndim != 2 or _transpose_of(self._graph, op.reads[0]) is None:
            return
        base, start, stop = self._graph.extent(op.reads[0])
        places = list(pairwise(self._cuts.get(base.size, [])))
        if isinstance(found[base], Pieces) and (start, stop) in places and op.out.size:
            i, parts, jnp = places.index((start, stop)), [*found[base].parts], self._jax.numpy
            parts[i] = jnp.where(found[op.out][0, 0] > jnp.inf, 0, parts[i])
            found[base] = Pieces(tuple(parts))

    def cut(self, x: Any) -> Any:
        """Return a vector's pieces; anything else as it is."""
        if isinstance(x, Pieces):
            if [part.shape for part in x.parts] in self._shapes.values():
                return x
            x = self._whole(x)  # another function's pieces
        if x.ndim != 1 or x.shape[0] not in self._cuts:
            return x
        P = x.shape[0]
        places = zip(pairwise(self._cuts[P]), self._shapes[P], strict=True)
        return Pieces(tuple(x[start:stop].reshape(shape) for (start, stop), shape in places))

    def _whole(self, x: Any) -> Any:
        return self._jax.numpy.concatenate(x.flat().parts) if isinstance(x, Pieces) else x

    def _of_wholes(self, op: Op, args: list[Any]) -> Any:
        """Return what an operation makes; a product as XLA is quickest at it, which is up to four times as quick.

        W^T dZ is (dZ^T W)^T for few samples; for many it is by a W^T that is there where W is small, and left to XLA
        where it is large. The barriers, since XLA would make one product of them again.
        """
        args = [self._whole(x) for x in args]
        if op.name != "matmul" or op.out.ndim != 2:
            return _do(op, args, self._jax)
        alone, m, (a, b) = self._jax.lax.optimization_barrier, op.out.shape[1], op.reads
        if _transpose_of(self._graph, a) is not None:
            large = min(a.shape) >= LARGE
            if m <= (MANY if large else FEW):
                return alone(alone(args[1].T) @ args[0].T).T
            return _do(op, args if large else [alone(args[0]), args[1]], self._jax)
        if self._is_turned(b) and a.shape[0] <= NARROW and min(b.shape) >= WIDE:
            return alone(args[1].T @ alone(args[0].T)).T
        return _do(op, args, self._jax)

    def _is_turned(self, x: Value) -> bool:
        """Whether what lies in memory row by row is x^T."""
        of = _transpose_of(self._graph, x)
        return x == self._turned if of is None else of != self._turned

    def _by_piece(self, op: Op, args: list[Any]) -> Any:
        """Return what an operation on pieces makes; None where it has to do with wholes."""
        cuts = self._cuts.get(op.out.size) if op.out.ndim == 1 else None
        if op.name == "concat":
            at = [0]
            for x in op.reads:
                at.append(at[-1] + x.shape[0])
            if at != cuts:
                return None
            return Pieces(
                tuple(x.reshape(shape) for x, shape in zip(args, self._shapes[at[-1]], strict=True))
            )
        if not any(isinstance(x, Pieces) for x in args):
            return None
        if op.name == "slice":
            cuts = self._cuts[op.reads[0].size]
            start, stop, _ = op.option("key")[0].indices(cuts[-1])
            inside = args[0].parts[cuts.index(start) : cuts.index(stop)] if {start, stop} <= {*cuts} else []
            return inside[0].reshape(-1) if len(inside) == 1 else None
        if op.kind == "elementwise" or op.name in ("astype", "copy"):
            cuts_of = [self.cut(x) if hasattr(x, "ndim") or isinstance(x, Pieces) else x for x in args]
            return Pieces(
                tuple(
                    _do(op, [x.parts[i] if isinstance(x, Pieces) else x for x in cuts_of], self._jax)
                    for i in range(len(cuts or ()) - 1)
                )
            )
        if op.name == "sum" and not op.option("keepdims"):
            return sum(_do(op, [x.reshape(-1)], self._jax) for x in args[0].parts)
        return None


def _transpose_of(graph: Graph, x: Value) -> Value | None:
    """Return the matrix of which x is the transpose; None if it is none."""
    maker = graph.makers.get(x)
    return maker.reads[0] if maker is not None and maker.name == "permute" and x.ndim == 2 else None


def _arrays(recorded: Any, given: Any) -> Iterator[Any]:
    """Yield what stands where a graph's arguments have arrays."""
    if isinstance(recorded, Value):
        yield given
    elif isinstance(recorded, dict):
        for key, branch in recorded.items():
            yield from _arrays(branch, given[key])
    elif isinstance(recorded, tuple | list):
        for branch, x in zip(recorded, given, strict=True):
            yield from _arrays(branch, x)


def _do(op: Op, args: list[Any], jax: Any) -> Any:
    """Return what one operation makes."""
    jnp = jax.numpy
    dtype = jax.dtypes.canonicalize_dtype(op.out.dtype)  # no 64 bits, unless x64 is on
    if op.name == "reshape":
        return args[0].reshape(op.out.shape)
    if op.name == "slice":
        return args[0][op.option("key")]
    if op.name == "permute":
        return jnp.transpose(args[0], op.option("axes"))
    if op.name == "broadcast":
        return jnp.broadcast_to(args[0], op.out.shape)
    if op.name == "copy":
        return args[0]
    if op.name == "concat":
        return jnp.concatenate(jax.lax.optimization_barrier(args), axis=op.option("axis"))
    if op.name == "full":
        return jnp.full(op.out.shape, op.option("value"), dtype)
    if op.name == "arange":
        start, step = op.option("start"), op.option("step")
        return jnp.arange(start, start + step * op.out.size, step, dtype=dtype)
    if op.name == "astype":
        return args[0].astype(dtype)
    if op.kind == "reduction":
        axes = op.option("axes")
        axis = axes[0] if op.name in ("argmax", "argmin") else axes
        return getattr(jnp, op.name)(args[0], axis=axis, keepdims=op.option("keepdims")).astype(dtype)
    if op.kind in ("elementwise", "matmul"):
        return getattr(jnp, op.name)(*args)
    raise TraceError(f"{op.name} is not known to the adapter of JAX")
