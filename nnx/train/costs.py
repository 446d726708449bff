"""The costs of steps and their weights as Python's numbers, and their mean."""

from collections.abc import Sequence
from typing import Any

from nnx.errors import BackendError
from nnx.port.base import Backend


def number(backend: Backend, x: Any) -> float:
    """Return a number that may be on the device, or is still to be taken from an array there."""
    x = x() if callable(x) else x
    return float(x if isinstance(x, float | int) else backend.to_numpy(x))


def numbers(backend: Backend, xs: Sequence[Any]) -> Sequence[float]:
    """Return the weights of steps, which are Python's numbers already where samples have none."""
    return xs if isinstance(xs[0], float) else [number(backend, x) for x in xs]


def costs(backend: Backend, Js: Any, count: int) -> list[float]:
    """Return the costs of so many steps: see `nnx.port.base.Steps`."""
    # Of thousands in an array, maybe, only those that mean something.
    many = not isinstance(Js, list)
    found = backend.to_numpy(Js)[:count].tolist() if many else [number(backend, J) for J in Js]
    if len(found) < count:
        raise BackendError(f"{count} steps on {backend} gave {len(found)} costs")
    return found


def added(sums: tuple[float, float], costs: Sequence[float], weights: Sequence[float]) -> tuple[float, float]:
    """Return the sums of w J and w over steps, with these; sum() would round according to how many are read at once."""
    total, weight = sums
    for J, w in zip(costs, weights, strict=True):
        total += J * w
        weight += w
    return total, weight


def mean(total: float, weight: float) -> float:
    """Return the mean cost; of steps without any weight 0."""
    return total / weight if weight > 0 else 0.0
