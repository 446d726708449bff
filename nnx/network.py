"""A network: forward and backward propagation over its layers, all parameters in one flat vector theta.

Everything here indexes from the last two axes, so leading axes mean a stack of networks that are computed at
once: theta (..., P), X (..., n[0], m), A (..., n[L], m), J (...,). One network has none.
"""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

from nnx import host
from nnx.activations import Activation
from nnx.arrays import Array, array_namespace
from nnx.errors import InputError, positive_int, unknown
from nnx.layers import LAYERS, Dense, Layer, Params
from nnx.outputs import output as find_output
from nnx.outputs import targets


class Slot(NamedTuple):
    """A parameter's place in theta: its name in the layer and in the network, its shape and its slice."""

    key: str
    name: str
    shape: tuple[int, ...]
    place: slice


class Network:
    """L layers, an output link and the loss that belongs to it.

    Parameters
    ----------
    n_features : int
        n[0], the rows of X.
    layers : sequence of Layer
        The last one gives Z[L]: a Dense whose activation is the identity, the link being the output's.
    output : {"sigmoid", "softmax", "identity", "exp"}
        The link g[L] with its canonical loss: binary cross-entropy, cross-entropy, half squared error, half
        Poisson deviance.

    Attributes
    ----------
    n : tuple of int
        n[0], ..., n[L], for the layers that have parameters.
    P : int
        The number of parameters, which is theta's length.

    Examples
    --------
    >>> net = Network(784, [Dense(512, "relu"), Dense(10)], output="softmax")
    >>> net.n, net.P
    ((784, 512, 10), 407050)
    """

    def __init__(self, n_features: int, layers: Sequence[Layer], output: str) -> None:
        self.n_features = positive_int("n_features", n_features)
        self.layers = tuple(layers)
        self.output = find_output(output)
        if not self.layers:
            raise InputError("a network needs at least one layer; given none")
        last = self.layers[-1]
        if not isinstance(last, Dense) or last.g.name != "identity":
            raise InputError(
                f"the last layer must be a Dense without an activation, since the output {output!r} is its "
                f"activation; given {last!r}"
            )
        self.n: tuple[int, ...] = (self.n_features,)
        self.P = 0
        self._slots: list[list[Slot]] = []  # of each layer
        n_prev = self.n_features
        for layer in self.layers:
            shapes = layer.shapes(n_prev)
            n_prev = layer.units(n_prev)
            if shapes:
                self.n += (n_prev,)
            slots = []
            for key, shape in shapes.items():
                slots.append(Slot(key, f"{key}{self.L}", shape, slice(self.P, self.P + prod(shape))))
                self.P = slots[-1].place.stop
            self._slots.append(slots)

    @property
    def L(self) -> int:
        """The number of layers with parameters."""
        return len(self.n) - 1

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every parameter: {"W1": (n[1], n[0]), "b1": (n[1], 1), "W2": ...}, in theta's order."""
        return {slot.name: slot.shape for slots in self._slots for slot in slots}

    def init(self, seed: int = 0, dtype: str = "float32", scheme: str | None = None) -> Array:
        """Return a first theta (P,), a NumPy array, the same for every backend.

        Parameters
        ----------
        seed : int
            Of NumPy's `default_rng`.
        dtype : {"float32", "float64"}
            What the numbers, drawn in float64, are rounded to.
        scheme : str or None
            An initializer for all layers in place of their own: zeros, normal, inverse_sqrt, he, glorot, lecun.

        Examples
        --------
        >>> theta = mlp([2, 3, 1]).init(seed=0, scheme="zeros")
        >>> theta.shape, theta.dtype, float(abs(theta).sum())
        ((13,), dtype('float32'), 0.0)
        """
        rng = host.generator(seed)
        drawn: list[Params] = []
        n_prev = self.n_features
        for layer in self.layers:
            drawn.append(layer.draw(rng, n_prev, scheme))
            n_prev = layer.units(n_prev)
        return host.as_dtype(self._join(drawn), dtype)

    def unflatten(self, theta: Array) -> dict[str, Array]:
        """Return the parameters by name as views of theta (..., P): {"W1": (..., n[1], n[0]), ...}."""
        return {
            slot.name: view
            for slots, views in zip(self._slots, self._views(theta), strict=True)
            for slot, view in zip(slots, views.values(), strict=True)
        }

    def flatten(self, params: Mapping[str, Array]) -> Array:
        """Return theta (..., P), a new array, from the parameters by name.

        Raises
        ------
        InputError
            When a parameter is missing, unknown, or of the wrong shape.
        """
        for name in params:
            if name not in self.shapes:
                raise unknown("parameter", name, self.shapes)
        for name, shape in self.shapes.items():
            if name not in params:
                raise InputError(f"parameter {name!r} is missing; expected {', '.join(self.shapes)}")
            given = tuple(params[name].shape)
            if given[-2:] != shape:
                hint = "; its transpose would fit" if given[::-1] == shape else ""
                raise InputError(f"{name} has shape {given}; expected {shape}{hint}")
        return self._join([{slot.key: params[slot.name] for slot in slots} for slots in self._slots])

    def forward(self, theta: Array, X: Array) -> Array:
        """Return A[L] (..., n[L], m).

        Parameters
        ----------
        theta : array (..., P)
        X : array (..., n[0], m)
            Samples as columns, of theta's library, device and dtype.

        Raises
        ------
        InputError
            When the number of features or parameters does not fit, or X is not of theta's dtype.

        Examples
        --------
        >>> import numpy as np
        >>> net = mlp([2, 3, 1], output="sigmoid")
        >>> net.forward(net.init(scheme="zeros"), np.ones((2, 4), "float32"))
        array([[0.5, 0.5, 0.5, 0.5]], dtype=float32)
        """
        Z, _, _ = self._propagate(theta, X)
        return self.output.link(Z)

    def forward_and_loss(self, theta: Array, X: Array, Y: Array) -> tuple[Array, Array]:
        """Return A[L] (..., n[L], m) and the cost J (...,); see `loss_and_gradient`."""
        Z, _, _ = self._propagate(theta, X)
        return self.output.link(Z), self._cost(Z, targets(self.output, Z, Y))

    def loss_and_gradient(self, theta: Array, X: Array, Y: Array) -> tuple[Array, Array]:
        """Return the cost J (...,) and its gradient dtheta (..., P).

        J is the mean over the m samples of the loss, which is summed over the n[L] outputs.

        Parameters
        ----------
        theta : array (..., P)
        X : array (..., n[0], m)
            Samples as columns, of theta's library, device and dtype.
        Y : array (..., n[L], m)
            Targets; or (m,) when n[L] = 1; or class indices 0..n[L]-1 of an integer dtype, (m,) or (..., 1, m),
            for sigmoid and softmax. The values are not looked at, which would be a read on the host: an index
            outside the classes counts as none of them.

        Raises
        ------
        InputError
            When the number of features, parameters or targets does not fit, or X is not of theta's dtype.

        Examples
        --------
        Zero weights give a = 1/2 everywhere, and the loss log 2:

        >>> import numpy as np
        >>> net = mlp([2, 1], output="sigmoid")
        >>> J, dtheta = net.loss_and_gradient(np.zeros(3), np.eye(2), np.array([0.0, 1.0]))
        >>> J.round(4), net.unflatten(dtheta)["W1"]
        (np.float64(0.6931), array([[ 0.25, -0.25]]))
        """
        Z, params, kept = self._propagate(theta, X)
        Y = targets(self.output, Z, Y)
        J = self._cost(Z, Y)
        # The notes' dZ[L] = A[L] - Y, with the 1/m of J: every d from here on is the derivative of J.
        dA: Array = (self.output.link(Z) - Y) / Z.shape[-1]
        grads: list[Params] = [{} for _ in self.layers]
        for l in reversed(range(len(self.layers))):
            # Nothing before the first parameters needs the derivative of its output.
            need_dA_prev = any(self._slots[:l])
            dA, grads[l] = self.layers[l].backward(params[l], kept[l], dA, need_dA_prev)
        return J, self._join(grads)

    def _propagate(self, theta: Array, X: Array) -> tuple[Array, list[Params], list[Any]]:
        """Return Z[L], the parameters of each layer, and what each layer keeps for its backward."""
        self.check_features(X)
        if X.dtype != theta.dtype:
            raise InputError(f"X is {X.dtype}, theta is {theta.dtype}; convert one to the dtype of the other")
        params, kept = self._views(theta), []
        A = X  # A[0] = X
        for layer, p in zip(self.layers, params, strict=True):
            A, keep = layer.forward(p, A)
            kept.append(keep)
        return A, params, kept  # the last layer's activation is the identity: its A is Z[L]

    def _cost(self, Z: Array, Y: Array) -> Array:
        return array_namespace(Z).mean(self.output.loss(Z, Y), axis=-1)  # J = (1/m) sum of the losses

    def _views(self, theta: Array) -> list[Params]:
        """Return each layer's parameters as views of theta (slice, then reshape)."""
        if theta.ndim < 1 or theta.shape[-1] != self.P:
            raise InputError(f"theta has shape {tuple(theta.shape)}; expected (..., {self.P}) for {self!r}")
        xp = array_namespace(theta)
        lead = tuple(theta.shape[:-1])
        return [
            {slot.key: xp.reshape(theta[..., slot.place], lead + slot.shape) for slot in slots}
            for slots in self._slots
        ]

    def _join(self, layers: Sequence[Params]) -> Array:
        """Return each layer's parameters, or their derivatives, as one vector (..., P)."""
        arrays = [layer[slot.key] for slots, layer in zip(self._slots, layers, strict=True) for slot in slots]
        xp = array_namespace(*arrays)
        return xp.concat([xp.reshape(a, (*a.shape[:-2], -1)) for a in arrays], axis=-1)

    def check_features(self, X: Array, name: str = "X") -> None:
        """Raise an InputError unless X is (..., n[0], m) with m > 0."""
        n, given = self.n_features, tuple(X.shape)
        if len(given) < 2 or given[-2] != n:
            fits = len(given) == 2 and given[1] == n
            hint = f"; samples are columns: its transpose {name}.T would fit" if fits else ""
            raise InputError(f"{name} has shape {given}; expected (n[0], m) = ({n}, m){hint}")
        if given[-1] == 0:
            raise InputError(f"{name} is empty: its shape is {given}; expected at least one sample (column)")

    def describe(self) -> dict[str, Any]:
        """Return a description of types that JSON has; `from_description` makes the network again."""
        return {
            "n_features": self.n_features,
            "layers": [{"kind": type(layer).__name__, **layer.describe()} for layer in self.layers],
            "output": self.output.name,
        }

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> "Network":
        """Return the network that `describe` described."""
        layers = []
        for layer in description["layers"]:
            arguments = {**layer}
            kind = arguments.pop("kind")
            if kind not in LAYERS:
                raise unknown("layer", kind, LAYERS)
            layers.append(LAYERS[kind](**arguments))
        return cls(description["n_features"], layers, description["output"])

    def __repr__(self) -> str:
        layers = ", ".join(
            f"{type(layer).__name__}({', '.join(str(v) for v in layer.describe().values() if v is not None)})"
            for layer in self.layers
        )
        return f"Network({self.n_features}, [{layers}], output={self.output.name!r})"


def mlp(
    sizes: Sequence[int],
    hidden: str | Activation = "relu",
    output: str | None = None,
    init: str | None = None,
) -> Network:
    """Return the fully connected network with layers of these sizes.

    Parameters
    ----------
    sizes : sequence of int
        n[0], ..., n[L]; at least two.
    hidden : str or Activation
        The activation of the layers 1..L-1.
    output : {"sigmoid", "softmax", "identity", "exp"} or None
        The link of layer L, with its loss: sigmoid for two classes, or for several labels at once; softmax for
        one class of several; identity for real numbers; exp for counts. None: sigmoid when n[L] = 1, else
        softmax.
    init : str or None
        The initializer of all layers; None: the one that suits the activation.

    Raises
    ------
    InputError
        When a size is not a positive integer, or a name is not known.

    Examples
    --------
    >>> mlp([12288, 20, 7, 5, 1])
    Network(12288, [Dense(20, relu), Dense(7, relu), Dense(5, relu), Dense(1, identity)], output='sigmoid')
    """
    if isinstance(sizes, str) or not hasattr(sizes, "__len__") or len(sizes) < 2:
        raise InputError(f"sizes must list n[0], ..., n[L], at least two; given {sizes!r}")
    n = [positive_int(f"sizes[{l}]", size) for l, size in enumerate(sizes)]
    layers = [Dense(size, hidden, init) for size in n[1:-1]] + [Dense(n[-1], "identity", init)]
    return Network(n[0], layers, output or ("sigmoid" if n[-1] == 1 else "softmax"))
