"""The optimizers, in order of complexity. Each sees the parameters as one flat vector theta.

An optimizer is data (what never changes in a run) plus two pure functions: its first state and its update.
What changes from step to step, the learning rate and the step count among it, is an array of the state, so
that a captured step never holds an old value.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from nnx.arrays import Array, array_namespace
from nnx.errors import InputError, unknown

State = dict[str, Array]
"""Arrays by name: "theta", "t" (steps done), "alpha" (learning rate), and the optimizer's own."""


class Optimizer(Protocol):
    """What the training step asks of an optimizer."""

    @property
    def learning_rate(self) -> float:
        """The first alpha."""

    def init(self, theta: Array) -> State:
        """Return the optimizer's own first state, arrays like theta."""

    def update(self, state: State, dtheta: Array) -> State:
        """Return the next theta and own state; state["t"] counts this step already."""


def _in_range(name: str, value: float, low: float, high: float = math.inf) -> None:
    if not low < value < high:
        expected = f"between {low} and {high}" if high < math.inf else f"greater than {low} and finite"
        raise InputError(f"{name} must be {expected}, not {value!r}")


@dataclass(frozen=True)
class GradientDescent:
    """theta = theta - alpha dtheta.

    Parameters
    ----------
    learning_rate : float
        alpha.
    """

    learning_rate: float = 0.01

    def __post_init__(self) -> None:
        _in_range("learning_rate", self.learning_rate, 0)

    def init(self, theta: Array) -> State:
        """Return nothing: gradient descent has no memory."""
        return {}

    def update(self, state: State, dtheta: Array) -> State:
        """Return {"theta": theta - alpha dtheta}."""
        return {"theta": state["theta"] - state["alpha"] * dtheta}


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba, 2015, https://arxiv.org/abs/1412.6980, algorithm 1).

    Parameters
    ----------
    learning_rate : float
        alpha.
    beta1, beta2 : float
        How much of the running means of the gradient and of its square a step keeps; in (0, 1).
    epsilon : float
        Keeps the division finite.
    """

    learning_rate: float = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        _in_range("learning_rate", self.learning_rate, 0)
        _in_range("beta1", self.beta1, 0, 1)
        _in_range("beta2", self.beta2, 0, 1)
        _in_range("epsilon", self.epsilon, 0)

    def init(self, theta: Array) -> State:
        """Return the means of the gradient, "m", and of its square, "v": zeros."""
        xp = array_namespace(theta)
        return {"m": xp.zeros_like(theta), "v": xp.zeros_like(theta)}

    def update(self, state: State, dtheta: Array) -> State:
        """Return the next theta, m and v."""
        xp = array_namespace(dtheta)
        t = xp.astype(state["t"], dtheta.dtype)
        m = self.beta1 * state["m"] + (1 - self.beta1) * dtheta
        v = self.beta2 * state["v"] + (1 - self.beta2) * dtheta**2
        # m and v start at zero, which these correct. 1 - beta^t = -expm1(t log beta): exact in float32, too.
        m_hat = m / -xp.expm1(t * math.log(self.beta1))
        v_hat = v / -xp.expm1(t * math.log(self.beta2))
        theta = state["theta"] - state["alpha"] * m_hat / (xp.sqrt(v_hat) + self.epsilon)
        return {"theta": theta, "m": m, "v": v}


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {"gradient_descent": GradientDescent, "adam": Adam}
"""Every optimizer that the command line and a model file may name."""


def optimizer(name: str, **arguments: float) -> Optimizer:
    """Return the optimizer of this name, or raise an InputError that names the nearest.

    Examples
    --------
    >>> optimizer("adam", learning_rate=0.01)
    Adam(learning_rate=0.01, beta1=0.9, beta2=0.999, epsilon=1e-08)
    """
    if name not in OPTIMIZERS:
        raise unknown("optimizer", name, OPTIMIZERS)
    return OPTIMIZERS[name](**arguments)


def describe(optimizer: Any) -> Mapping[str, Any]:
    """Return a description of types that JSON has: its name and its arguments, as `optimizer` takes them."""
    names = {kind: name for name, kind in OPTIMIZERS.items()}
    return {"name": names[type(optimizer)], **asdict(optimizer)}
