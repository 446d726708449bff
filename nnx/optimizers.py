"""The optimizers, in order of complexity. Each sees the parameters as one flat vector theta.

An optimizer is data (what never changes in a run) plus two pure functions: its first state and its update.
What changes from step to step, the learning rate and the step count among it, is an array of the state, so
that a captured step never holds an old value.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from numbers import Real
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


def _numbers(optimizer: Any, **highest: float) -> None:
    """Make every field a float (what JSON has) greater than 0 and less than `highest`, or raise."""
    for field in fields(optimizer):
        value, high = getattr(optimizer, field.name), highest.get(field.name, math.inf)
        if not isinstance(value, Real) or not 0 < float(value) < high:
            expected = "greater than 0 and finite" if high == math.inf else f"between 0 and {high:g}"
            raise InputError(f"{field.name} must be {expected}, not {value!r}")
        object.__setattr__(optimizer, field.name, float(value))


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
        _numbers(self)

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
        _numbers(self, beta1=1, beta2=1)

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
        # m and v start at zero, which dividing by 1 - beta^t corrects: m_hat = m/c1, v_hat = v/c2^2.
        # 1 - beta^t = -expm1(t log beta) keeps its digits in float32, too.
        c1 = -xp.expm1(t * math.log(self.beta1))
        c2 = xp.sqrt(-xp.expm1(t * math.log(self.beta2)))
        # theta - alpha m_hat / (sqrt(v_hat) + epsilon), with c1 and c2 taken out of the vectors
        theta = state["theta"] - (state["alpha"] * c2 / c1) * m / (xp.sqrt(v) + self.epsilon * c2)
        return {"theta": theta, "m": m, "v": v}


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {"gradient_descent": GradientDescent, "adam": Adam}
"""Every optimizer that the command line and a model file may name."""


def optimizer(name: str | Optimizer, **arguments: float) -> Optimizer:
    """Return the optimizer of this name; one that is an Optimizer already stays what it is.

    Raises
    ------
    InputError
        For an unknown name (with the nearest known ones), or what is no optimizer.

    Examples
    --------
    >>> optimizer("adam", learning_rate=0.01)
    Adam(learning_rate=0.01, beta1=0.9, beta2=0.999, epsilon=1e-08)
    """
    if not isinstance(name, str):
        if isinstance(name, type) or not hasattr(name, "update"):
            raise InputError(
                f"the optimizer must be a name or an instance such as nnx.Adam(); given {name!r}"
            )
        return name
    if name not in OPTIMIZERS:
        raise unknown("optimizer", name, OPTIMIZERS)
    return OPTIMIZERS[name](**arguments)


def describe(optimizer: Any) -> Mapping[str, Any]:
    """Return a description of types that JSON has: its name and its arguments, as `optimizer` takes them.

    Raises
    ------
    InputError
        When it is not among OPTIMIZERS: a model file could not name it.
    """
    for name, kind in OPTIMIZERS.items():
        if type(optimizer) is kind:
            return {"name": name, **asdict(optimizer)}
    raise InputError(
        f"a model file cannot name the optimizer {optimizer!r}; add its class to nnx.OPTIMIZERS under a name, "
        "here and where the file is loaded"
    )
