"""The first weights of a layer: (n, n') numbers drawn on the host, so that every backend starts alike.

They must be random: units of a layer that begin with equal weights stay equal. And they must have the right size: each
formula below keeps the variance of the activations, or of the gradients, about the same from layer to layer. The layer
has n units, and the layer before it n'.
"""

from collections.abc import Callable
from math import sqrt
from typing import TypeAlias

import numpy as np

from nnx.errors import unknown

Rng: TypeAlias = "np.random.Generator"  # quoted: NumPy imports its random numbers when first asked
Matrix: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
Initializer: TypeAlias = Callable[[Rng, int, int], Matrix]
"""(rng, n, n') -> W (n, n')."""


def zeros(rng: Rng, n: int, n_prev: int) -> Matrix:
    """All zeros: the notes' counter-example. The units of a layer stay equal."""
    return np.zeros((n, n_prev))


def normal(rng: Rng, n: int, n_prev: int) -> Matrix:
    """0.01 N(0, 1): the notes' small random weights, for shallow networks."""
    return 0.01 * rng.standard_normal((n, n_prev))


def inverse_sqrt(rng: Rng, n: int, n_prev: int) -> Matrix:
    """N(0, 1) / sqrt(n'): the notes' choice for deep networks."""
    return rng.standard_normal((n, n_prev)) / sqrt(n_prev)


def he(rng: Rng, n: int, n_prev: int) -> Matrix:
    """N(0, 2/n'), for ReLU (He et al., 2015, https://arxiv.org/abs/1502.01852, eq. 10)."""
    return rng.standard_normal((n, n_prev)) * sqrt(2 / n_prev)


def glorot(rng: Rng, n: int, n_prev: int) -> Matrix:
    """U(±sqrt(6/(n' + n))), for tanh (Glorot and Bengio, 2010, AISTATS, eq. 16)."""
    bound = sqrt(6 / (n_prev + n))
    return rng.uniform(-bound, bound, (n, n_prev))


def lecun(rng: Rng, n: int, n_prev: int) -> Matrix:
    """U(±sqrt(3/n')), of variance 1/n' (LeCun et al., 1998, Efficient BackProp, section 4.6)."""
    bound = sqrt(3 / n_prev)
    return rng.uniform(-bound, bound, (n, n_prev))


def uniform(rng: Rng, shape: tuple[int, ...], bound: float, scheme: str | None = None) -> Matrix:
    """U(±bound), or numbers drawn by the initializer `scheme`."""
    return (
        rng.uniform(-bound, bound, shape) if scheme is None else initializer(scheme)(rng, shape[0], shape[1])
    )


def truncated_normal(rng: Rng, shape: tuple[int, ...], sigma: float) -> Matrix:
    """N(0, sigma^2), where those beyond 3 sigma are drawn again."""
    drawn = rng.standard_normal(shape)
    while (far := np.abs(drawn) > 3).any():
        drawn[far] = rng.standard_normal(int(far.sum()))
    return sigma * drawn


INITIALIZERS: dict[str, Initializer] = {
    initializer.__name__: initializer for initializer in (zeros, normal, inverse_sqrt, he, glorot, lecun)
}
"""Every initializer by its name."""


def initializer(name: str) -> Initializer:
    """Return the initializer of this name, or raise an InputError that names the nearest."""
    if not isinstance(name, str) or name not in INITIALIZERS:
        raise unknown("initializer", name, INITIALIZERS)
    return INITIALIZERS[name]
