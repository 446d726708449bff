"""The piecewise-linear embedding of numbers, by the bins of their quantiles."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, ClassVar

from nnx.array import host
from nnx.array.namespace import Array, array_namespace
from nnx.errors import InputError, integer, items, number, shown
from nnx.model.activations.base import Activation
from nnx.model.initializers import Rng, uniform, zeros
from nnx.model.layers.base import Context, Params
from nnx.model.layers.embedding import Embedding, as_columns, part

UNBOUNDED = 1e30
"""The clip of the first bin below, and of the last one above: none, in a number that float32 has."""


@dataclass(frozen=True)
class PiecewiseLinear(Embedding):
    """Each column in bins, e = clip((x - left)/(right - left), 0, 1) for each bin; then g(V e + b) of its own V and b.

    A column's x below its first edge makes e of the first bin negative; x above its last one makes e of the last bin
    larger than 1. (Gorishniy et al., 2022, https://arxiv.org/abs/2203.05556, eq. 1 and section 3.4: PLE, PLE-LR. The
    same as `PiecewiseLinearEmbeddings` of rtdl_num_embeddings in its version "A".)

    Parameters
    ----------
    bins : int
        Bins of each column, at least 2. A column of few distinct values has fewer; the rest are 0.
    width : int or None
        The units of each column. None: the encoding e itself, `bins` units without parameters.
    activation : str or Activation
        g; "relu" or "identity", say.
    columns : sequence of int, or None
        The embedded columns, ascending; the others follow as they are. None: all (of `fitted`: see there).
    edges : sequence of sequences of float, or None
        The bins' edges of each embedded column, ascending. None: `fitted` learns them.

    Notes
    -----
    The edges are parameters that are not learned, so that members of a stack may have edges of their own: "left",
    "inverse" (1/(right - left)), "low" and "high" (the clip), each (columns * bins, 1). V (columns * width, bins).

    Examples
    --------
    >>> import numpy as np
    >>> import nnx
    >>> X = np.array([[0.0, 1.0, 2.0, 3.0, 4.0]])
    >>> layer = nnx.PiecewiseLinear.from_data(X, bins=2, width=None)
    >>> layer.edges
    ((0.0, 2.0, 4.0),)
    >>> net = nnx.Network(1, [layer, nnx.Dense(1)], output="identity")
    >>> layer.forward(layer.draw(None, 1), np.array([[0.5, 3.0]]), nnx.Context())[0]
    array([[0.25, 1.  ],
           [0.  , 0.5 ]])
    """

    fixed: ClassVar[tuple[str, ...]] = ("left", "inverse", "low", "high")

    bins: int = 48
    width: int | None = 8
    activation: str | Activation = "relu"
    columns: Sequence[int] | None = None
    edges: Sequence[Sequence[float]] | None = field(
        default=None, repr=False, compare=False
    )  # of a stack: each its own

    def __post_init__(self) -> None:
        object.__setattr__(self, "bins", integer("bins", self.bins, 2))
        if self.width is not None:
            object.__setattr__(self, "width", integer("width", self.width, 1))
        self._check_columns()
        if self.edges is not None:
            given = items("edges", self.edges, "the edges of each column")
            object.__setattr__(self, "edges", tuple(_checked(one, self.bins) for one in given))
            if self.columns is not None and len(self.columns) != len(given):
                raise InputError(f"edges are of {len(given)} columns, and columns names {len(self.columns)}")

    @classmethod
    def from_data(cls, X: Any, bins: int = 48, *, rows: bool = False, **options: Any) -> "PiecewiseLinear":
        """Return the layer with edges at the quantiles of X (n, m), or (m, n) with `rows`: see `fitted`.

        Give it the samples to train on, and no others, in the dtype of the training.
        """
        return cls(bins, **options).fitted(X, rows)

    def fitted(self, X: Any, rows: bool = False, dtype: str | None = None) -> "PiecewiseLinear":
        """Return the layer with edges at the quantiles of the samples X. See `Embedding`.

        Edges that are equal in `dtype`, or so near that 1/(right - left) is infinite there, are one edge.

        Raises
        ------
        InputError
            Also when a column's numbers differ, but so little that no bin is left in `dtype`.
        """
        X = as_columns(X, rows)
        layer, dtype = super().fitted(X), dtype or str(X.dtype)
        columns = layer.embedded(X.shape[0])
        edges = []
        for c in columns:
            found = quantiles(X[c, :], self.bins)
            edges.append(merged(found, dtype))
            if len(edges[-1]) == 1 < len(found):
                raise _too_near(c, found, dtype)
        return replace(layer, columns=columns, edges=tuple(edges))

    def learned(self, X: Any, rows: bool = False, dtype: str | None = None) -> "PiecewiseLinear":
        """Return the layer to train on X: with its own edges where it has some, else as `fitted`."""
        if self.edges is None:
            return self.fitted(X, rows, dtype)
        X = as_columns(X, rows)
        dtype = dtype or str(X.dtype)
        for c, edges in zip(self.embedded(X.shape[0]), self.edges, strict=True):
            if len(merged(edges, dtype)) < len(edges):
                raise _too_near(c, edges, dtype)
        return self

    def embedded(self, n_prev: int) -> tuple[int, ...]:
        """Return the columns that are embedded, of n[l-1]; an InputError if they are not those that have edges."""
        columns = super().embedded(n_prev)
        if self.edges is not None and len(self.edges) != len(columns):
            raise InputError(
                f"PiecewiseLinear has edges of {len(self.edges)} columns; its input has {n_prev}; name their columns"
            )
        return columns

    def units_of_each(self) -> int:
        """Return the width, or the bins of the encoding itself."""
        return self.bins if self.width is None else self.width

    def shapes(self, n_prev: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of V (columns * width, bins), of b, and of the bins."""
        n = len(self.embedded(n_prev))
        own = {} if self.width is None else {"V": (n * self.width, self.bins), "b": (n * self.width, 1)}
        return {**own, **dict.fromkeys(self.fixed, (n * self.bins, 1))}

    def draw(self, rng: Rng, n_prev: int, scheme: str | None = None) -> Params:
        """Return V and b, U(±1/sqrt(bins)) as in rtdl_num_embeddings, and the bins.

        Raises
        ------
        InputError
            When the edges are not known.
        """
        if self.edges is None:
            raise InputError("PiecewiseLinear has no edges; make it with nnx.PiecewiseLinear.from_data(X)")
        shapes, bound = self.shapes(n_prev), 1 / math.sqrt(self.bins)
        drawn = {name: uniform(rng, shapes[name], bound, scheme) for name in ("V", "b") if name in shapes}
        return drawn | self.bin_parameters()

    def bin_parameters(self) -> Params:
        """Return the bins as parameters, by their names in the layer."""
        assert self.edges is not None
        table = [row for edges in self.edges for row in _rows(edges, self.bins)]
        made = {}
        for name, numbers in zip(self.fixed, zip(*table, strict=True), strict=True):
            made[name] = zeros(None, len(table), 1)  # type: ignore[arg-type]
            made[name][:, 0] = numbers
        return made

    def forward(self, params: Params, A_prev: Array, context: Context) -> tuple[Array, Any]:
        """Return A[l] (..., n[l], m): g(V e + b) of each embedded column, and the others."""
        xp, n_prev = array_namespace(A_prev), A_prev.shape[-2]
        left, inverse, low, high = (params[name] for name in self.fixed)
        z = (self._repeated(A_prev, self.bins) - left) * inverse  # z = (x - left)/(right - left)
        E = xp.minimum(xp.maximum(z, low), high)  # e = clip(z, low, high)
        if self.width is None:
            return self._beside(E, A_prev), (E, n_prev)
        Z = [part(params["V"], f, self.width) @ e for f, e in enumerate(self._parts(E))]
        Z = xp.concat(Z, axis=-2) + params["b"]  # z = V e + b
        A = self.g.g(Z)
        return self._beside(A, A_prev), (E, n_prev, *self.g.kept(Z, A))

    def backward(
        self, params: Params, kept: Any, dA: Array, need_dA_prev: bool
    ) -> tuple[Array | None, Params]:
        """Return dA[l-1] and {"V": ..., "b": ...}."""
        xp, (E, n_prev, *Z_or_A) = array_namespace(dA), kept
        dE, grads = dA[..., : E.shape[-2], :], {}
        if self.width is not None:
            n, d = E.shape[-2] // self.bins, self.width
            dZ = self.g.backward(dA[..., : n * d, :], tuple(Z_or_A))  # dz = da * g'(z)
            each = [part(dZ, f, d) for f in range(n)]
            dV = [
                dz @ xp.matrix_transpose(e) for dz, e in zip(each, self._parts(E), strict=True)
            ]  # dV = dz e^T
            grads = {"V": xp.concat(dV, axis=-2), "b": xp.sum(dZ, axis=-1, keepdims=True)}
            if need_dA_prev:  # de = V^T dz
                dE = [xp.matrix_transpose(part(params["V"], f, d)) @ dz for f, dz in enumerate(each)]
                dE = xp.concat(dE, axis=-2)
        if not need_dA_prev:
            return None, grads
        _, inverse, low, high = (params[name] for name in self.fixed)
        dX = xp.where((E > low) & (E < high), dE * inverse, 0.0)  # de/dx = 1/(right - left) inside the bin
        return self._derivative(dX, dA, self.bins, n_prev), grads

    def _parts(self, E: Array) -> list[Array]:
        """Return e of each column, (..., bins, m)."""
        return [part(E, f, self.bins) for f in range(E.shape[-2] // self.bins)]

    def describe(self) -> dict[str, Any]:
        """Return the arguments that make this layer again."""
        return {
            "bins": self.bins,
            "width": self.width,
            "activation": self.g.name,
            "columns": None if self.columns is None else list(self.columns),
            "edges": None if self.edges is None else [list(one) for one in self.edges],
        }


def _checked(edges: Any, bins: int) -> tuple[float, ...]:
    """Return the edges of a column as floats, or raise an InputError."""
    found = tuple(
        number("an edge", x, "a finite number", math.isfinite)
        for x in items("edges", edges, "ascending numbers")
    )
    if not 1 <= len(found) <= bins + 1 or any(a >= b for a, b in pairwise(found)):
        raise InputError(
            f"edges must be 1 to {bins + 1} ascending numbers for each column, not {shown(edges)}"
        )
    return found


def _rows(edges: Sequence[float], bins: int) -> list[tuple[float, float, float, float]]:
    """Return left, 1/(right - left), and the lowest and the highest e, of each bin; e is 0 in those that lack.

    Examples
    --------
    >>> _rows((0.0, 2.0, 6.0), 3)
    [(0.0, 0.5, -1e+30, 1.0), (2.0, 0.25, 0.0, 1e+30), (0.0, 0.0, 0.0, 1.0)]
    """
    n = len(edges) - 1
    found = [
        (
            edges[t],
            1 / (edges[t + 1] - edges[t]),
            -UNBOUNDED if t == 0 else 0.0,
            UNBOUNDED if t == n - 1 else 1.0,
        )
        for t in range(n)
    ]
    return found + [(0.0, 0.0, 0.0, 1.0)] * (bins - n)


def merged(edges: Sequence[float], dtype: str) -> tuple[float, ...]:
    """Return the ascending edges without those too near to the one before: equal, or 1/(right - left) infinite.

    Examples
    --------
    >>> merged((0.0, 1e-45, 1.0, 1.0 + 1e-12), "float32"), merged((0.0, 1e-45), "float64")
    ((0.0, 1.0), (0.0, 1e-45))
    """
    with host.quiet():
        rounded = host.as_dtype(list(edges), dtype)
    most = float(array_namespace(rounded).finfo(rounded.dtype).max)
    kept = [0]
    for i in range(1, len(edges)):
        last = kept[-1]
        if rounded[i] > rounded[last] and 1 / (edges[i] - edges[last]) <= most:
            kept.append(i)
    return tuple(edges[i] for i in kept)


def _too_near(c: int, edges: Sequence[float], dtype: str) -> InputError:
    return InputError(
        f"the edges of column {c}, from {edges[0]:.17g} to {edges[-1]:.17g}, are too near to each other for {dtype}; "
        "subtract the column's mean and scale it, or train in float64"
    )


def quantiles(x: Array, bins: int) -> tuple[float, ...]:
    """Return the quantiles 0, 1/bins, ..., 1 of numbers (m,), interpolated as NumPy does it, without repetitions.

    Examples
    --------
    >>> import numpy as np
    >>> quantiles(np.array([4.0, 0.0, 1.0, 2.0, 3.0]), 2), quantiles(np.zeros(5), 2)
    ((0.0, 2.0, 4.0), (0.0,))
    """
    x = array_namespace(x).sort(x)
    last = x.shape[0] - 1
    found = []
    for i in range(bins + 1):
        at = i / bins * last
        below = min(int(at), last)
        a, b, t = float(x[below]), float(x[min(below + 1, last)]), at - below
        found.append(a + (b - a) * t if t < 0.5 else b - (b - a) * (1 - t))
    return tuple(sorted(set(found)))
