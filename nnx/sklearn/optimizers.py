"""scikit-learn's two optimizers, to the letter: nnx's own differ from them in where a factor stands.

As of nnx's own, each number may be a sequence, one for each member of a stack.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from nnx.array.members import log
from nnx.array.namespace import Array, array_namespace
from nnx.optimizers import Schedule, State
from nnx.support.members import Number, acts, each


def _as_floats(optimizer: Any, *names: str) -> None:
    for name in names:
        value = getattr(optimizer, name)
        if not isinstance(value, Schedule):
            object.__setattr__(optimizer, name, each(name, value, lambda _, x: float(x)))


@dataclass(frozen=True)
class SGD:
    """velocity = momentum velocity - alpha dtheta; theta = theta + velocity.

    With Nesterov's momentum theta + momentum velocity - alpha dtheta. `nnx.Momentum` and `nnx.Nesterov` keep alpha
    out of the velocity, which is the same until alpha changes.

    Parameters
    ----------
    learning_rate : float or Schedule
    momentum : float
        In [0, 1]; nnx's own are below 1.
    nesterov : bool

    Examples
    --------
    >>> import numpy as np
    >>> state = {"theta": np.ones(2), "alpha": 0.1, "velocity": np.array([0.0, -1.0])}
    >>> SGD(0.1, momentum=0.5, nesterov=False).update(state, np.ones(2))["theta"]
    array([0.9, 0.4])
    """

    learning_rate: Number | Schedule
    momentum: Number
    nesterov: bool

    def __post_init__(self) -> None:
        _as_floats(self, "learning_rate", "momentum")

    def init(self, theta: Array) -> State:
        """Return the velocity: zeros."""
        return {"velocity": array_namespace(theta).zeros_like(theta)}

    def update(self, state: State, dtheta: Array) -> State:
        """Return the next theta and velocity."""
        step = state["alpha"] * dtheta
        velocity = self.momentum * state["velocity"] - step
        moved = self.momentum * velocity - step if self.nesterov else velocity
        return {"theta": state["theta"] + moved, "velocity": velocity}


@dataclass(frozen=True)
class Adam:
    """Adam as at the end of section 2 of the paper: theta - alpha (c2 / c1) m / (sqrt(v) + epsilon).

    Kingma and Ba, 2015, https://arxiv.org/abs/1412.6980; c1 = 1 - beta1^t, c2 = sqrt(1 - beta2^t). In algorithm 1,
    which `nnx.Adam` is, epsilon has the factor c2, too. That shows where a gradient is no larger than epsilon, as the
    penalty alone is for a feature that is always 0.

    Parameters
    ----------
    learning_rate : float or Schedule
    beta1, beta2 : float
        In [0, 1); nnx's own are above 0.
    epsilon : float

    Examples
    --------
    >>> import numpy as np
    >>> optimizer = Adam(0.001, 0.9, 0.999, 1e-8)
    >>> state = {"theta": np.zeros(2), "t": np.asarray(1), "alpha": 0.001, **optimizer.init(np.zeros(2))}
    >>> optimizer.update(state, np.array([3.0, -1e-7]))["theta"].round(6)
    array([-0.001 ,  0.00024])
    """

    learning_rate: Number | Schedule
    beta1: Number
    beta2: Number
    epsilon: Number
    shares: ClassVar[tuple[str, ...]] = ("beta1", "beta2")

    def __post_init__(self) -> None:
        _as_floats(self, "learning_rate", "beta1", "beta2", "epsilon")

    def init(self, theta: Array) -> State:
        """Return the means of the gradient, "m", and of its square, "v": zeros."""
        zeros_like = array_namespace(theta).zeros_like
        return {"m": zeros_like(theta), "v": zeros_like(theta)}

    def update(self, state: State, dtheta: Array) -> State:
        """Return the next theta, m and v."""
        xp = array_namespace(dtheta)
        t = xp.astype(state["t"], dtheta.dtype)
        m = self.beta1 * state["m"] + (1 - self.beta1) * dtheta
        v = self.beta2 * state["v"] + (1 - self.beta2) * dtheta**2
        # 1 - beta^t = -expm1(t log beta), see nnx.Adam; beta = 0 has no log, and no correction
        alpha = state["alpha"]
        if acts(self.beta2):
            alpha = alpha * xp.sqrt(-xp.expm1(t * log(self.beta2)))
        if acts(self.beta1):
            alpha = alpha / -xp.expm1(t * log(self.beta1))
        return {"theta": state["theta"] - alpha * m / (xp.sqrt(v) + self.epsilon), "m": m, "v": v}
