"""The layers with random numbers in training: dropout and noise."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from nnx.array import random
from nnx.array.namespace import Array, array_namespace
from nnx.model.layers.base import Context, Layer, Params, check_number
from nnx.support.members import Number, acts, each


@dataclass(frozen=True)
class Dropout(Layer):
    """Inverted dropout: in training each a is 0 with probability `rate`, else a/(1 - rate).

    At inference it passes A on. The masks come from `nnx.array.random`: the same on every backend.
    (Srivastava et al., 2014, https://jmlr.org/papers/v15/srivastava14a.html; scaled in training, as PyTorch
    and Keras do.)

    Parameters
    ----------
    rate : float
        In [0, 1). Of a stack of networks it may be a sequence, one for each member.

    Raises
    ------
    InputError
        When rate is outside [0, 1).
    """

    rate: Number = 0.5
    threshold: Number = field(init=False, repr=False, compare=False)
    """The share `rate` of all int32 are below it."""
    random: ClassVar[bool] = True
    shares: ClassVar[tuple[str, ...]] = ("rate",)

    def __post_init__(self) -> None:
        check_number(self, "rate", 0, 1, members=True)
        object.__setattr__(self, "threshold", each("rate", self.rate, _threshold))

    def forward(self, params: Params, A_prev: Array, context: Context) -> tuple[Array, Any]:
        """Return A (..., n, m) with the mask applied; (n, m), which a stack of networks shares, for a key (2,)."""
        if not context.training or context.key is None or not acts(self.rate):
            return A_prev, None
        n, m = A_prev.shape[-2:]
        keep = random.bits(context.key, n, m, context.start) >= self.threshold
        return self._masked(keep, A_prev), keep

    def backward(self, params: Params, kept: Any, dA: Array, need_dA_prev: bool) -> tuple[Array, Params]:
        """Return dA[l-1]: dA where a was kept, likewise scaled."""
        return (dA if kept is None else self._masked(kept, dA)), {}

    def _masked(self, keep: Array, A: Array) -> Array:
        return array_namespace(A).where(keep, A / (1 - self.rate), 0.0)


def _threshold(name: str, rate: float) -> int:
    return min(round(rate * 2**32) - 2**31, 2**31 - 1)


@dataclass(frozen=True)
class GaussianNoise(Layer):
    """Noise on the input, or between layers: in training A + std N(0, 1), at inference A.

    (Bishop, 1995, https://doi.org/10.1162/neco.1995.7.1.108: training with noise is a regularization.)

    Parameters
    ----------
    std : float
        The noise's standard deviation, in A's units; >= 0. Of a stack of networks it may be a sequence.
    """

    std: Number = 0.1
    random: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_number(self, "std", 0, members=True)

    def forward(self, params: Params, A_prev: Array, context: Context) -> tuple[Array, Any]:
        """Return A + std N(0, 1) (..., n, m)."""
        if not context.training or context.key is None or not acts(self.std):
            return A_prev, None
        n, m = A_prev.shape[-2:]
        return A_prev + self.std * random.normal(context.key, n, m, context.start, A_prev), None

    def backward(self, params: Params, kept: Any, dA: Array, need_dA_prev: bool) -> tuple[Array, Params]:
        """Return dA[l-1] = dA[l]."""
        return dA, {}
