"""Norms: the layers that scale the units to mean 0 and variance 1, over a sample or over the batch."""

from dataclasses import dataclass
from typing import Any, ClassVar

from nnx.array.namespace import Array, array_namespace
from nnx.errors import InputError
from nnx.model.initializers import Rng, zeros
from nnx.model.layers.base import Context, Layer, Params, check_number


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
    """Scale each sample's units to mean 0 and variance 1; then gamma A_hat + beta.

    (Ba et al., 2016, https://arxiv.org/abs/1607.06450.)

    Parameters
    ----------
    epsilon : float
        Added to the variance. 1e-5 as in PyTorch (Keras: 1e-3).
    """

    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        check_number(self, "epsilon", 0, below=False)

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
    """Scale each unit to mean 0 and variance 1 over the batch; then gamma A_hat + beta.

    Training uses the batch's own mean and variance, and updates running ones. Inference uses the running ones, so that
    a sample's output does not depend on the others. (Ioffe and Szegedy, 2015, https://arxiv.org/abs/1502.03167,
    algorithms 1 and 2.)

    Parameters
    ----------
    momentum : float
        The share of the new batch in the running statistics, in (0, 1]: mean = (1 - momentum) mean +
        momentum (the batch's). 0.1, as in PyTorch; Keras's momentum of 0.99 is the share of the old.
    epsilon : float
        Added to the variance. 1e-5 as in PyTorch (Keras: 1e-3).

    Notes
    -----
    The running variance uses the unbiased one, with m/(m - 1), as the paper and PyTorch do. The
    running statistics are parameters with derivative zero ("mean1", "variance1"), so that theta holds the whole
    network.

    Raises
    ------
    InputError
        When a parameter is out of its range; in training, when a batch has a single sample. `Trainer.fit` leaves out
        such a batch, as PyTorch's drop_last does: with shuffle another sample in each epoch.
    """

    momentum: float = 0.1
    epsilon: float = 1e-5
    statistics: ClassVar[tuple[str, ...]] = ("mean", "variance")
    whole_batches: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_number(self, "momentum", 0, 1, below=False)
        check_number(self, "epsilon", 0, below=False)

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
            return scale * (A_prev - params["mean"]) + params["beta"], (A_prev, scale)
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
        """Return dA[l-1] and {"gamma": ..., "beta": ...}; after a forward at inference dA[l-1] = scale dA[l]."""
        if len(kept) == 2:
            A_prev, scale = kept
            A_hat = (A_prev - params["mean"]) / array_namespace(dA).sqrt(params["variance"] + self.epsilon)
            return scale * dA, _gain_and_shift_backward(dA, A_hat)
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
