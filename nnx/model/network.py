"""A network: forward and backward propagation over its layers, all parameters in one flat vector theta.

Everything here indexes from the last two axes, so leading axes mean a stack of networks that are computed at
once: theta (..., P), X (..., n[0], m), A (..., n[L], m), J (...,). One network has none.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any

from nnx.array import host
from nnx.array.namespace import Array, array_namespace
from nnx.errors import LARGEST, Error, InputError, first_line, items, one_of, positive_int, shown
from nnx.errors import size as bytes_of
from nnx.model import layers
from nnx.model.activations import Activation, activation
from nnx.model.initializers import initializer
from nnx.model.layers import Activate, Context, Dense, Layer, PReLU, from_any
from nnx.model.outputs import output as find_output
from nnx.model.outputs.custom import check_own
from nnx.model.outputs.loss import Loss
from nnx.model.outputs.targets import smoothed, targets
from nnx.model.summary import Summary, summary


@dataclass(frozen=True)
class Slot:
    """A parameter's place in theta: its name in the network, its shape and slice, and what kind it is."""

    name: str
    shape: tuple[int, ...]
    place: slice
    decays: bool
    is_statistic: bool


Tree = Any
"""What each layer has: a dict by the parameters' names in the layer; of a layer with layers inside, a list."""


def _map(tree: Tree, function: Callable[..., Any], *others: Tree) -> Tree:
    """Return the tree of function(leaf, the others' leaves); a leaf that another lacks is None there."""
    if isinstance(tree, dict):
        return {key: function(leaf, *(other.get(key) for other in others)) for key, leaf in tree.items()}
    return [
        _map(branch, function, *(other[i] if i < len(other) else {} for other in others))
        for i, branch in enumerate(tree)
    ]


def _paths(tree: Tree) -> Iterator[tuple[Any, ...]]:
    """Yield where each leaf is, in order: tree[path[0]][path[1]]..."""
    for key, branch in tree.items() if isinstance(tree, dict) else enumerate(tree):
        if isinstance(branch, dict | list):
            yield from ((key, *rest) for rest in _paths(branch))
        else:
            yield (key,)


def _at(tree: Tree, path: tuple[Any, ...]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def _leaves(tree: Tree) -> Iterator[Any]:
    """Yield the tree's leaves in order."""
    for branch in tree.values() if isinstance(tree, dict) else tree:
        if isinstance(branch, dict | list):
            yield from _leaves(branch)
        else:
            yield branch


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
    loss : str, Loss or None
        Another loss that goes with the link, see `nnx.LOSSES`, or one of your own.

    Attributes
    ----------
    n : tuple of int
        n[0], ..., n[L], for the layers that have weights W.
    P : int
        The number of parameters, which is theta's length.
    decayed : tuple of str
        The parameters that weight decay, L1, L2 and max-norm act on unless told otherwise: the weights.
    statistics : tuple of str
        Those that are not learned: the running statistics of BatchNorm.
    random : bool
        Whether a layer draws at random in training (Dropout, GaussianNoise).
    whole_batches : bool
        Whether the batch may not be cut into micro-batches, since a layer (BatchNorm) looks at all of it.

    Notes
    -----
    A parameter is named by its layer's number l, which counts the layers with weights W: "W2", and "gamma2",
    "beta2" of a norm after it. (A second one of the same name in layer l is "gamma2_2".)

    Examples
    --------
    >>> net = Network(784, [Dense(512, "relu"), Dense(10)], output="softmax")
    >>> net.n, net.P
    ((784, 512, 10), 407050)
    """

    def __init__(
        self, n_features: int, layers: Sequence[Layer], output: str, loss: str | Loss | None = None
    ) -> None:
        self.n_features = positive_int("n_features", n_features)
        self.output = find_output(output, loss)
        self.layers = tuple(from_any(layer) for layer in items("layers", layers, "a list of layers"))
        if not self.layers:
            raise InputError("a network needs at least one layer; given none")
        last = self.layers[-1]
        if not isinstance(last, Dense) or last.g.name != "identity":
            raise InputError(
                f"the last layer must be a Dense without an activation, since the output {output!r} is its "
                f"activation; given {last!r}"
            )
        if self.output.exclusive and last.n == 1:
            raise InputError(f"a single {output} output is always 1; use 'sigmoid', or two outputs")
        if self.output.own is not None:
            check_own(self.output, self.output.own, last.n)
        self.n: tuple[int, ...] = (self.n_features,)
        self.P = 0
        self._widest = self.n_features
        self.random = self.whole_batches = False
        self._slots: Tree = self._plan(self.layers, self.n_features, set())
        if self.P > LARGEST:
            raise InputError(
                f"the network has {shown(self.P)} parameters, more than any array holds; give fewer units"
            )
        self._narrow: InputError | None = None  # why it cannot be computed in float32
        try:
            self.check_options("float32")
        except InputError as error:
            self._narrow = error
        slots = list(_leaves(self._slots))
        self._order = list(_paths(self._slots))
        self.shapes: dict[str, tuple[int, ...]] = {slot.name: slot.shape for slot in slots}
        """The shape of every parameter: {"W1": (n[1], n[0]), "b1": (n[1], 1), "W2": ...}, in theta's order."""
        self.places: dict[str, slice] = {slot.name: slot.place for slot in slots}
        """The slice of theta that holds each parameter."""
        self.decayed = tuple(slot.name for slot in slots if slot.decays)
        self.statistics = tuple(slot.name for slot in slots if slot.is_statistic)

    def _plan(self, layers: Sequence[Layer], n_prev: int, names: set[str]) -> list[Tree]:
        """Return the slots of layers one after the other."""
        plan: list[Tree] = []
        for layer in layers:
            n, shapes = layer.units(n_prev), layer.shapes(n_prev)
            self._widest = max(self._widest, n)
            self.random |= layer.random
            self.whole_batches |= layer.whole_batches
            if layer.layers:
                plan.append(self._plan(layer.layers, n_prev, names))
            else:
                if "W" in shapes:
                    self.n += (n,)
                slots = {}
                for key, shape in shapes.items():
                    name, again = f"{key}{self.L}", 2
                    while name in names:
                        name, again = f"{key}{self.L}_{again}", again + 1
                    names.add(name)
                    place = slice(self.P, self.P + prod(shape))
                    slots[key] = Slot(name, shape, place, key in layer.decayed, key in layer.statistics)
                    self.P = place.stop
                plan.append(slots)
            n_prev = n
        return plan

    @property
    def L(self) -> int:
        """The number of layers with weights W."""
        return len(self.n) - 1

    def largest_product(self, samples: int) -> float:
        """Return the additions and multiplications of the largest W A, with so many samples at once."""
        return 2.0 * samples * max(map(prod, pairwise(self.n)))

    @property
    def widest(self) -> int:
        """The most units that any layer has, the input among them."""
        return self._widest

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
        dtype, rng = host.dtype_name(dtype), host.generator(seed)
        if scheme is not None:
            initializer(scheme)
        try:
            return host.as_dtype(self._join(_drawn(self.layers, rng, self.n_features, scheme)), dtype)
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
        return dict(zip(self.shapes, _leaves(self._views(theta)), strict=True))

    def flatten(self, params: Mapping[str, Array]) -> Array:
        """Return theta (..., P), a new array, from the parameters by name.

        Raises
        ------
        InputError
            When a parameter is missing, unknown, or of the wrong shape.
        """
        if not isinstance(params, Mapping):
            raise InputError(
                f"params must be a dict of arrays by name, {', '.join(self.shapes)}; given {shown(params)}"
            )
        for name in params:
            one_of("parameter", name, self.shapes)
        for name in self.shapes:
            if name not in params:
                raise InputError(f"parameter {name!r} is missing; expected {', '.join(self.shapes)}")
        host.check_arrays(**params)
        for name, shape in self.shapes.items():
            given = tuple(params[name].shape)
            if given[-2:] != shape:
                hint = "; its transpose would fit" if given[::-1] == shape else ""
                raise InputError(f"{name} has shape {given}; expected {shape}{hint}")
        leads = {name: tuple(params[name].shape[:-2]) for name in self.shapes}
        if len(set(leads.values())) > 1:
            raise InputError(
                f"the parameters' leading axes, those of a stack of networks, must be equal; given {leads}"
            )
        return self._join(_map(self._slots, lambda slot: params[slot.name]))

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
        >>> net = mlp([2, 3, 1], output="sigmoid")
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
        """Return A[L] (..., n[L], m) and the cost J (...,) of the network as it is used, not in training."""
        host.check_arrays({"weights": weights}, theta=theta, X=X, Y=Y)
        self._check_narrow(X)
        self.check_features(X)
        _check_weights(weights, X)
        Z, _, _ = self._propagate(theta, X, Context())
        J, _ = self._cost(Z, targets(self.output, Z, Y), weights)
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
            for sigmoid and softmax. The values are not looked at, which would be a read on the host: an index
            outside the classes counts as none of them.
        weights : array (..., m) or None
            Of the samples: J = sum of w_i loss_i / sum of w_i.
        key : array (2,) int32, or None
            What Dropout and noise come from, see `nnx.array.random`; None: they pass A on.

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
        host.check_arrays({"weights": weights, "key": key}, theta=theta, X=X, Y=Y)
        self._check_narrow(X)
        self.check_features(X)
        _check_weights(weights, X)
        _check_key(key)
        J, dtheta, _ = self.training_pass(theta, X, Y, weights, Context(training=True, key=key))
        return J, dtheta

    def training_pass(
        self,
        theta: Array,
        X: Array,
        Y: Array,
        weights: Array | None,
        context: Context,
        label_smoothing: float = 0.0,
    ) -> tuple[Array, Array, dict[str, Array]]:
        """Return J, dtheta (see `loss_and_gradient`) and the next running statistics by name."""
        Z, params, kept = self._propagate(theta, X, context)
        Y = targets(self.output, Z, Y)
        if label_smoothing:
            Y = smoothed(self.output, Y, label_smoothing)
        J, share = self._cost(Z, Y, weights)
        # The notes' dZ[L] = A[L] - Y, with the 1/m of J: every d from here on is the derivative of J.
        dZ = self.output.derivative(Z, Y)
        dZ = dZ / Z.shape[-1] if share is None else dZ * share
        _, grads = layers.backward(self.layers, params, kept, dZ, need_dA_prev=False)
        observed = {}
        if self.statistics:
            now = [layer.observe(p, k) for layer, p, k in zip(self.layers, params, kept, strict=True)]
            for slot, x in zip(
                _leaves(self._slots), _leaves(_map(self._slots, lambda _, x: x, now)), strict=True
            ):
                if slot.is_statistic:
                    observed[slot.name] = x
            grads = _map(params, lambda p, d: array_namespace(p).zeros_like(p) if d is None else d, grads)
        return J, self._join(grads), observed

    def _propagate(self, theta: Array, X: Array, context: Context) -> tuple[Array, Tree, list[Any]]:
        """Return Z[L], the parameters of each layer, and what each layer keeps for its backward."""
        self.check_features(X)
        if X.dtype != theta.dtype:
            raise InputError(f"X is {X.dtype}, theta is {theta.dtype}; convert one to the dtype of the other")
        if not array_namespace(X).isdtype(X.dtype, "real floating"):
            raise InputError(f"X and theta are {X.dtype}; convert both to float32 or float64")
        params = self._views(theta)
        Z, kept = layers.forward(self.layers, params, X, context)  # A[0] = X
        return Z, params, kept  # the last layer's activation is the identity: its A is Z[L]

    def _cost(self, Z: Array, Y: Array, weights: Array | None) -> tuple[Array, Array | None]:
        """Return J and the share w / sum of w (..., 1, m) of each sample in it; None where all have 1/m."""
        xp = array_namespace(Z)
        loss = self.output.loss(Z, Y)
        if weights is None:
            return xp.mean(loss, axis=-1), None  # J = (1/m) sum of the losses
        total = xp.sum(weights, axis=-1, keepdims=True)
        share = weights / xp.where(total > 0, total, 1.0)  # all weights zero: J = 0
        return xp.sum(share * loss, axis=-1), xp.expand_dims(share, axis=-2)

    def _views(self, theta: Array) -> Tree:
        """Return each layer's parameters as views of theta (slice, then reshape)."""
        if theta.ndim < 1 or theta.shape[-1] != self.P:
            raise InputError(f"theta has shape {tuple(theta.shape)}; expected (..., {self.P}) for {self!r}")
        xp = array_namespace(theta)
        lead = tuple(theta.shape[:-1])
        return _map(self._slots, lambda slot: xp.reshape(theta[..., slot.place], lead + slot.shape))

    def _join(self, tree: Tree) -> Array:
        """Return each layer's parameters, or their derivatives, as one vector (..., P), in theta's order."""
        arrays = [_at(tree, path) for path in self._order]
        xp = array_namespace(*arrays)
        return xp.concat([xp.reshape(a, (*a.shape[:-2], -1)) for a in arrays], axis=-1)

    def check_features(self, X: Array, name: str = "X", rows: bool = False) -> None:
        """Raise an InputError unless X is (..., n[0], m) with m > 0; `rows`: the caller takes rows=True, too."""
        n, given = self.n_features, tuple(X.shape)
        if len(given) < 2 or given[-2] != n:
            columns, by_rows = _fitting(given, n)
            hint = f"; samples are columns: {columns} would fit" if columns else ""
            hint += f", and so would {by_rows}" if columns and rows else ""
            raise InputError(f"{name} has shape {given}; expected (n[0], m) = ({n}, m){hint}")
        if given[-1] == 0:
            raise InputError(f"{name} is empty: its shape is {given}; expected at least one sample (column)")

    def check_options(self, dtype: str) -> None:
        """Raise an InputError if a number of a layer, its activation or the loss is too small or large for dtype."""
        for layer in _every(self.layers):
            host.options(layer, dtype)
            if isinstance(layer, Dense | Activate):
                host.parameter_of(layer.g.name, dtype)
        if self.output.spec is not None:
            host.parameter_of(self.output.spec, dtype)

    def _check_narrow(self, X: Array) -> None:
        if self._narrow is not None and array_namespace(X).finfo(X.dtype).bits < 64:
            raise InputError(str(self._narrow))

    def describe(self) -> dict[str, Any]:
        """Return a description of types that JSON has; `from_description` makes the network again."""
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
        """Return the layers, their parameters, and what a training step keeps of them; `str` makes it a table."""
        output = f"{self.output.name}, {self.output.loss_name}"
        return summary(self.n_features, self.layers, self.shapes, output)

    def __reduce__(self) -> Any:
        return Network.from_description, (self.describe(),)  # pickled as a model file has it: without code

    def __repr__(self) -> str:
        inside = ", ".join(layer_text(layers.describe(layer)) for layer in self.layers)
        loss = "" if self.output.spec is None else f", loss={self.output.spec!r}"
        return f"Network({self.n_features}, [{inside}], output={self.output.name!r}{loss})"

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()


def _fitting(given: tuple[int, ...], n: int) -> tuple[str, str]:
    """Return what would make samples (n, m) of an X of this shape, and (m, n) of rows; ("", "") if nothing would."""
    if len(given) == 2 and given[1] == n:
        return "its transpose X.T", "rows=True"
    if len(given) == 1 and n == 1:
        return "X.reshape(1, -1)", "X.reshape(-1, 1) with rows=True"
    if len(given) > 2 and prod(given[1:]) == n:
        return f"X.reshape({given[0]}, -1).T", f"X.reshape({given[0]}, -1) with rows=True"
    return "", ""


def _every(layers: Sequence[Layer]) -> Iterator[Layer]:
    """Yield every layer, those inside others too."""
    for layer in layers:
        yield layer
        yield from _every(layer.layers)


def _drawn(layers: Sequence[Layer], rng: Any, n_prev: int, scheme: str | None) -> list[Tree]:
    """Return the first parameters of layers one after the other."""
    drawn: list[Tree] = []
    for layer in layers:
        inside = layer.layers
        if inside:
            drawn.append(_drawn(inside, rng, n_prev, scheme))
        else:
            params = layer.draw(rng, n_prev, scheme)
            given = {name: tuple(p.shape) for name, p in params.items()}
            if given != layer.shapes(n_prev):
                raise InputError(
                    f"{type(layer).__name__}.draw returns {given}; expected what its shapes are, {layer.shapes(n_prev)}"
                )
            drawn.append(params)
        n_prev = layer.units(n_prev)
    return drawn


def _check_weights(weights: Array | None, X: Array) -> None:
    """Raise an InputError unless the weights of the samples are (..., m)."""
    if weights is not None and (weights.ndim < 1 or weights.shape[-1] != X.shape[-1]):
        raise InputError(
            f"weights has shape {tuple(weights.shape)}; expected (..., m), m as of X {tuple(X.shape)}"
        )


def _check_key(key: Array | None) -> None:
    """Raise an InputError unless a key is two int32."""
    if key is not None and (tuple(key.shape) != (2,) or key.dtype != array_namespace(key).int32):
        raise InputError(f"key has shape {tuple(key.shape)} and dtype {key.dtype}; expected (2,), int32")


def layer_text(description: Mapping[str, Any]) -> str:
    """Return a layer as a person writes it, from its description: Dense(20, relu)."""
    arguments = [value for name, value in description.items() if name != "kind" and value is not None]
    if "layers" in description:
        arguments = [layer_text(layer) for layer in description["layers"]]
    return f"{description['kind']}({', '.join(map(str, arguments))})"


def mlp(
    sizes: Sequence[int],
    hidden: str | Activation | Layer = "relu",
    output: str | None = None,
    init: str | None = None,
    loss: str | Loss | None = None,
) -> Network:
    """Return the fully connected network with layers of these sizes.

    Parameters
    ----------
    sizes : sequence of int
        n[0], ..., n[L]; at least two.
    hidden : str, Activation or Layer
        The activation of the layers 1..L-1; "prelu", or a layer such as `nnx.PReLU()`, stands after each.
    output : {"sigmoid", "softmax", "identity", "exp"} or None
        The link of layer L, with its loss: sigmoid for two classes, or for several labels at once; softmax for
        one class of several; identity for real numbers; exp for counts. None: sigmoid when n[L] = 1, else
        softmax.
    init : str or None
        The initializer of all layers; None: the one that suits the activation.
    loss : str, Loss or None
        Another loss that goes with the output, such as "huber" with "identity", see `nnx.LOSSES`; or one of your own.

    Raises
    ------
    InputError
        When a size is not a positive integer, or a name is not known.

    Examples
    --------
    >>> mlp([12288, 20, 7, 5, 1])
    Network(12288, [Dense(20, relu), Dense(7, relu), Dense(5, relu), Dense(1, identity)], output='sigmoid')
    """
    given = items("sizes", sizes, "a list of n[0], ..., n[L]")
    if len(given) < 2:
        raise InputError(f"sizes must list n[0], ..., n[L], at least two; given {shown(sizes)}")
    n = [positive_int(f"sizes[{l}]", size) for l, size in enumerate(given)]
    if isinstance(hidden, Layer) and not isinstance(hidden, PReLU | Activate):
        raise InputError(
            f"hidden must be an activation; {hidden!r} is a layer of another kind: use nnx.Network"
        )
    after: Layer | None = hidden if isinstance(hidden, Layer) else None
    if after is None and isinstance(hidden, str) and hidden == "prelu":
        after = PReLU()
    g = "identity" if after is not None else activation(hidden)  # type: ignore[arg-type]
    first = "he" if after is not None and init is None else init
    layers: list[Layer] = []
    for units in n[1:-1]:
        layers += [Dense(units, g, first)] + ([] if after is None else [after])
    layers.append(Dense(n[-1], "identity", init))
    if output is None:
        output = "sigmoid" if n[-1] == 1 else "softmax"
    return Network(n[0], layers, output, loss)
