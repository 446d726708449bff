"""Schedules that only fall: constant, in steps, exponential, inverse and polynomial."""

from dataclasses import dataclass

from nnx.array.namespace import Array, array_namespace
from nnx.optimizers.in_epochs import InSteps
from nnx.support.members import Number
from nnx.support.registry import numbers


@dataclass(frozen=True)
class Constant:
    """rate = learning_rate in every step, as a float.

    Parameters
    ----------
    learning_rate : float
        Greater than 0.
    """

    learning_rate: Number

    def __post_init__(self) -> None:
        numbers(self)

    def factor(self, t: Array) -> Array:
        """Return 1."""
        return array_namespace(t).ones_like(t)


@dataclass(frozen=True)
class StepDecay(InSteps):
    """rate = learning_rate * decay^floor(t / every).

    PyTorch's StepLR; Keras's ExponentialDecay with staircase=True.

    Parameters
    ----------
    learning_rate : float
        Of the first step.
    every : int
        Steps at one rate.
    decay : float
        The factor of the rate after them; between 0 and 1. 0.1, as PyTorch's gamma; Keras has no default.

    Examples
    --------
    >>> import numpy as np
    >>> StepDecay(0.3, every=2, decay=0.5).factor(np.arange(6.0))
    array([1.  , 1.  , 0.5 , 0.5 , 0.25, 0.25])
    """

    learning_rate: Number
    every: int
    decay: float = 0.1

    def __post_init__(self) -> None:
        numbers(self, decay=1)

    def factor(self, t: Array) -> Array:
        """Return decay^floor(t / every)."""
        # t // every, not floor(t / every): some GPUs multiply by 1 / every, and a quotient is then slightly too small.
        return self.decay ** (t // self.every)


@dataclass(frozen=True)
class Exponential(InSteps):
    """rate = learning_rate * decay^(t / every): a StepDecay without its steps.

    With every=1 PyTorch's ExponentialLR; Keras's ExponentialDecay.

    Parameters
    ----------
    learning_rate : float
        Of the first step.
    every : int
        The steps in which the rate is multiplied by decay once.
    decay : float
        Between 0 and 1. 0.1, as in StepDecay; PyTorch and Keras have no default.

    Examples
    --------
    >>> import numpy as np
    >>> Exponential(0.3, every=2, decay=0.25).factor(np.arange(5.0))
    array([1.    , 0.5   , 0.25  , 0.125 , 0.0625])
    """

    learning_rate: Number
    every: int
    decay: float = 0.1

    def __post_init__(self) -> None:
        numbers(self, decay=1)

    def factor(self, t: Array) -> Array:
        """Return decay^(t / every)."""
        return self.decay ** (t / self.every)


@dataclass(frozen=True)
class InverseScaling(InSteps):
    """rate = learning_rate / (1 + samples floor(t / every))^power.

    With the defaults it is learning_rate / k^power in the k-th step. scikit-learn's "invscaling" counts samples and
    changes the rate once an epoch: give the samples of an epoch as `samples`, and its steps as `every`.

    Parameters
    ----------
    learning_rate : float
        Of the first step.
    power : float
        0.5, scikit-learn's power_t.
    every : int
        Steps at one rate.
    samples : int
        The increase of the count in these steps.

    Examples
    --------
    >>> import numpy as np
    >>> InverseScaling(0.3, power=1).factor(np.arange(4.0)).round(3)
    array([1.   , 0.5  , 0.333, 0.25 ])
    >>> InverseScaling(0.3, every=2, samples=99).factor(np.arange(4.0))
    array([1. , 1. , 0.1, 0.1])
    """

    learning_rate: Number
    power: float = 0.5
    every: int = 1
    samples: int = 1

    def __post_init__(self) -> None:
        numbers(self)

    def factor(self, t: Array) -> Array:
        """Return 1 / (1 + samples floor(t / every))^power."""
        return (1 + self.samples * (t // self.every)) ** -self.power


@dataclass(frozen=True)
class Polynomial(InSteps):
    """rate = learning_rate (end + (1 - end) (1 - t / steps)^power), for t up to `steps`.

    PyTorch's PolynomialLR and Keras's PolynomialDecay.

    Parameters
    ----------
    learning_rate : float
        Of the first step.
    steps : int
        The rate is at its end after these.
    end : float
        The last rate as a fraction of the learning rate; at least 0, below 1. 0, as PyTorch; Keras gives the rate
        itself, 0.0001.
    power : float
        1 is a straight line.

    Examples
    --------
    >>> import numpy as np
    >>> Polynomial(0.3, steps=4, end=0.5).factor(np.arange(6.0))
    array([1.   , 0.875, 0.75 , 0.625, 0.5  , 0.5  ])
    """

    learning_rate: Number
    steps: int
    end: float = 0.0
    power: float = 1.0

    def __post_init__(self) -> None:
        numbers(self, "end", end=1)

    def factor(self, t: Array) -> Array:
        """Return end + (1 - end) (1 - t / steps)^power."""
        left = array_namespace(t).maximum(self.steps - t, 0.0) / self.steps
        return self.end + (1 - self.end) * left**self.power
