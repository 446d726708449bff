"""The fully connected layer, and the part of it that a layer with other parameters shares."""

from dataclasses import dataclass
from typing import Any

from nnx.array.namespace import Array, array_namespace
from nnx.errors import positive_int
from nnx.model.activations import activation
from nnx.model.activations.base import Activation
from nnx.model.initializers import Rng, initializer, zeros
from nnx.model.layers.base import Context, Layer, Params


@dataclass(frozen=True)
class Affine(Layer):
    """A layer with weights W (n, n'), biases b (n, 1) and an activation: `Dense` and its like."""

    n: int
    activation: str | Activation = "identity"
    init: str | None = None

    def __post_init__(self) -> None:
        called = f"n, the units of a {type(self).__name__} layer,"
        object.__setattr__(self, "n", positive_int(called, self.n))
        object.__setattr__(self, "activation", activation(self.activation))
        initializer(self.g.init if self.init is None else self.init)

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

    def describe(self) -> dict[str, Any]:
        """Return the arguments that make this layer again."""
        return {**super().describe(), "activation": self.g.name}


@dataclass(frozen=True)
class Dense(Affine):
    """A fully connected layer: Z[l] = W[l] A[l-1] + b[l], A[l] = g[l](Z[l]).

    Parameters
    ----------
    n : int
        n[l], the units of the layer.
    activation : str or Activation
        g[l]: a name among `nnx.ACTIVATIONS`, such as "relu" or "leaky_relu(0.1)", or one of your own.
    init : str or None
        The initializer of W[l] (`nnx.model.initializers`); None is the one that suits the activation
        (he for the ReLUs and their like, lecun for selu, else glorot). b[l] starts at zero.

    Raises
    ------
    InputError
        When n is not a positive integer, or a name is not known.

    Examples
    --------
    >>> Dense(20, "relu").shapes(12288)
    {'W': (20, 12288), 'b': (20, 1)}
    """

    def draw(self, rng: Rng, n_prev: int, scheme: str | None = None) -> Params:
        """Return the first W[l], drawn by scheme, else the layer's initializer, and b[l] = 0."""
        names = (scheme, self.init, self.g.init)
        W = initializer(next(name for name in names if name is not None))(rng, self.n, n_prev)
        return {"W": W, "b": zeros(rng, self.n, 1)}

    def forward(self, params: Params, A_prev: Array, context: Context) -> tuple[Array, Any]:
        """Return A[l] (..., n[l], m) from A[l-1] (..., n[l-1], m)."""
        Z = params["W"] @ A_prev + params["b"]  # Z[l] = W[l] A[l-1] + b[l]
        A = self.g.g(Z)  # A[l] = g[l](Z[l])
        return A, (A_prev, *self.g.kept(Z, A))

    def backward(
        self, params: Params, kept: Any, dA: Array, need_dA_prev: bool
    ) -> tuple[Array | None, Params]:
        """Return dA[l-1] and {"W": dW[l], "b": db[l]} from dA[l]."""
        xp = array_namespace(dA)
        A_prev, *Z_or_A = kept
        dZ = self.g.backward(dA, tuple(Z_or_A))  # dZ[l] = dA[l] * g[l]'(Z[l])
        dW = dZ @ xp.matrix_transpose(A_prev)  # dW[l] = dZ[l] A[l-1]^T    (dZ has the 1/m)
        db = xp.sum(dZ, axis=-1, keepdims=True)  # db[l] = sum of dZ[l] over the samples
        dA_prev = xp.matrix_transpose(params["W"]) @ dZ if need_dA_prev else None  # dA[l-1] = W[l]^T dZ[l]
        return dA_prev, {"W": dW, "b": db}
