"""The interface of an optimizer, and the simple ones, in order of complexity; adam.py has more.

An optimizer sees the parameters as one flat vector theta (..., P). It has constants and two pure functions: its first
state and its update. Everything that changes from step to step, such as the learning rate and the step count, is an
array of the state. So a compiled step never contains an old value. A number out of its range raises an InputError that
names it. Of a stack a number may be a sequence, one for each member; in an update it is then an array
(`nnx.array.members`).
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from nnx.array.namespace import Array, array_namespace
from nnx.errors import InputError, shown
from nnx.optimizers.schedules import Schedule
from nnx.support.members import Number
from nnx.support.registry import numbers

State = dict[str, Array]
"""Arrays by name: "theta", "t" (steps done), "alpha" (learning rate), and the optimizer's own."""


class Optimizer(Protocol):
    """The interface that the training step calls."""

    @property
    def learning_rate(self) -> Number | Schedule:
        """The first alpha, or the schedule of alpha."""

    def init(self, theta: Array) -> State:
        """Return the optimizer's own first state: arrays of any shape."""

    def update(self, state: State, dtheta: Array) -> State:
        """Return the next theta and own state.

        state["t"] includes this step. state["alpha"] is the rate of this step: 0-d, or (K, 1) for a stack
        of K networks. If weight_decay > 0, state["decays"] (P,) is 1 for parameters that decay and 0 for others
        (biases).
        """


def check(optimizer: Any, *zero: str, **highest: float) -> None:
    """Check the numbers of an optimizer, see `numbers`; a schedule has checked its own."""
    rate = optimizer.learning_rate
    scheduled = isinstance(rate, Schedule)
    if not scheduled and (isinstance(rate, str) or callable(rate)):
        raise InputError(
            f"learning_rate must be greater than 0 and finite, not {shown(rate)}; or a schedule, such as "
            "nnx.schedules.Cosine.in_epochs(0.01), or nnx.schedules.Custom(0.01, function) of a function of your own"
        )
    numbers(optimizer, *zero, skip="learning_rate" if scheduled else "", members=True, **highest)


@dataclass(frozen=True)
class GradientDescent:
    """theta = theta - alpha dtheta.

    Parameters
    ----------
    learning_rate : float or Schedule
        alpha. 0.01, as Keras; PyTorch and scikit-learn have 0.001.

    Examples
    --------
    >>> import numpy as np
    >>> GradientDescent().update({"theta": np.ones(2), "alpha": 0.1}, np.array([1.0, -2.0]))
    {'theta': array([0.9, 1.2])}
    """

    learning_rate: Number | Schedule = 0.01

    def __post_init__(self) -> None:
        check(self)

    def init(self, theta: Array) -> State:
        """Return nothing: gradient descent has no memory."""
        return {}

    def update(self, state: State, dtheta: Array) -> State:
        """Return {"theta": theta - alpha dtheta}."""
        return {"theta": state["theta"] - state["alpha"] * dtheta}


@dataclass(frozen=True)
class Momentum:
    """velocity = momentum velocity + dtheta; theta = theta - alpha velocity.

    Polyak, 1964, https://doi.org/10.1016/0041-5553(64)90137-5, as in PyTorch: alpha acts on the whole velocity,
    so a new rate is felt at once. Keras and scikit-learn keep alpha within the velocity, which is the same as long as
    alpha stays.

    Parameters
    ----------
    learning_rate : float or Schedule
        alpha. 0.01, as Keras; PyTorch and scikit-learn have 0.001.
    momentum : float
        How much of the velocity a step keeps; at least 0, below 1. 0.9, as scikit-learn; PyTorch and Keras
        have 0, which is GradientDescent.

    Examples
    --------
    >>> import numpy as np
    >>> state = {"theta": np.ones(2), "alpha": 0.1, "velocity": np.array([0.0, 10.0])}
    >>> Momentum(momentum=0.5).update(state, np.ones(2))
    {'theta': array([0.9, 0.4]), 'velocity': array([1., 6.])}
    """

    learning_rate: Number | Schedule = 0.01
    momentum: Number = 0.9

    def __post_init__(self) -> None:
        check(self, "momentum", momentum=1)

    def init(self, theta: Array) -> State:
        """Return the velocity: zeros."""
        return {"velocity": array_namespace(theta).zeros_like(theta)}

    def update(self, state: State, dtheta: Array) -> State:
        """Return the next theta and velocity."""
        velocity = self.momentum * state["velocity"] + dtheta
        return {"theta": state["theta"] - state["alpha"] * velocity, "velocity": velocity}


@dataclass(frozen=True)
class Nesterov(Momentum):
    """velocity = momentum velocity + dtheta; theta = theta - alpha (dtheta + momentum velocity).

    Nesterov's momentum, which looks ahead (Sutskever et al., 2013,
    https://proceedings.mlr.press/v28/sutskever13.html), in the form that needs the gradient at theta only (Bengio et
    al., 2013, https://arxiv.org/abs/1212.0901, section 3.5). Of alpha and the velocity see Momentum.

    Parameters
    ----------
    learning_rate, momentum : float
        As in Momentum.

    Examples
    --------
    >>> import numpy as np
    >>> state = {"theta": np.ones(2), "alpha": 0.1, "velocity": np.array([0.0, 10.0])}
    >>> Nesterov(momentum=0.5).update(state, np.ones(2))
    {'theta': array([0.85, 0.6 ]), 'velocity': array([1., 6.])}
    """

    def update(self, state: State, dtheta: Array) -> State:
        """Return the next theta and velocity."""
        velocity = self.momentum * state["velocity"] + dtheta
        theta = state["theta"] - state["alpha"] * (dtheta + self.momentum * velocity)
        return {"theta": theta, "velocity": velocity}


@dataclass(frozen=True)
class Adagrad:
    """v = v + dtheta^2; theta = theta - alpha dtheta / (sqrt(v) + epsilon).

    Duchi, Hazan and Singer, 2011, https://jmlr.org/papers/v12/duchi11a.html, fig. 1, with diagonal matrices.

    Parameters
    ----------
    learning_rate : float or Schedule
        alpha. 0.01, as PyTorch; Keras has 0.001.
    epsilon : float
        Keeps the division finite. 1e-10, as PyTorch. v starts at 0, as in the paper; Keras starts at 0.1, with an
        epsilon of 1e-7 inside the root.

    Examples
    --------
    >>> import numpy as np
    >>> Adagrad().update(
    ...     {"theta": np.zeros(2), "alpha": 0.1, "v": np.array([0.0, 7.0])}, np.array([5.0, 3.0])
    ... )
    {'theta': array([-0.1  , -0.075]), 'v': array([25., 16.])}
    """

    learning_rate: Number | Schedule = 0.01
    epsilon: Number = 1e-10

    def __post_init__(self) -> None:
        check(self)

    def init(self, theta: Array) -> State:
        """Return the sum of the squares of the gradient, "v": zeros."""
        return {"v": array_namespace(theta).zeros_like(theta)}

    def update(self, state: State, dtheta: Array) -> State:
        """Return the next theta and v."""
        v = state["v"] + dtheta**2
        theta = state["theta"] - state["alpha"] * dtheta / (array_namespace(v).sqrt(v) + self.epsilon)
        return {"theta": theta, "v": v}


@dataclass(frozen=True)
class RMSprop:
    """v = rho v + (1 - rho) dtheta^2; theta = theta - alpha dtheta / (sqrt(v) + epsilon).

    Tieleman and Hinton, 2012, https://www.cs.toronto.edu/~tijmen/csc321/slides/lecture_slides_lec6.pdf, slide 29.
    v starts at 0, so the first steps are longer: the very first is alpha / sqrt(1 - rho) in every direction.

    Parameters
    ----------
    learning_rate : float or Schedule
        alpha. 0.001, as Keras; PyTorch has 0.01.
    rho : float
        How much of the running mean of the gradient's square a step keeps; between 0 and 1. 0.9, as the slide and
        Keras; PyTorch, which calls it alpha, has 0.99.
    epsilon : float
        Keeps the division finite. 1e-8 outside the root, as PyTorch; Keras has 1e-7 inside.

    Examples
    --------
    >>> import numpy as np
    >>> RMSprop(rho=0.75).update(
    ...     {"theta": np.zeros(2), "alpha": 0.1, "v": np.zeros(2)}, np.array([-2.0, 4.0])
    ... )
    {'theta': array([ 0.2, -0.2]), 'v': array([1., 4.])}
    """

    learning_rate: Number | Schedule = 0.001
    rho: Number = 0.9
    epsilon: Number = 1e-8
    shares: ClassVar[tuple[str, ...]] = ("rho",)

    def __post_init__(self) -> None:
        check(self, rho=1)

    def init(self, theta: Array) -> State:
        """Return the mean of the squares of the gradient, "v": zeros."""
        return {"v": array_namespace(theta).zeros_like(theta)}

    def update(self, state: State, dtheta: Array) -> State:
        """Return the next theta and v."""
        v = self.rho * state["v"] + (1 - self.rho) * dtheta**2
        theta = state["theta"] - state["alpha"] * dtheta / (array_namespace(v).sqrt(v) + self.epsilon)
        return {"theta": theta, "v": v}
