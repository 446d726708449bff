"""The periodic embedding of numbers, by learned frequencies."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from nnx.array.namespace import Array, array_namespace
from nnx.errors import flag, integer
from nnx.model.activations.base import Activation
from nnx.model.initializers import Rng, truncated_normal, uniform
from nnx.model.layers.base import Context, Params, check_number
from nnx.model.layers.embedding import Embedding, part, tile


@dataclass(frozen=True)
class Periodic(Embedding):
    """cos and sin of v = 2 pi c x, with frequencies c learned for each column; then g(V cos v + U sin v + b).

    (Gorishniy et al., 2022, https://arxiv.org/abs/2203.05556, section 3.3: PLR with g = "relu", PL with "identity".
    The same as `PeriodicEmbeddings` of rtdl_num_embeddings.) Scale the columns first, to variance 1, say.

    Parameters
    ----------
    frequencies : int
        k, the frequencies of each column.
    width : int
        The units of each column.
    sigma : float
        The deviation of the first frequencies, N(0, sigma^2), of which none is beyond 3 sigma. The most important
        number: try 0.01 to 10. (0.1 as RealMLP, https://arxiv.org/abs/2407.04491; rtdl_num_embeddings has 0.01.)
    activation : str or Activation
        g.
    columns : sequence of int, or None
        The embedded columns, ascending; the others follow as they are. None: all (of `fitted`: see there).
    lite : bool
        Whether all columns share one V, U and b.

    Examples
    --------
    >>> import nnx
    >>> nnx.Periodic(frequencies=4, width=3, columns=[0, 2]).shapes(5)
    {'c': (8, 1), 'V': (6, 4), 'U': (6, 4), 'b': (6, 1)}
    """

    decayed: ClassVar[tuple[str, ...]] = ("V", "U")

    frequencies: int = 48
    width: int = 24
    sigma: float = 0.1
    activation: str | Activation = "relu"
    columns: Sequence[int] | None = None
    lite: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "frequencies", integer("frequencies", self.frequencies, 1))
        object.__setattr__(self, "width", integer("width", self.width, 1))
        object.__setattr__(self, "lite", flag("lite", self.lite))
        check_number(self, "sigma", 0, below=False)
        self._check_columns()

    def units_of_each(self) -> int:
        """Return the width."""
        return self.width

    def shapes(self, n_prev: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of c (columns * k, 1), V and U (columns * width, k), and b; with `lite` V (width, k)."""
        n, k = len(self.embedded(n_prev)), self.frequencies
        rows = self.width * (1 if self.lite else n)
        return {"c": (n * k, 1), "V": (rows, k), "U": (rows, k), "b": (rows, 1)}

    def draw(self, rng: Rng, n_prev: int, scheme: str | None = None) -> Params:
        """Return c as `sigma` says, and V, U and b as U(±1/sqrt(2 k)), like in rtdl_num_embeddings."""
        shapes, bound = self.shapes(n_prev), 1 / math.sqrt(2 * self.frequencies)
        c = truncated_normal(rng, shapes["c"], self.sigma)
        return {"c": c, **{name: uniform(rng, shapes[name], bound, scheme) for name in ("V", "U", "b")}}

    def forward(self, params: Params, A_prev: Array, context: Context) -> tuple[Array, Any]:
        """Return A[l] (..., n[l], m): g(V cos v + U sin v + b) of each embedded column, and the others."""
        xp, n_prev = array_namespace(A_prev), A_prev.shape[-2]
        X = self._repeated(A_prev, self.frequencies)
        v = (2 * math.pi) * params["c"] * X  # v = 2 pi c x
        C, S = xp.cos(v), xp.sin(v)
        n = len(self.embedded(n_prev))
        VC, US = (xp.concat(self._products(params[W], wave), axis=-2) for W, wave in (("V", C), ("U", S)))
        b = tile(X, self.width, n) @ params["b"] if self.lite else params["b"]
        Z = VC + US + b  # z = V cos v + U sin v + b
        A = self.g.g(Z)
        return self._beside(A, A_prev), (X, C, S, n_prev, *self.g.kept(Z, A))

    def backward(
        self, params: Params, kept: Any, dA: Array, need_dA_prev: bool
    ) -> tuple[Array | None, Params]:
        """Return dA[l-1] and {"c": ..., "V": ..., "U": ..., "b": ...}."""
        xp, (X, C, S, n_prev, *Z_or_A) = array_namespace(dA), kept
        n = len(self.embedded(n_prev))
        dZ = self.g.backward(dA[..., : n * self.width, :], tuple(Z_or_A))  # dz = da * g'(z)
        dC, dS = (xp.concat(self._products(params[W], dZ, transposed=True), axis=-2) for W in ("V", "U"))
        dv = (2 * math.pi) * (dS * C - dC * S)  # d cos v = -sin v dv, d sin v = cos v dv; with the 2 pi of v
        grads = {"c": xp.sum(dv * X, axis=-1, keepdims=True)}  # dc = sum of dv x
        for W, wave in (("V", C), ("U", S)):  # dV = dz cos^T, dU = dz sin^T
            grads[W] = self._over_columns(
                [
                    part(dZ, f, self.width) @ xp.matrix_transpose(part(wave, f, self.frequencies))
                    for f in range(n)
                ]
            )
        db = xp.sum(dZ, axis=-1, keepdims=True)
        grads["b"] = xp.matrix_transpose(tile(X, self.width, n)) @ db if self.lite else db
        if not need_dA_prev:
            return None, grads
        return self._derivative(dv * params["c"], dA, self.frequencies, n_prev), grads

    def _products(self, W: Array, x: Array, transposed: bool = False) -> list[Array]:
        """Return W x of each column, each with its own rows of W, or all of it with `lite`; W^T x if `transposed`."""
        size = self.width if transposed else self.frequencies
        found = []
        for f in range(x.shape[-2] // size):
            own = W if self.lite else part(W, f, self.width)
            found.append((array_namespace(W).matrix_transpose(own) if transposed else own) @ part(x, f, size))
        return found

    def _over_columns(self, grads: list[Array]) -> Array:
        """Return the derivatives of each column's own rows as one array; with `lite` their sum."""
        return sum(grads[1:], grads[0]) if self.lite else array_namespace(grads[0]).concat(grads, axis=-2)

    def describe(self) -> dict[str, Any]:
        """Return the arguments that make this layer again."""
        return {
            "frequencies": self.frequencies,
            "width": self.width,
            "sigma": self.sigma,
            "activation": self.g.name,
            "columns": None if self.columns is None else list(self.columns),
            "lite": self.lite,
        }
