"""Small generated data sets in the plane that no straight line separates: X (2, m) float64, Y (m,) labels."""

from collections.abc import Callable
from typing import Any

import numpy as np

from nnx.array.host import generator
from nnx.errors import between, positive_int

Points = tuple[Any, Any]


def _noisy(X: Any, rng: Any, noise: float) -> Any:
    """Return the points, moved by numbers of this standard deviation."""
    return X + between("noise", noise, 0, 1e300) * rng.standard_normal(X.shape)


def flower(m: int = 400, seed: int = 0, noise: float = 0.1) -> Points:
    """Return eight petals whose two classes alternate: r = |4 sin 4θ|, the class by the petal's number.

    Parameters
    ----------
    m : int
        Samples.
    seed : int
    noise : float
        Standard deviation of what is added to each coordinate.

    Returns
    -------
    X : array (2, m), float64
    Y : array (m,), int64: 0 or 1

    Examples
    --------
    >>> X, Y = flower(6)
    >>> X.shape, Y.tolist()
    ((2, 6), [1, 0, 0, 0, 0, 1])
    """
    rng = generator(seed)
    angle = rng.uniform(0, 2 * np.pi, positive_int("m", m))
    radius = np.abs(4 * np.sin(4 * angle))
    X = radius * np.stack([np.cos(angle), np.sin(angle)])
    return _noisy(X, rng, noise), (4 * angle / np.pi).astype(int) % 2


def moons(m: int = 400, seed: int = 0, noise: float = 0.15) -> Points:
    """Return two half circles, each reaching into the other; parameters and returns as for `flower`."""
    rng, m = generator(seed), positive_int("m", m)
    Y = rng.permutation(np.arange(m) % 2)
    angle = rng.uniform(0, np.pi, m)
    X = np.where(
        Y == 0,
        [np.cos(angle), np.sin(angle)],
        [1 - np.cos(angle), 0.5 - np.sin(angle)],
    )
    return _noisy(X, rng, noise), Y


def spirals(m: int = 600, seed: int = 0, noise: float = 0.05, classes: int = 3) -> Points:
    """Return spiral arms of one and a quarter turns, a class each; otherwise as for `flower`."""
    rng, m, classes = generator(seed), positive_int("m", m), positive_int("classes", classes)
    Y = rng.permutation(np.arange(m) % classes)
    radius = np.sqrt(rng.uniform(0.01, 1, m))
    angle = 2 * np.pi * (Y / classes + 1.25 * radius)
    X = radius * np.stack([np.cos(angle), np.sin(angle)])
    return _noisy(X, rng, noise), Y


GENERATED: dict[str, Callable[..., Points]] = {"flower": flower, "moons": moons, "spirals": spirals}
"""Every generated data set by its name."""
