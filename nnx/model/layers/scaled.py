"""Layers whose parameters stand with a factor before them, so that one learning rate suits all of them.

Under Adam and its like a step is of the size alpha, however large the gradient. So a parameter that acts through a
factor c changes its effect by c alpha a step: c is a factor of its learning rate.
"""

from dataclasses import dataclass
from math import sqrt
from typing import Any

from nnx.array.namespace import Array, array_namespace
from nnx.model.initializers import Rng, initializer, zeros
from nnx.model.layers.base import Context, Layer, Params, check_number
from nnx.model.layers.dense import Affine


@dataclass(frozen=True)
class FeatureScale(Layer):
    """A learned factor for each feature: A[l] = rate s A[l-1], with rate s = 1 at first.

    As the first layer it learns which features matter ("scaling layer" of Holzmueller et al., 2024,
    https://arxiv.org/abs/2407.04491, section 4).

    Parameters
    ----------
    rate : float
        The factor of the learning rate under Adam, greater than 0. The paper has 6.

    Examples
    --------
    >>> import nnx
    >>> nnx.Network(3, [FeatureScale(6.0), nnx.Dense(1)], output="sigmoid").shapes
    {'s0': (3, 1), 'W1': (1, 3), 'b1': (1, 1)}
    """

    rate: float = 1.0

    def __post_init__(self) -> None:
        check_number(self, "rate", 0, below=False)

    def shapes(self, n_prev: int) -> dict[str, tuple[int, ...]]:
        """Return the shape of s: (n[l], 1)."""
        return {"s": (n_prev, 1)}

    def draw(self, rng: Rng, n_prev: int, scheme: str | None = None) -> Params:
        """Return s = 1 / rate."""
        return {"s": zeros(rng, n_prev, 1) + 1 / self.rate}

    def forward(self, params: Params, A_prev: Array, context: Context) -> tuple[Array, Any]:
        """Return rate s A[l-1] (..., n, m)."""
        factor = self.rate * params["s"]
        return factor * A_prev, (factor, A_prev)

    def backward(
        self, params: Params, kept: Any, dA: Array, need_dA_prev: bool
    ) -> tuple[Array | None, Params]:
        """Return dA[l-1] = rate s dA[l] and {"s": rate times the sum of dA[l] A[l-1] over the samples}."""
        factor, A_prev = kept
        ds = self.rate * array_namespace(dA).sum(dA * A_prev, axis=-1, keepdims=True)
        return (factor * dA if need_dA_prev else None), {"s": ds}


@dataclass(frozen=True)
class NTKDense(Affine):
    """A Dense layer in the neural tangent parametrization: Z[l] = W[l] A[l-1] / sqrt(n[l-1]) + bias_rate b[l].

    (Jacot et al., 2018, https://arxiv.org/abs/1806.07572, section 3.) The weights are of size 1 in layers of any width.
    So one learning rate of Adam suits all widths.

    Parameters
    ----------
    n : int
        n[l], the units of the layer.
    activation : str or Activation
        g[l], as in `nnx.Dense`.
    init : str or None
        The initializer of the effective weights W[l] / sqrt(n[l-1]). None: inverse_sqrt, so that W[l] is N(0, 1), as
        in the paper. The effective biases bias_rate b[l] are N(0, 1), too; with "zeros" they start at zero.
    bias_rate : float
        The factor of the biases' learning rate under Adam, greater than 0. 1, as in PyTorch; RealMLP
        (https://arxiv.org/abs/2407.04491) has 0.1.

    Examples
    --------
    >>> NTKDense(256, "selu", bias_rate=0.1).shapes(20)
    {'W': (256, 20), 'b': (256, 1)}
    """

    bias_rate: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self, "bias_rate", 0, below=False)

    def draw(self, rng: Rng, n_prev: int, scheme: str | None = None) -> Params:
        """Return the first W[l] and b[l], with effective weights drawn by scheme, else by the layer's initializer."""
        name = scheme or self.init or "inverse_sqrt"
        W = sqrt(n_prev) * initializer(name)(rng, self.n, n_prev)
        if name == "zeros":
            return {"W": W, "b": zeros(rng, self.n, 1)}
        return {"W": W, "b": rng.standard_normal((self.n, 1)) / self.bias_rate}

    def forward(self, params: Params, A_prev: Array, context: Context) -> tuple[Array, Any]:
        """Return A[l] (..., n[l], m) from A[l-1] (..., n[l-1], m)."""
        # Z[l] = W[l] A[l-1] / sqrt(n[l-1]) + bias_rate b[l]
        Z = params["W"] @ A_prev / sqrt(A_prev.shape[-2]) + self.bias_rate * params["b"]
        A = self.g.g(Z)
        return A, (A_prev, *self.g.kept(Z, A))

    def backward(
        self, params: Params, kept: Any, dA: Array, need_dA_prev: bool
    ) -> tuple[Array | None, Params]:
        """Return dA[l-1] and {"W": dW[l], "b": db[l]} from dA[l]."""
        xp = array_namespace(dA)
        A_prev, *Z_or_A = kept
        dZ = self.g.backward(dA, tuple(Z_or_A))
        db = self.bias_rate * xp.sum(dZ, axis=-1, keepdims=True)
        dZ = dZ / sqrt(A_prev.shape[-2])  # the derivative by W[l] A[l-1]
        dW = dZ @ xp.matrix_transpose(A_prev)
        dA_prev = xp.matrix_transpose(params["W"]) @ dZ if need_dA_prev else None
        return dA_prev, {"W": dW, "b": db}
