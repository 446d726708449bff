"""What all contestants compute: one network, optimizer, batch size and order of the samples."""

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
        Draws the samples, the first weights and the order.

    Examples
    --------
    >>> case = Case((784, 512, 512, 10), m=128)
    >>> case.flops  # 2 m (2 sum of n[l] n[l-1], less the first layer's dA)
    410779648
    >>> case.theory
    {'theta': 2678824, 'gradient': 2678824, 'optimizer': 5357648, 'kept': 524288, 'gathered': 0}
    """

    sizes: tuple[int, ...]
    m: int
    optimizer: str = "adam"
    dtype: str = "float32"
    shuffled: bool = False
    steps: int = STEPS
    learning_rate: float = 1e-6
    seed: int = 0

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

    def start(self) -> dict[str, Any]:
        """Return the first parameters, {"W1": (n[1], n[0]), "b1": (n[1], 1), ...}, each of its own memory."""
        network = self.network()
        made = network.unflatten(network.init(self.seed, self.dtype))
        return {name: np.array(p) for name, p in made.items()}

    def places(self) -> list[slice]:
        """Return where the batches of an epoch in order lie."""
        return [slice(i, i + self.m) for i in range(0, self.M, self.m)]

    @property
    def flops(self) -> int:
        """The additions and multiplications of a step's matrix products."""
        pairs = [n * n_prev for n_prev, n in pairwise(self.sizes)]
        return 2 * self.m * (3 * sum(pairs) - pairs[0])  # Z[l], dW[l] and, but of the first layer, dA[l-1]

    @property
    def theory(self) -> dict[str, int]:
        """The bytes that a step must hold beside the samples, by what they are for."""
        network, size = self.network(), np.dtype(self.dtype).itemsize
        theta = network.P * size
        own = self.make_optimizer().init(np.zeros(1, self.dtype))  # P times one parameter's
        return {
            "theta": theta,
            "gradient": theta,
            "optimizer": theta * sum(np.ndim(x) > 0 for x in own.values()),
            "kept": network.summary().kept * self.m * size,  # what forward keeps for backward
            "gathered": self.sizes[0] * self.m * size
            if self.shuffled
            else 0,  # the batch, where it is no view of X
        }


def steps_within(n_features: int, m: int, dtype: str) -> int:
    """Return the steps of an epoch: STEPS, or as many as keep X within BUDGET, at least two.

    Examples
    --------
    >>> steps_within(784, 128, "float32"), steps_within(12288, 8192, "float32")
    (16, 2)
    """
    fit = BUDGET // (n_features * m * np.dtype(dtype).itemsize)
    return min(STEPS, max(LEAST_STEPS, fit))
