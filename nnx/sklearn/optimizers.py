"""scikit-learn's two optimizers, to the letter: nnx's own differ from them in where a factor stands."""

import math
from dataclasses import dataclass

from nnx.array.namespace import Array, array_namespace
from nnx.optimizers import Schedule, State


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

    learning_rate: float | Schedule
    momentum: float
    nesterov: bool

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

    learning_rate: float | Schedule
    beta1: float
    beta2: float
    epsilon: float

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
        if self.beta2:
            alpha = alpha * xp.sqrt(-xp.expm1(t * math.log(self.beta2)))
        if self.beta1:
            alpha = alpha / -xp.expm1(t * math.log(self.beta1))
        return {"theta": state["theta"] - alpha * m / (xp.sqrt(v) + self.epsilon), "m": m, "v": v}
