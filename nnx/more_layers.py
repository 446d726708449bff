"""The layers beside Dense: what stands between, around or before the fully connected ones."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar

from nnx import layers, randomness
from nnx.activations import Activation, activation
from nnx.arrays import Array, array_namespace
from nnx.errors import InputError
from nnx.initializers import Rng, zeros
from nnx.layers import LAYERS, Context, Layer, Params


def _number(layer: Layer, name: str, low: float, high: float = math.inf, below: bool = True) -> None:
    """Make a field a float in [low, high), or in (low, high] unless `below`; or raise."""
    value = getattr(layer, name)
    good = isinstance(value, Real) and (
        low <= float(value) < high if below else low < float(value) <= high and math.isfinite(value)
    )
    if not good:
        span = f"[{low:g}, {high:g})" if below else f"({low:g}, {high:g}]"
        raise InputError(f"{type(layer).__name__}'s {name} must be in {span}, not {value!r}")
    object.__setattr__(layer, name, float(value))


@dataclass(frozen=True)
class Dropout(Layer):
    """Inverted dropout: in training each a is 0 with probability `rate`, else a/(1 - rate).

    At inference it passes A on. The masks come from `nnx.randomness`: the same on every backend.
    (Srivastava et al., 2014, https://jmlr.org/papers/v15/srivastava14a.html; scaled in training, as PyTorch
    and Keras do.)

    Parameters
    ----------
    rate : float
        In [0, 1).

    Raises
    ------
    InputError
        When rate is outside [0, 1).
    """

    rate: float = 0.5
    random: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _number(self, "rate", 0, 1)

    def forward(self, params: Params, A_prev: Array, context: Context) -> tuple[Array, Any]:
        """Return A (..., n, m) with the mask (n, m) applied, which a stack of networks shares."""
        if not context.training or context.key is None or self.rate == 0:
            return A_prev, None
        n, m = A_prev.shape[-2:]
        keep = randomness.bits(context.key, n, m, context.start) >= self._threshold
        return self._masked(keep, A_prev), keep

    def backward(self, params: Params, kept: Any, dA: Array, need_dA_prev: bool) -> tuple[Array, Params]:
        """Return dA[l-1]: dA where a was kept, likewise scaled."""
        return (dA if kept is None else self._masked(kept, dA)), {}

    @property
    def _threshold(self) -> int:
        """The share `rate` of all int32 are below it."""
        return min(round(self.rate * 2**32) - 2**31, 2**31 - 1)

    def _masked(self, keep: Array, A: Array) -> Array:
        return array_namespace(A).where(keep, A / (1 - self.rate), 0.0)


@dataclass(frozen=True)
class GaussianNoise(Layer):
    """Noise on the input, or between layers: in training A + std N(0, 1), at inference A.

    (Bishop, 1995, https://doi.org/10.1162/neco.1995.7.1.108: training with noise is a regularization.)

    Parameters
    ----------
    std : float
        The noise's standard deviation, in A's units; >= 0.
    """

    std: float = 0.1
    random: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _number(self, "std", 0)

    def forward(self, params: Params, A_prev: Array, context: Context) -> tuple[Array, Any]:
        """Return A + std N(0, 1) (..., n, m)."""
        if not context.training or context.key is None or self.std == 0:
            return A_prev, None
        n, m = A_prev.shape[-2:]
        return A_prev + self.std * randomness.normal(context.key, n, m, context.start, A_prev), None

    def backward(self, params: Params, kept: Any, dA: Array, need_dA_prev: bool) -> tuple[Array, Params]:
        """Return dA[l-1] = dA[l]."""
        return dA, {}


def _normalized(A: Array, axis: int, epsilon: float) -> tuple[Array, Array, Array, Array]:
    """Return (A - mean)/s with s = sqrt(variance + epsilon), and mean, variance, 1/s: along an axis."""
    xp = array_namespace(A)
    mean = xp.mean(A, axis=axis, keepdims=True)
    centred = A - mean
    variance = xp.mean(centred * centred, axis=axis, keepdims=True)
    inverse = 1 / xp.sqrt(variance + epsilon)
    return centred * inverse, mean, variance, inverse


def _normalized_backward(dA_hat: Array, A_hat: Array, inverse: Array, axis: int) -> Array:
    """Return dA from the derivative by A_hat: (dA_hat - mean(dA_hat) - A_hat mean(dA_hat * A_hat)) / s."""
    xp = array_namespace(dA_hat)
    mean = xp.mean(dA_hat, axis=axis, keepdims=True)
    along = xp.mean(dA_hat * A_hat, axis=axis, keepdims=True)
    return (dA_hat - mean - A_hat * along) * inverse


def _gain_and_shift(n_prev: int, rng: Rng) -> Params:
    shift = zeros(rng, n_prev, 1)
    return {"gamma": shift + 1, "beta": shift}


@dataclass(frozen=True)
class LayerNorm(Layer):
    """Each sample's units brought to mean 0 and variance 1, then gamma A_hat + beta.

    (Ba et al., 2016, https://arxiv.org/abs/1607.06450.)

    Parameters
    ----------
    epsilon : float
        Added to the variance. 1e-5 as in PyTorch (Keras: 1e-3).
    """

    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        _number(self, "epsilon", 0, below=False)

    def shapes(self, n_prev: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of gamma and beta: (n[l], 1)."""
        return {"gamma": (n_prev, 1), "beta": (n_prev, 1)}

    def draw(self, rng: Rng, n_prev: int, scheme: str | None = None) -> Params:
        """Return gamma = 1, beta = 0."""
        return _gain_and_shift(n_prev, rng)

    def forward(self, params: Params, A_prev: Array, context: Context) -> tuple[Array, Any]:
        """Return gamma A_hat + beta (..., n, m)."""
        A_hat, _, _, inverse = _normalized(A_prev, -2, self.epsilon)
        return params["gamma"] * A_hat + params["beta"], (A_hat, inverse)

    def backward(
        self, params: Params, kept: Any, dA: Array, need_dA_prev: bool
    ) -> tuple[Array | None, Params]:
        """Return dA[l-1] and {"gamma": ..., "beta": ...}."""
        A_hat, inverse = kept
        grads = _gain_and_shift_backward(dA, A_hat)
        dA_prev = _normalized_backward(params["gamma"] * dA, A_hat, inverse, -2) if need_dA_prev else None
        return dA_prev, grads


def _gain_and_shift_backward(dA: Array, A_hat: Array) -> Params:
    xp = array_namespace(dA)
    return {
        "gamma": xp.sum(dA * A_hat, axis=-1, keepdims=True),
        "beta": xp.sum(dA, axis=-1, keepdims=True),
    }


@dataclass(frozen=True)
class BatchNorm(Layer):
    """Each unit brought to mean 0 and variance 1 over the batch, then gamma A_hat + beta.

    In training the batch's own mean and variance are used, and running ones are kept, which are used at
    inference: there a sample's output does not depend on the others. (Ioffe and Szegedy, 2015,
    https://arxiv.org/abs/1502.03167, algorithms 1 and 2.)

    Parameters
    ----------
    momentum : float
        The share of the new batch in the running statistics, in (0, 1]: mean = (1 - momentum) mean +
        momentum (the batch's). 0.1, as in PyTorch; Keras's momentum of 0.99 is the share of the old.
    epsilon : float
        Added to the variance. 1e-5 as in PyTorch (Keras: 1e-3).

    Notes
    -----
    The running variance is made of the unbiased one, with m/(m - 1), as the paper and PyTorch have it. The
    running statistics are parameters whose derivative is zero ("mean1", "variance1"), so that one theta says
    all that a network is.

    Raises
    ------
    InputError
        When a parameter is out of its range; in training, when a batch has a single sample.
    """

    momentum: float = 0.1
    epsilon: float = 1e-5
    statistics: ClassVar[tuple[str, ...]] = ("mean", "variance")
    whole_batches: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _number(self, "momentum", 0, 1, below=False)
        _number(self, "epsilon", 0, below=False)

    def shapes(self, n_prev: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of gamma, beta and of the running mean and variance: (n[l], 1)."""
        return dict.fromkeys(("gamma", "beta", "mean", "variance"), (n_prev, 1))

    def draw(self, rng: Rng, n_prev: int, scheme: str | None = None) -> Params:
        """Return gamma = 1, beta = 0, mean 0, variance 1."""
        return {
            **_gain_and_shift(n_prev, rng),
            "mean": zeros(rng, n_prev, 1),
            "variance": zeros(rng, n_prev, 1) + 1,
        }

    def forward(self, params: Params, A_prev: Array, context: Context) -> tuple[Array, Any]:
        """Return gamma A_hat + beta (..., n, m)."""
        if not context.training:
            xp = array_namespace(A_prev)
            scale = params["gamma"] / xp.sqrt(params["variance"] + self.epsilon)
            return scale * (A_prev - params["mean"]) + params["beta"], None
        if A_prev.shape[-1] == 1:
            raise InputError(
                "BatchNorm cannot train on a batch of one sample, whose variance is zero; choose a batch_size "
                "that leaves no single sample over"
            )
        A_hat, mean, variance, inverse = _normalized(A_prev, -1, self.epsilon)
        return params["gamma"] * A_hat + params["beta"], (A_hat, mean, variance, inverse)

    def backward(
        self, params: Params, kept: Any, dA: Array, need_dA_prev: bool
    ) -> tuple[Array | None, Params]:
        """Return dA[l-1] and {"gamma": ..., "beta": ...}."""
        A_hat, _, _, inverse = kept
        grads = _gain_and_shift_backward(dA, A_hat)
        dA_prev = _normalized_backward(params["gamma"] * dA, A_hat, inverse, -1) if need_dA_prev else None
        return dA_prev, grads

    def observe(self, params: Params, kept: Any) -> Params:
        """Return the running mean and variance after this batch."""
        A_hat, mean, variance, _ = kept
        m = A_hat.shape[-1]
        return {
            "mean": (1 - self.momentum) * params["mean"] + self.momentum * mean,
            "variance": (1 - self.momentum) * params["variance"] + self.momentum * m / (m - 1) * variance,
        }


@dataclass(frozen=True)
class Activate(Layer):
    """An activation by itself: A[l] = g(A[l-1]), for one that stands after a norm and not in the Dense layer.

    Parameters
    ----------
    activation : str or Activation
        As in `nnx.Dense`, whose W should then be drawn for it: ``Dense(64, init="he")`` before ReLU.

    Examples
    --------
    >>> from nnx import Dense, Network
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
        return dA * self.g.dg(*kept), {}

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
        _number(self, "a", -math.inf)

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


@dataclass(frozen=True)
class Residual(Layer):
    """A block with a way around it: A[l] = A[l-1] + block(A[l-1]).

    (He et al., 2016, https://arxiv.org/abs/1512.03385.) The block must end with as many units as it begins.

    Parameters
    ----------
    layers : sequence of Layer
        The block.

    Examples
    --------
    >>> from nnx import Dense, Network
    >>> block = Residual([LayerNorm(), Dense(32, "relu"), Dense(16)])
    >>> Network(8, [Dense(16, "relu"), block, Dense(3)], output="softmax").n
    (8, 16, 32, 16, 3)
    """

    layers: tuple[Layer, ...] = ()

    def __init__(self, layers: Sequence[Any]) -> None:
        if not isinstance(layers, Sequence) or not layers:
            raise InputError(f"Residual needs the layers of its block, a list; given {layers!r}")
        inside = tuple(from_any(layer) for layer in layers)
        object.__setattr__(self, "layers", inside)

    def units(self, n_prev: int) -> int:
        """Return n[l-1], which the block must end with.

        Raises
        ------
        InputError
            When it does not.
        """
        n = n_prev
        for layer in self.layers:
            n = layer.units(n)
        if n != n_prev:
            raise InputError(
                f"a Residual block must end with as many units as it begins, {n_prev}; its layers end with {n}"
            )
        return n

    def forward(self, params: Any, A_prev: Array, context: Context) -> tuple[Array, Any]:
        """Return A[l-1] + block(A[l-1])."""
        A, kept = layers.forward(self.layers, params, A_prev, context)
        return A_prev + A, kept

    def backward(self, params: Any, kept: Any, dA: Array, need_dA_prev: bool) -> tuple[Array | None, Any]:
        """Return dA[l-1] = dA[l] + the block's, and the block's derivatives."""
        dA_block, grads = layers.backward(self.layers, params, kept, dA, need_dA_prev)
        return (dA + dA_block if need_dA_prev else None), grads

    def observe(self, params: Any, kept: Any) -> Any:
        """Return the next statistics of each layer of the block."""
        return [layer.observe(p, k) for layer, p, k in zip(self.layers, params, kept, strict=True)]

    def describe(self) -> dict[str, Any]:
        """Return the descriptions of the block's layers."""
        return {"layers": [layers.describe(layer) for layer in self.layers]}


def from_any(layer: Any) -> Layer:
    """Return a layer from itself or from its description."""
    if isinstance(layer, dict):
        return layers.from_description(layer)
    if not isinstance(layer, Layer):
        raise InputError(f"expected a layer such as nnx.Dense(16, 'relu'), not {layer!r}")
    return layer


for kind in (Activate, PReLU, Dropout, GaussianNoise, LayerNorm, BatchNorm, Residual):
    LAYERS[kind.__name__] = kind
