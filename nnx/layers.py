"""The layers: each is data plus a pure forward and a pure backward (the block diagram of the notes).

The forward block of layer l takes A[l-1] and gives A[l], keeping what the backward block needs; the backward
block takes dA[l] and gives dA[l-1], dW[l] and db[l]. All derivatives are those of the cost J itself, so the
notes' factor 1/m, which J has, is in dZ[L] once and for all (`nnx.network`) and in no formula here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from nnx.activations import Activation, activation
from nnx.arrays import Array, array_namespace
from nnx.errors import positive_int
from nnx.initializers import Rng, initializer, zeros

Params: TypeAlias = dict[str, Array]
"""A layer's parameters, or their derivatives, by their names ("W", "b")."""


class Layer(Protocol):
    """What a network asks of a layer."""

    def units(self, n_prev: int) -> int:
        """Return n[l], given n[l-1]."""

    def shapes(self, n_prev: int) -> dict[str, tuple[int, ...]]:
        """Return the name and shape of every parameter, in the order in which theta holds them."""

    def draw(self, rng: Rng, n_prev: int, scheme: str | None) -> Params:
        """Return the first parameters, on the host; an initializer's name as scheme replaces the layer's."""

    def forward(self, params: Params, A_prev: Array) -> tuple[Array, Any]:
        """Return A[l] and what `backward` needs."""

    def backward(
        self, params: Params, kept: Any, dA: Array, need_dA_prev: bool
    ) -> tuple[Array | None, Params]:
        """Return dA[l-1] (None unless needed: the first layer's is not) and the parameters' derivatives."""

    def describe(self) -> dict[str, Any]:
        """Return the keyword arguments that make this layer again, of types that JSON has."""


@dataclass(frozen=True)
class Dense:
    """A fully connected layer: Z[l] = W[l] A[l-1] + b[l], A[l] = g[l](Z[l]).

    Parameters
    ----------
    n : int
        n[l], the units of the layer.
    activation : str or Activation
        g[l]: sigmoid, tanh, relu, leaky_relu, leaky_relu(alpha), identity, or one of your own.
    init : str or None
        The initializer of W[l] (`nnx.initializers`); None is the one that suits the activation
        (he for ReLUs, else glorot). b[l] starts at zero.

    Raises
    ------
    InputError
        When n is not a positive integer, or a name is not known.

    Examples
    --------
    >>> Dense(20, "relu").shapes(12288)
    {'W': (20, 12288), 'b': (20, 1)}
    """

    n: int
    activation: str | Activation = "identity"
    init: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "n", positive_int("n, the units of a Dense layer,", self.n))
        object.__setattr__(self, "activation", activation(self.activation))
        initializer(self.init or self.g.init)

    @property
    def g(self) -> Activation:
        """The activation g[l]."""
        assert isinstance(self.activation, Activation)  # since __post_init__
        return self.activation

    def units(self, n_prev: int) -> int:
        """Return n[l]."""
        return self.n

    def shapes(self, n_prev: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of W[l], (n[l], n[l-1]), and b[l], (n[l], 1)."""
        return {"W": (self.n, n_prev), "b": (self.n, 1)}

    def draw(self, rng: Rng, n_prev: int, scheme: str | None = None) -> Params:
        """Return the first W[l], drawn by scheme, else the layer's initializer, and b[l] = 0."""
        W = initializer(scheme or self.init or self.g.init)(rng, self.n, n_prev)
        return {"W": W, "b": zeros(rng, self.n, 1)}

    def forward(self, params: Params, A_prev: Array) -> tuple[Array, Any]:
        """Return A[l] (..., n[l], m) from A[l-1] (..., n[l-1], m)."""
        Z = params["W"] @ A_prev + params["b"]  # Z[l] = W[l] A[l-1] + b[l]
        A = self.g.g(Z)  # A[l] = g[l](Z[l])
        return A, (A_prev, A if self.g.keep == "A" else Z)

    def backward(
        self, params: Params, kept: Any, dA: Array, need_dA_prev: bool
    ) -> tuple[Array | None, Params]:
        """Return dA[l-1] and {"W": dW[l], "b": db[l]} from dA[l]."""
        xp = array_namespace(dA)
        A_prev, A_or_Z = kept
        dZ = dA * self.g.dg(A_or_Z)  # dZ[l] = dA[l] * g[l]'(Z[l])
        dW = dZ @ xp.matrix_transpose(A_prev)  # dW[l] = dZ[l] A[l-1]^T    (dZ has the 1/m)
        db = xp.sum(dZ, axis=-1, keepdims=True)  # db[l] = sum of dZ[l] over the samples
        dA_prev = xp.matrix_transpose(params["W"]) @ dZ if need_dA_prev else None  # dA[l-1] = W[l]^T dZ[l]
        return dA_prev, {"W": dW, "b": db}

    def describe(self) -> dict[str, Any]:
        """Return the arguments that make this layer again."""
        return {"n": self.n, "activation": self.g.name, "init": self.init}


LAYERS: dict[str, Callable[..., Layer]] = {"Dense": Dense}
"""Every layer that a model file may name."""
