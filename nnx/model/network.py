"""A network: forward and backward propagation over its layers, all parameters in one flat vector theta.

All formulas index from the last two axes. So leading axes are a stack of networks that are computed at
once: theta (..., P), X (..., n[0], m), A (..., n[L], m), J (...,). One network has none.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from nnx.array import host
from nnx.array.namespace import Array, array_namespace
from nnx.errors import LARGEST, Error, InputError, first_line, items, positive_int, shown
from nnx.errors import size as bytes_of
from nnx.model import layers
from nnx.model.initializers import initializer
from nnx.model.input_gradient import InputGradient
from nnx.model.inputs import check_features, check_key, check_named, check_options, check_weights
from nnx.model.layers import Affine, Context, Layer, every, from_any
from nnx.model.outputs import check_outputs
from nnx.model.outputs import output as find_output
from nnx.model.outputs.base import mean_loss
from nnx.model.outputs.loss import OwnLoss
from nnx.model.outputs.targets import smoothed, targets
from nnx.model.parameters import ParameterLayout, Tree, draw, map_leaves
from nnx.model.summary import Summary, summary
from nnx.support.members import Number, acts, for_each_member
from nnx.support.tree import leaves


class Network(InputGradient):
    """L layers, an output link and the loss that belongs to it.

    Parameters
    ----------
    n_features : int
        n[0], the rows of X.
    layers : sequence of Layer
        The last one computes Z[L]: a Dense with the activation identity. The link is the output's.
    output : {"sigmoid", "softmax", "identity", "exp"}
        The link g[L] with its canonical loss: binary cross-entropy, cross-entropy, half squared error, half
        Poisson deviance.
    loss : str, Loss, function or None
        Another loss of the link, see `nnx.LOSSES`, or one of your own.

    Attributes
    ----------
    n : tuple of int
        n[0], ..., n[L], for the layers that have weights W.
    n_targets : int
        The rows of Y: n[L] / `Output.per_target`.
    P : int
        The number of parameters, which is theta's length.
    decayed : tuple of str
        The parameters that weight decay, L1, L2 and max-norm act on by default: the weights.
    statistics : tuple of str
        The parameters that are not learned: the running statistics of BatchNorm.
    fixed : tuple of str
        Those that never change: the bins of PiecewiseLinear.
    random : bool
        Whether a layer has random numbers in training (Dropout, GaussianNoise).
    whole_batches : bool
        Whether the batch may not be cut into micro-batches, since a layer (BatchNorm) needs all of it.

    Notes
    -----
    A parameter is named by its layer's number l, which counts the layers with weights W: "W2", and "gamma2",
    "beta2" of a norm after it. (A second one of the same name in layer l is "gamma2_2".)

    Examples
    --------
    >>> net = Network(784, [layers.Dense(512, "relu"), layers.Dense(10)], output="softmax")
    >>> net.n, net.P
    ((784, 512, 10), 407050)
    """

    def __init__(
        self, n_features: int, layers: Sequence[Layer], output: str, loss: str | OwnLoss | None = None
    ) -> None:
        self.n_features = positive_int("n_features", n_features)
        self.output = find_output(output, loss)
        self.layers = tuple(from_any(layer) for layer in items("layers", layers, "a list of layers"))
        if not self.layers:
            raise InputError("a network needs at least one layer; given none")
        last = self.layers[-1]
        if not isinstance(last, Affine) or last.g.name != "identity":
            raise InputError(
                f"the last layer must be a Dense without an activation, since the output {output!r} is its "
                f"activation; given {last!r}"
            )
        check_outputs(self.output, last.n)
        self.n_targets = last.n // self.output.per_target
        self._layout = layout = ParameterLayout(self.layers, self.n_features)
        self.n, self.P, self.widest = layout.n, layout.P, layout.widest
        self.random = any(layer.random for layer in every(self.layers))
        self.whole_batches = any(layer.whole_batches for layer in every(self.layers))
        if self.P > LARGEST:
            raise InputError(
                f"the network has {shown(self.P)} parameters, more than any array holds; give fewer units"
            )
        self._narrow: InputError | None = None  # why it cannot be computed in float32
        try:
            self.check_options("float32")
        except InputError as error:
            self._narrow = error
        self.shapes: dict[str, tuple[int, ...]] = {slot.name: slot.shape for slot in layout.slots}
        """The shape of every parameter: {"W1": (n[1], n[0]), "b1": (n[1], 1), "W2": ...}, in theta's order."""
        self.places: dict[str, slice] = {slot.name: slot.place for slot in layout.slots}
        """The slice of theta that holds each parameter."""
        self.decayed = tuple(slot.name for slot in layout.slots if slot.decays)
        self.statistics = tuple(slot.name for slot in layout.slots if slot.is_statistic)
        self.fixed = tuple(slot.name for slot in layout.slots if slot.is_fixed)

    @property
    def L(self) -> int:
        """The number of layers with weights W."""
        return len(self.n) - 1

    def init(self, seed: int = 0, dtype: str = "float32", scheme: str | None = None) -> Array:
        """Return a first theta (P,), a NumPy array, the same for every backend.

        Parameters
        ----------
        seed : int
            The seed of NumPy's `default_rng`.
        dtype : {"float32", "float64"}
            The numbers are drawn in float64 and rounded to this.
        scheme : str or None
            An initializer for all layers in place of their own: zeros, normal, inverse_sqrt, he, glorot, lecun.

        Examples
        --------
        >>> import nnx
        >>> theta = nnx.mlp([2, 3, 1]).init(seed=0, scheme="zeros")
        >>> theta.shape, theta.dtype, float(abs(theta).sum())
        ((13,), dtype('float32'), 0.0)
        """
        dtype, rng = host.dtype_name(dtype), host.generator(seed)
        if scheme is not None:
            initializer(scheme)
        try:
            return host.as_dtype(self._layout.join(draw(self.layers, rng, self.n_features, scheme)), dtype)
        except (MemoryError, ValueError) as error:  # ValueError: more than an array may have
            if isinstance(error, Error):
                raise
            raise InputError(
                f"{self.P:,} parameters, {bytes_of(8 * self.P)} in float64, cannot be drawn: {first_line(error)}; give "
                "fewer units"
            ) from error

    def unflatten(self, theta: Array) -> dict[str, Array]:
        """Return the parameters by name as views of theta (..., P): {"W1": (..., n[1], n[0]), ...}."""
        host.check_arrays(theta=theta)
        return dict(zip(self.shapes, leaves(self._views(theta)), strict=True))

    def flatten(self, params: Mapping[str, Array]) -> Array:
        """Return theta (..., P), a new array, from the parameters by name.

        Raises
        ------
        InputError
            When a parameter is missing, unknown, or of the wrong shape.
        """
        check_named(params, self.shapes)
        return self._layout.join_named(params)

    @for_each_member
    @host.quiet()
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
        >>> import nnx
        >>> net = nnx.mlp([2, 3, 1], output="sigmoid")
        >>> net.forward(net.init(scheme="zeros"), np.ones((2, 4), "float32"))
        array([[0.5, 0.5, 0.5, 0.5]], dtype=float32)
        """
        host.check_arrays(theta=theta, X=X)
        self._check_narrow(X)
        Z, _, _ = self._propagate(theta, X, Context())
        return self.output.link(Z)

    @host.quiet()
    def forward_and_loss(
        self, theta: Array, X: Array, Y: Array, weights: Array | None = None
    ) -> tuple[Array, Array]:
        """Return A[L] (..., n[L], m) and the cost J (...,) of the network at inference."""
        host.check_arrays({"weights": weights}, theta=theta, X=X, Y=Y)
        self._check_narrow(X)
        self.check_features(X)
        check_weights(weights, X)
        Z, _, _ = self._propagate(theta, X, Context())
        J, _ = mean_loss(self.output, Z, targets(self.output, Z, Y), weights)
        return self.output.link(Z), J

    @host.quiet()
    def loss_and_gradient(
        self, theta: Array, X: Array, Y: Array, weights: Array | None = None, key: Array | None = None
    ) -> tuple[Array, Array]:
        """Return the cost J (...,) in training and its gradient dtheta (..., P).

        J is the mean over the m samples of the loss, which is summed over the n[L] outputs.

        Parameters
        ----------
        theta : array (..., P)
        X : array (..., n[0], m)
            Samples as columns, of theta's library, device and dtype.
        Y : array (..., n[L], m)
            Targets; or (m,) when n[L] = 1; or class indices 0..n[L]-1 of an integer dtype, (m,) or (..., 1, m),
            for sigmoid and softmax. The values are not checked, which would be a read on the host: an index
            outside the classes belongs to no class.
        weights : array (..., m) or None
            The weights of the samples: J = sum of w_i loss_i / sum of w_i.
        key : array (..., 2) int32, or None
            The key of Dropout and noise, see `nnx.array.random`; None: they pass A on.

        Raises
        ------
        InputError
            When the number of features, parameters or targets does not fit, or X is not of theta's dtype.

        Examples
        --------
        Zero weights give a = 1/2 everywhere, and the loss log 2:

        >>> import numpy as np
        >>> import nnx
        >>> net = nnx.mlp([2, 1], output="sigmoid")
        >>> J, dtheta = net.loss_and_gradient(np.zeros(3), np.eye(2), np.array([0.0, 1.0]))
        >>> J.round(4), net.unflatten(dtheta)["W1"]
        (np.float64(0.6931), array([[ 0.25, -0.25]]))
        """
        host.check_arrays({"weights": weights, "key": key}, theta=theta, X=X, Y=Y)
        self._check_narrow(X)
        self.check_features(X)
        check_weights(weights, X)
        check_key(key)
        J, dtheta, _ = self.training_pass(theta, X, Y, weights, Context(training=True, key=key))
        return J, dtheta

    def training_pass(
        self,
        theta: Array,
        X: Array,
        Y: Array,
        weights: Array | None,
        context: Context,
        label_smoothing: Number = 0.0,
    ) -> tuple[Array, Array, dict[str, Array]]:
        """Return J, dtheta (see `loss_and_gradient`) and the next running statistics by name."""
        Z, params, kept = self._propagate(theta, X, context)
        Y = targets(self.output, Z, Y)
        if acts(label_smoothing):
            Y = smoothed(self.output, Y, label_smoothing)
        J, share = mean_loss(self.output, Z, Y, weights)
        # The notes' dZ[L] = A[L] - Y, with the 1/m of J: every d from here on is the derivative of J.
        dZ = self.output.derivative(Z, Y)
        dZ = dZ / Z.shape[-1] if share is None else dZ * share
        _, grads = layers.backward(self.layers, params, kept, dZ, need_dA_prev=False)
        observed = {}
        if self.statistics:
            now = [layer.observe(p, k) for layer, p, k in zip(self.layers, params, kept, strict=True)]
            observed = self._layout.statistics(now)
        if self.statistics or self.fixed:
            grads = map_leaves(
                params, lambda p, d: array_namespace(p).zeros_like(p) if d is None else d, grads
            )
        return J, self._layout.join(grads), observed

    def _propagate(self, theta: Array, X: Array, context: Context) -> tuple[Array, Tree, list[Any]]:
        """Return Z[L], the parameters of each layer, and the arrays that each layer saves for its backward."""
        self.check_features(X)
        if X.dtype != theta.dtype:
            raise InputError(f"X is {X.dtype}, theta is {theta.dtype}; convert one to the dtype of the other")
        if not array_namespace(X).isdtype(X.dtype, "real floating"):
            raise InputError(f"X and theta are {X.dtype}; convert both to float32 or float64")
        params = self._views(theta)
        Z, kept = layers.forward(self.layers, params, X, context)  # A[0] = X
        return Z, params, kept  # the last layer's activation is the identity: its A is Z[L]

    def _views(self, theta: Array) -> Tree:
        """Return each layer's parameters as views of theta."""
        if theta.ndim < 1 or theta.shape[-1] != self.P:
            raise InputError(f"theta has shape {tuple(theta.shape)}; expected (..., {self.P}) for {self!r}")
        return self._layout.views(theta)

    def check_features(self, X: Array, name: str = "X", rows: bool = False) -> None:
        """Raise an InputError unless X is (..., n[0], m) with m > 0; `rows`: the caller takes rows=True, too."""
        check_features(X, self.n_features, name, rows)

    def check_options(self, dtype: str) -> None:
        """Raise an InputError if a number of a layer, its activation or the loss is too small or large for dtype."""
        check_options(self.layers, self.output, dtype)

    def _check_narrow(self, X: Array) -> None:
        if self._narrow is not None and array_namespace(X).finfo(X.dtype).bits < 64:
            raise InputError(str(self._narrow))

    def describe(self) -> dict[str, Any]:
        """Return a description in JSON values; `from_description` makes the network again."""
        return {
            "n_features": self.n_features,
            "layers": [layers.describe(layer) for layer in self.layers],
            "output": self.output.name,
            "loss": self.output.spec,
        }

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> "Network":
        """Return the network that `describe` described."""
        if (
            not isinstance(description, Mapping)
            or not {"n_features", "layers", "output"} <= description.keys()
        ):
            raise InputError(f"expected what Network.describe returned, not {shown(description)}")
        return cls(
            description["n_features"],
            [layers.from_description(layer) for layer in description["layers"]],
            description["output"],
            description.get("loss"),
        )

    def summary(self) -> Summary:
        """Return the layers, their parameters, and the numbers that a step saves; `str` makes it a table."""
        output = f"{self.output.name}, {self.output.loss_name}"
        return summary(self.n_features, self.layers, self.shapes, output)

    def __reduce__(self) -> Any:
        return Network.from_description, (self.describe(),)  # pickled like a model file: without code

    def __repr__(self) -> str:
        inside = ", ".join(layers.as_text(layers.describe(layer)) for layer in self.layers)
        loss = "" if self.output.spec is None else f", loss={self.output.spec!r}"
        return f"Network({self.n_features}, [{inside}], output={self.output.name!r}{loss})"

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()
