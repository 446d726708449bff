"""Schedules along a cosine: half a one with a warm-up, one cycle, and several."""

import math
from dataclasses import dataclass

from nnx.array.namespace import Array, array_namespace
from nnx.errors import InputError
from nnx.optimizers.in_epochs import InSteps
from nnx.support.members import Number
from nnx.support.registry import numbers


def _half_cosine(t: Array, first: float, last: float, start: float, end: float) -> Array:
    """Half a cosine from `start` in step `first` to `end` in step `last`, constant before and after."""
    xp = array_namespace(t)
    left = xp.clip((last - t) / (last - first), 0.0, 1.0)
    # (1 + cos(pi p)) / 2 of p = 1 - left, which is this square: exact at the end, with all its digits near it
    return end + (start - end) * xp.sin(math.pi / 2 * left) ** 2


@dataclass(frozen=True)
class Cosine(InSteps):
    """Half a cosine from the learning rate to its end, after a linear warm-up.

    rate = learning_rate (t + 1) / (warmup + 1) for t < warmup (Goyal et al., 2017,
    https://arxiv.org/abs/1706.02677, section 2.2), then with p = (t - warmup) / (steps - warmup) up to 1
    learning_rate (end + (1 - end) (1 + cos(pi p)) / 2) (Loshchilov and Hutter, 2017,
    https://arxiv.org/abs/1608.03983, eq. 5, without restarts).

    It is PyTorch's CosineAnnealingLR, which would rise again after `steps`, and Keras's CosineDecay. The warm-up does
    not start at 0, as Keras's does: that first step would be lost.

    Parameters
    ----------
    learning_rate : float
        The highest rate.
    steps : int
        The rate is at its end after these steps, which include those of the warm-up.
    warmup : int
        Steps before the highest rate; less than `steps`.
    end : float
        The last rate as a fraction of the learning rate; at least 0, below 1.

    Examples
    --------
    >>> import numpy as np
    >>> Cosine(0.3, steps=5, warmup=1, end=0.1).factor(np.arange(7.0)).round(3)
    array([0.5  , 1.   , 0.868, 0.55 , 0.232, 0.1  , 0.1  ])
    """

    learning_rate: Number
    steps: int
    warmup: int = 0
    end: float = 0.0

    def __post_init__(self) -> None:
        numbers(self, "warmup", "end", end=1)
        if self.warmup >= self.steps:
            raise InputError(
                f"warmup must be less than steps={self.steps}, which contain it; not {self.warmup}"
            )

    def factor(self, t: Array) -> Array:
        """Return the warm-up's factor times the cosine's: one of the two is 1."""
        warm = array_namespace(t).minimum((t + 1) / (self.warmup + 1), 1.0)
        return warm * _half_cosine(t, self.warmup, self.steps, 1.0, self.end)


@dataclass(frozen=True)
class OneCycle(InSteps):
    """Half a cosine up to the learning rate, then half a cosine down to next to nothing, all in `steps`.

    Smith and Topin, 2018, https://arxiv.org/abs/1708.07120, as in PyTorch's OneCycleLR with its defaults, but for
    the momentum, which stays. The rate is highest in step t = rise * steps - 1, and at its end in the last,
    t = steps - 1.

    Parameters
    ----------
    learning_rate : float
        The highest rate: PyTorch's max_lr.
    steps : int
        All steps of the training: PyTorch's total_steps.
    rise : float
        The fraction of the steps in which the rate rises: PyTorch's pct_start. Below 1, and rise * steps above 1.
    start, end : float
        The first and the last rate as fractions of the learning rate; start between 0 and 1, end at least 0, below
        1. PyTorch gives 1 / start as div_factor, and start / end as final_div_factor.

    Examples
    --------
    >>> import numpy as np
    >>> OneCycle(0.3, steps=6, rise=0.5, start=0.1, end=0).factor(np.arange(8.0)).round(3)
    array([0.1 , 0.55, 1.  , 0.75, 0.25, 0.  , 0.  , 0.  ])
    """

    learning_rate: Number
    steps: int
    rise: float = 0.3
    start: float = 1 / 25
    end: float = 1 / 25e4

    def __post_init__(self) -> None:
        numbers(self, "end", rise=1, start=1, end=1)
        if self.rise * self.steps <= 1:
            raise InputError(f"rise must be above 1 / steps = {1 / self.steps:.3g}, not {self.rise:g}")

    def factor(self, t: Array) -> Array:
        """Return the rise's factor times the fall's: one of the two is 1."""
        top = self.rise * self.steps - 1
        return _half_cosine(t, 0, top, self.start, 1.0) * _half_cosine(t, top, self.steps - 1, 1.0, self.end)


@dataclass(frozen=True)
class CosLog(InSteps):
    """Cycles of a cosine from 0 to the learning rate and back, each twice as long as the one before, all in `steps`.

    rate = learning_rate (1 - cos(2 pi log2(1 + (2^cycles - 1) t / steps))) / 2 (Holzmueller et al., 2024,
    https://arxiv.org/abs/2407.04491, "coslog4"). The rate falls to 0 after each cycle, where the network is good. So a
    fit that takes the best epoch profits from several cycles. The first step has the rate 0.

    Parameters
    ----------
    learning_rate : float
        The highest rate.
    steps : int
        The rate stays at 0 after these steps.
    cycles : int
        At most 20. 4, as in the paper.

    Examples
    --------
    >>> import numpy as np
    >>> CosLog(0.3, steps=30, cycles=2).factor(np.array([0, 4, 10, 18, 30, 31.0])).round(3)
    array([0.   , 0.998, 0.   , 0.998, 0.   , 0.   ])
    """

    learning_rate: Number
    steps: int
    cycles: int = 4

    def __post_init__(self) -> None:
        numbers(self)
        if self.cycles > 20:  # the first of more would be shorter than a step
            raise InputError(f"cycles must be at most 20, not {self.cycles}")

    def factor(self, t: Array) -> Array:
        """Return (1 - cos(2 pi x)) / 2 = sin(pi x)^2 with x = log2(1 + (2^cycles - 1) t / steps)."""
        xp = array_namespace(t)
        x = xp.log2(1 + (2**self.cycles - 1) * (t / self.steps))
        return xp.where(t < self.steps, xp.sin(math.pi * x) ** 2, 0.0)
