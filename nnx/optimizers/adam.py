"""Adam and optimizers like it, in order of complexity. updates.py defines an optimizer."""

from dataclasses import dataclass
from typing import ClassVar

from nnx.array.members import log
from nnx.array.namespace import Array, array_namespace, device
from nnx.optimizers.schedules import Schedule
from nnx.optimizers.updates import State, check
from nnx.support.members import Number, acts


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba, 2015, https://arxiv.org/abs/1412.6980, algorithm 1).

    Parameters
    ----------
    learning_rate : float or Schedule
        alpha. 0.001, as the paper, PyTorch, Keras and scikit-learn.
    beta1, beta2 : float
        The shares of the running means of the gradient and of its square that a step keeps; between 0 and 1. 0.9 and
        0.999, as in the paper, PyTorch, Keras and scikit-learn.
    epsilon : float
        Keeps the division finite. 1e-8, as the paper; Keras has 1e-7.

    Examples
    --------
    The first step is alpha in every direction, however large the gradient:

    >>> import numpy as np
    >>> theta = np.zeros(3)
    >>> state = {"theta": theta, "t": np.asarray(1), "alpha": 0.001, **Adam().init(theta)}
    >>> Adam().update(state, np.array([3.0, -0.002, 100.0]))["theta"].round(6)
    array([-0.001,  0.001, -0.001])
    """

    learning_rate: Number | Schedule = 0.001
    beta1: Number = 0.9
    beta2: Number = 0.999
    epsilon: Number = 1e-8
    shares: ClassVar[tuple[str, ...]] = ("beta1", "beta2")

    def __post_init__(self) -> None:
        check(self, beta1=1, beta2=1)

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
        # m and v start at zero. Dividing by 1 - beta^t corrects that: m_hat = m/c1, v_hat = v/c2^2.
        # 1 - beta^t = -expm1(t log beta) keeps its digits in float32, too.
        c1 = -xp.expm1(t * log(self.beta1))
        c2 = xp.sqrt(-xp.expm1(t * log(self.beta2)))
        # theta - alpha m_hat / (sqrt(v_hat) + epsilon), with c1 and c2 taken out of the vectors
        theta = state["theta"] - (state["alpha"] * c2 / c1) * m / (xp.sqrt(v) + self.epsilon * c2)
        return {"theta": theta, "m": m, "v": v}


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam on theta (1 - alpha weight_decay), the decay decoupled from the gradient.

    Loshchilov and Hutter, 2019, https://arxiv.org/abs/1711.05101, algorithm 2, as in PyTorch and Keras: alpha
    is in the decay, too. It acts on weights only, not on biases; PyTorch's and Keras's act on all parameters.

    Parameters
    ----------
    learning_rate, beta1, beta2, epsilon : float
        As in Adam.
    weight_decay : float
        At least 0, which is Adam. 0.01, as PyTorch; Keras has 0.004.

    Examples
    --------
    Without a gradient only the decay is left:

    >>> import numpy as np
    >>> theta, decays = np.array([10.0, 10.0]), np.array([1.0, 0.0])  # a weight and a bias
    >>> state = {"theta": theta, "t": np.asarray(1), "alpha": 0.1, "decays": decays, **AdamW().init(theta)}
    >>> AdamW(weight_decay=0.1).update(state, np.zeros(2))["theta"]
    array([ 9.9, 10. ])
    """

    weight_decay: Number = 0.01

    def __post_init__(self) -> None:
        check(self, "weight_decay", beta1=1, beta2=1)

    def update(self, state: State, dtheta: Array) -> State:
        """Return the next theta, m and v."""
        if acts(self.weight_decay):
            decayed = state["theta"] * (1 - state["alpha"] * self.weight_decay * state["decays"])
            state = {**state, "theta": decayed}
        return super().update(state, dtheta)


@dataclass(frozen=True)
class NAdam(Adam):
    """Adam with Nesterov's look ahead (Dozat, 2016, https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ, alg. 2).

    As in PyTorch and Keras, mu takes the place of beta1 in the step. It rises from half of beta1 to beta1.

    Parameters
    ----------
    learning_rate : float or Schedule
        alpha. 0.002, as PyTorch; Keras has 0.001.
    beta1, beta2, epsilon : float
        As in Adam.
    momentum_decay : float
        psi in mu[t] = beta1 (1 - 0.96^(t psi) / 2); at least 0. 0.004, the paper's 1 / 250, as PyTorch.

    Examples
    --------
    A step has a share of the mean of the gradients, m, and a share of the last gradient:

    >>> import numpy as np
    >>> theta = np.zeros(2)
    >>> state = {"theta": theta, "t": np.asarray(1), "alpha": 0.001, **NAdam().init(theta)}
    >>> NAdam().update(state, np.array([3.0, -0.002]))["theta"].round(6)
    array([-0.001056,  0.001056])
    """

    learning_rate: Number | Schedule = 0.002
    momentum_decay: Number = 0.004

    def __post_init__(self) -> None:
        check(self, "momentum_decay", beta1=1, beta2=1)

    def init(self, theta: Array) -> State:
        """Return m and v as Adam, and "mu_product", 0-d, the product of all mu: 1."""
        one = array_namespace(theta).ones((), dtype=theta.dtype, device=device(theta))
        return {**super().init(theta), "mu_product": one}

    def update(self, state: State, dtheta: Array) -> State:
        """Return the next theta, m, v and mu_product."""
        xp = array_namespace(dtheta)
        t = xp.astype(state["t"], dtheta.dtype)
        mu = self.beta1 * (1 - 0.5 * 0.96 ** (t * self.momentum_decay))
        mu_next = self.beta1 * (1 - 0.5 * 0.96 ** ((t + 1) * self.momentum_decay))
        product = state["mu_product"] * mu
        m = self.beta1 * state["m"] + (1 - self.beta1) * dtheta
        v = self.beta2 * state["v"] + (1 - self.beta2) * dtheta**2
        m_hat = mu_next / (1 - product * mu_next) * m + (1 - mu) / (1 - product) * dtheta
        v_hat = v / -xp.expm1(t * log(self.beta2))  # 1 - beta2^t, as in Adam
        theta = state["theta"] - state["alpha"] * m_hat / (xp.sqrt(v_hat) + self.epsilon)
        return {"theta": theta, "m": m, "v": v, "mu_product": product}


@dataclass(frozen=True)
class Lion:
    """theta = theta - alpha (sign(beta1 m + (1 - beta1) dtheta) + weight_decay theta).

    Then m = beta2 m + (1 - beta2) dtheta (Chen et al., 2023, https://arxiv.org/abs/2302.06675, algorithm 2). All
    elements of a step are of one size, so alpha should be 3 to 10 times smaller than Adam's, and weight_decay as much
    larger than AdamW's (section 5).

    Parameters
    ----------
    learning_rate : float or Schedule
        alpha. 0.0001, the authors' own default; Keras has 0.001, PyTorch no Lion.
    beta1, beta2 : float
        The share of m in a step, and the share of m that a step keeps; between 0 and 1. The paper's, and Keras's.
    weight_decay : float
        At least 0; acts on weights only, not on biases. 0, as Keras (None).

    Examples
    --------
    >>> import numpy as np
    >>> state = {"theta": np.zeros(3), "alpha": 0.0001, "m": np.zeros(3)}
    >>> Lion().update(state, np.array([3.0, -0.002, 100.0]))["theta"]
    array([-0.0001,  0.0001, -0.0001])
    """

    learning_rate: Number | Schedule = 0.0001
    beta1: Number = 0.9
    beta2: Number = 0.99
    weight_decay: Number = 0.0
    shares: ClassVar[tuple[str, ...]] = ("beta1", "beta2")

    def __post_init__(self) -> None:
        check(self, "weight_decay", beta1=1, beta2=1)

    def init(self, theta: Array) -> State:
        """Return the mean of the gradient, "m": zeros."""
        return {"m": array_namespace(theta).zeros_like(theta)}

    def update(self, state: State, dtheta: Array) -> State:
        """Return the next theta and m."""
        step = array_namespace(dtheta).sign(self.beta1 * state["m"] + (1 - self.beta1) * dtheta)
        if acts(self.weight_decay):
            step = step + self.weight_decay * state["decays"] * state["theta"]
        m = self.beta2 * state["m"] + (1 - self.beta2) * dtheta
        return {"theta": state["theta"] - state["alpha"] * step, "m": m}
