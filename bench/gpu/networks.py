"""The networks whose steps on a GPU are compared with NumPy's, each with fresh samples."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

import nnx
from nnx.optimizers import Optimizer

Array = Any


class Tried(NamedTuple):
    """A network, and how it is trained.

    Attributes
    ----------
    name : str
    network : Network
    optimizer : Optimizer
    regularization : Regularization or None
    batch_sizes : dict
        The samples of a step, and those of the fit: the last batch of an epoch is shorter.
    """

    name: str
    network: nnx.Network
    optimizer: Optimizer
    regularization: nnx.Regularization | None
    batch_sizes: Mapping[int, int]

    def samples(self, M: int, seed: int, dtype: str) -> tuple[Array, Array]:
        """Return X (n[0], M), and Y: classes, or numbers (n[L], M)."""
        rng = np.random.default_rng((seed, M))
        X = rng.standard_normal((M, self.network.n[0])).astype(dtype).T
        if self.network.output.classes:
            return X, rng.integers(0, self.network.n[-1], M)
        return X, rng.standard_normal((self.network.n[-1], M)).astype(dtype)


def networks(small: bool = False) -> list[Tried]:
    """Return the eight networks; with `small`, of the same forms with few units.

    Examples
    --------
    >>> len(networks()), networks()[0].network.P
    (8, 669706)
    """
    digits = [20, 16, 16, 4] if small else [784, 512, 512, 10]
    n, wide, less, classes = (5, 8, 7, 20) if small else (64, 96, 80, 1000)
    several = {6: 20} if small else {33: 100, 600: 1500}
    every = {1: 3 if small else 5, **several}
    usual = several if small else every

    def tried(
        name: str, network: nnx.Network, optimizer: Optimizer, more: nnx.Regularization | None = None
    ) -> Tried:
        has_batch_norm = any(isinstance(layer, nnx.BatchNorm) for layer in network.layers)
        return Tried(name, network, optimizer, more, several if has_batch_norm else usual)

    dense, activate = nnx.Dense, nnx.Activate
    dropout = [dense(wide, "relu"), nnx.Dropout(0.3), dense(less, "silu"), dense(1)]
    layer_norm = [
        dense(wide),
        nnx.LayerNorm(),
        activate("relu"),
        nnx.Residual([dense(wide, "tanh")]),
        dense(10),
    ]
    batch_norm = [dense(wide), nnx.BatchNorm(), activate("relu"), dense(10)]
    gelu = [dense(wide, "tanh"), dense(less, "gelu"), dense(10)]
    numbers = nnx.mlp([n, wide, less, 3], "elu", "identity", loss="huber")
    cosine = nnx.schedules.Cosine(0.001, steps=20)
    clipped = nnx.Regularization(l2=0.01, clip_norm=0.5)
    return [
        # (the costs stay so large that rounding is small beside them)
        Tried(f"{'-'.join(map(str, digits))}, Adam", nnx.mlp(digits), nnx.Adam(1e-4), None, every),
        tried("tanh and gelu, AdamW", nnx.Network(n, gelu, "softmax"), nnx.AdamW()),
        tried("Dropout, RMSprop", nnx.Network(n, dropout, "sigmoid"), nnx.RMSprop()),
        tried("LayerNorm and Residual, Adam", nnx.Network(n, layer_norm, "softmax"), nnx.Adam(cosine)),
        # (Adam would make much of the rounding in the b before BatchNorm)
        tried("BatchNorm, Momentum", nnx.Network(n, batch_norm, "softmax"), nnx.Momentum()),
        tried("clip_norm and l2, Nesterov", nnx.mlp([n, wide, 10], "tanh"), nnx.Nesterov(), clipped),
        tried("numbers with Huber, NAdam", numbers, nnx.NAdam()),
        tried(f"{classes:,} classes, Adam", nnx.mlp([n, wide, classes]), nnx.Adam()),
    ]
