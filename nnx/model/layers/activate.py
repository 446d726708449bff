"""Activations as layers: one of `nnx.ACTIVATIONS`, and one that learns its slope."""

import math
from dataclasses import dataclass
from typing import Any

from nnx.array.namespace import Array, array_namespace
from nnx.model.activations import activation
from nnx.model.activations.base import Activation
from nnx.model.initializers import Rng, zeros
from nnx.model.layers.base import Context, Layer, Params, check_number


@dataclass(frozen=True)
class Activate(Layer):
    """An activation as a layer: A[l] = g(A[l-1]). Use it after a norm.

    Parameters
    ----------
    activation : str or Activation
        As in `nnx.Dense`. Give the Dense before it a suitable initializer: ``Dense(64, init="he")`` before ReLU.

    Examples
    --------
    >>> from nnx import BatchNorm, Dense, Network
    >>> Network(8, [Dense(16, init="he"), BatchNorm(), Activate("relu"), Dense(3)], output="softmax").L
    2
    """

    activation: str | Activation

    def __post_init__(self) -> None:
        object.__setattr__(self, "activation", activation(self.activation))

    @property
    def g(self) -> Activation:
        """The activation."""
        assert isinstance(self.activation, Activation)  # since __post_init__
        return self.activation

    def forward(self, params: Params, A_prev: Array, context: Context) -> tuple[Array, Any]:
        """Return g(A[l-1]) (..., n, m)."""
        A = self.g.g(A_prev)
        return A, self.g.kept(A_prev, A)

    def backward(self, params: Params, kept: Any, dA: Array, need_dA_prev: bool) -> tuple[Array, Params]:
        """Return dA[l-1] = dA[l] * g'."""
        return self.g.backward(dA, kept), {}

    def describe(self) -> dict[str, Any]:
        """Return the activation's name."""
        return {"activation": self.g.name}


@dataclass(frozen=True)
class PReLU(Layer):
    """max(0, z) + a min(0, z) with a learned slope a for each unit.

    (He et al., 2015, https://arxiv.org/abs/1502.01852, eq. 1. One slope a unit as there and in Keras; PyTorch's
    default is one for all.)

    Parameters
    ----------
    a : float
        The first slope; 0.25 as in the paper.
    """

    a: float = 0.25

    def __post_init__(self) -> None:
        check_number(self, "a", -math.inf)

    def shapes(self, n_prev: int) -> dict[str, tuple[int, ...]]:
        """Return the shape of a: (n[l], 1)."""
        return {"a": (n_prev, 1)}

    def draw(self, rng: Rng, n_prev: int, scheme: str | None = None) -> Params:
        """Return the first slopes."""
        return {"a": zeros(rng, n_prev, 1) + self.a}

    def forward(self, params: Params, A_prev: Array, context: Context) -> tuple[Array, Any]:
        """Return max(0, z) + a min(0, z) (..., n, m)."""
        xp = array_namespace(A_prev)
        return xp.maximum(A_prev, 0.0) + params["a"] * xp.minimum(A_prev, 0.0), A_prev

    def backward(
        self, params: Params, kept: Any, dA: Array, need_dA_prev: bool
    ) -> tuple[Array | None, Params]:
        """Return dA[l-1], with slope a at z <= 0, and {"a": sum of dA min(0, z)}."""
        xp = array_namespace(dA)
        da = xp.sum(dA * xp.minimum(kept, 0.0), axis=-1, keepdims=True)
        return (dA * xp.where(kept > 0, 1.0, params["a"]) if need_dA_prev else None), {"a": da}
