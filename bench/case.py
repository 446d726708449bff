"""The work of all contestants: one network or K members, an optimizer, a batch size and an order of the samples."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from nnx.model.mlp import mlp
from nnx.model.network import Network
from nnx.optimizers import Optimizer, optimizer

STEPS = 16
"""Steps in an epoch."""

LEAST_STEPS = 2
"""Of an epoch whose samples would not fit into BUDGET."""

BUDGET = 2**29
"""The bytes of X, of which every contestant's process has its own."""


class Data(NamedTuple):
    """The samples as rows, as most libraries have them: X (M, n[0]) and the classes y (M,), int32."""

    X: Any
    y: Any


@dataclass(frozen=True)
class Case:
    """One cell of the benchmark.

    Parameters
    ----------
    sizes : tuple of int
        n[0], ..., n[L]; relu between, at the end softmax, or sigmoid where n[L] = 1.
    m : int
        Samples in a step.
    optimizer : str
        As `nnx.optimizers.optimizer` takes it.
    dtype : {"float32", "float64"}
    shuffled : bool
        Whether every epoch has an order of its own; else the batches come in order.
    steps : int
        Steps in an epoch.
    learning_rate : float
        alpha. So small that however many steps are done, the values stay those of a first epoch: nobody gets ahead by
        dead units or falls behind by denormal numbers. The work does not depend on it.
    seed : int
        Draws the samples, the first weights and the order. Member k has the weights and the order of seed + k.
    members : int or None
        K networks, which share the samples. None: one, without an axis of members.

    Examples
    --------
    >>> case = Case((784, 512, 512, 10), m=128)
    >>> case.flops  # 2 m (2 sum of n[l] n[l-1], less the first layer's dA)
    410779648
    >>> case.theory
    {'theta': 2678824, 'gradient': 2678824, 'optimizer': 5357648, 'kept': 524288, 'gathered': 0}
    >>> Case((784, 512, 512, 10), m=128, members=3).flops == 3 * case.flops
    True
    """

    sizes: tuple[int, ...]
    m: int
    optimizer: str = "adam"
    dtype: str = "float32"
    shuffled: bool = False
    steps: int = STEPS
    learning_rate: float = 1e-6
    seed: int = 0
    members: int | None = None

    @property
    def K(self) -> int:
        """The number of networks."""
        return self.members or 1

    @property
    def M(self) -> int:
        """The samples of an epoch."""
        return self.steps * self.m

    @property
    def order(self) -> str:
        """For people and files: "in order" or "shuffled"."""
        return "shuffled" if self.shuffled else "in order"

    @property
    def classes(self) -> int:
        """The number of classes."""
        return max(2, self.sizes[-1])

    def network(self) -> Network:
        """Return the network."""
        return mlp(self.sizes)

    def make_optimizer(self) -> Optimizer:
        """Return the optimizer."""
        return optimizer(self.optimizer, learning_rate=self.learning_rate)

    def data(self) -> Data:
        """Return the samples, the same for every contestant."""
        rng = np.random.default_rng(self.seed)
        X = rng.standard_normal((self.M, self.sizes[0]), np.float32).astype(self.dtype, copy=False)
        return Data(X, rng.integers(0, self.classes, self.M, dtype=np.int32))

    def start(self, k: int = 0) -> dict[str, Any]:
        """Return the first parameters of member k, {"W1": (n[1], n[0]), "b1": (n[1], 1), ...}, of their own memory."""
        network = self.network()
        made = network.unflatten(network.init(self.seed + k, self.dtype))
        return {name: np.array(p) for name, p in made.items()}

    def starts(self) -> list[dict[str, Any]]:
        """Return the first parameters of each member."""
        return [self.start(k) for k in range(self.K)]

    def orders(self) -> list[np.random.Generator]:
        """Return the generator of each member that draws the orders of its samples."""
        return [np.random.default_rng(self.seed + k) for k in range(self.K)]

    def places(self) -> list[slice]:
        """Return where the batches of an epoch in order lie."""
        return [slice(i, i + self.m) for i in range(0, self.M, self.m)]

    @property
    def flops(self) -> int:
        """The additions and multiplications of the matrix products of a step of all members."""
        pairs = [n * n_prev for n_prev, n in pairwise(self.sizes)]
        one = 2 * self.m * (3 * sum(pairs) - pairs[0])  # Z[l], dW[l] and, but of the first layer, dA[l-1]
        return self.K * one

    @property
    def theory(self) -> dict[str, int]:
        """The bytes that a step of all members at once must hold beside the samples, by their purpose."""
        network, size = self.network(), np.dtype(self.dtype).itemsize
        theta = self.K * network.P * size
        own = self.make_optimizer().init(np.zeros(1, self.dtype))  # P times one parameter's
        return {
            "theta": theta,
            "gradient": theta,
            "optimizer": theta * sum(np.ndim(x) > 0 for x in own.values()),
            "kept": self.K * network.summary().kept * self.m * size,  # what forward keeps for backward
            "gathered": self.K * self.sizes[0] * self.m * size
            if self.shuffled
            else 0,  # the batch, where it is no view of X
        }


def stacked(members: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the parameters of all members, each array with the members as its first axis.

    Examples
    --------
    >>> stacked(Case((784, 10), m=1, members=3).starts())["W1"].shape
    (3, 10, 784)
    """
    return {name: np.stack([one[name] for one in members]) for name in members[0]}


def steps_within(n_features: int, m: int, dtype: str) -> int:
    """Return the steps of an epoch: STEPS, or as many as keep X within BUDGET, at least two.

    Examples
    --------
    >>> steps_within(784, 128, "float32"), steps_within(12288, 8192, "float32")
    (16, 2)
    """
    fit = BUDGET // (n_features * m * np.dtype(dtype).itemsize)
    return min(STEPS, max(LEAST_STEPS, fit))
