"""The costs of steps and their weights as Python's numbers, and their mean."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from nnx.errors import BackendError
from nnx.port.base import Backend


class EpochCosts:
    """The costs of an epoch's steps so far. They stay on the device until they are read, many at once.

    Attributes
    ----------
    total, weight : float
        The sums of w J and w over the steps whose costs are read.
    last : (int, float) or None
        The last of these steps with a finite cost, from 1, and that cost.
    bad : (int, float) or None
        The first step with another cost, and that cost.
    samples : int
        The samples of all steps, whether their costs are read or not.
    unread : list
        (first, Js, weights) of each call of the program: its first step, from 1, and each step's cost and weight.
    """

    def __init__(
        self, total: float = 0.0, weight: float = 0.0, last: tuple[int, float] | None = None, samples: int = 0
    ) -> None:
        self.total, self.weight, self.last, self.samples = total, weight, last, samples
        self.bad: tuple[int, float] | None = None
        self.unread: list[tuple[int, Any, Sequence[Any]]] = []

    def add(self, first: int, Js: Any, weights: Sequence[Any], samples: int) -> None:
        """Add the steps of a call. To read their costs may wait for them."""
        self.samples += samples  # before the call, behind which Python looks for an interrupt
        self.unread.append((first, Js, weights))

    def read(self, backend: Backend) -> None:
        """Read the costs and weights of all calls since the last read; if this is interrupted, none of them is read."""
        unread = self.unread
        total, weight, last, bad = self.total, self.weight, self.last, self.bad
        for first, Js, weights in unread:
            Js, weights = costs(backend, Js, len(weights)), numbers(backend, weights)
            total, weight = added((total, weight), Js, weights)
            if math.isfinite(total + weight):  # one look tells of all
                last = first + len(Js) - 1, Js[-1]
                continue
            for step, (J, w) in enumerate(zip(Js, weights, strict=True), first):
                if not (math.isfinite(J) and math.isfinite(w)):
                    bad = bad or (step, J)
                elif bad is None:
                    last = step, J
        # Between statements without a call Python looks for no interrupt.
        self.total, self.weight, self.last, self.bad = total, weight, last, bad
        del unread[:]


def number(backend: Backend, x: Any) -> float:
    """Return a number that may be on the device, or is still to be taken from an array there."""
    x = x() if callable(x) else x
    return float(x if isinstance(x, float | int) else backend.to_numpy(x))


def numbers(backend: Backend, xs: Sequence[Any]) -> Sequence[float]:
    """Return the weights of steps as Python's numbers; without weights of samples they are numbers already."""
    return xs if isinstance(xs[0], float) else [number(backend, x) for x in xs]


def costs(backend: Backend, Js: Any, count: int) -> list[float]:
    """Return the costs of so many steps as Python's numbers. Reading them waits for the steps.

    Parameters
    ----------
    backend : Backend
    Js : array or list
        What `nnx.port.program.Program.run` returned, or the numbers themselves.
    count : int
    """
    found: list[float]
    if not isinstance(Js, list):
        found = backend.to_numpy(Js)[:count].tolist()
    else:
        found = Js if Js and type(Js[0]) is float else [number(backend, J) for J in Js]
    if len(found) < count:
        raise BackendError(f"{count} steps on {backend} gave {len(found)} costs")
    return found


def added(sums: tuple[Any, Any], costs: Iterable[Any], weights: Iterable[Any]) -> tuple[Any, Any]:
    """Return the sums of w J and w with these steps added one by one: the rounding depends on no number of reads.

    The costs and weights of a step are numbers, or arrays with one for each row of a stack.
    """
    total, weight = sums
    for J, w in zip(costs, weights, strict=True):
        total = total + J * w
        weight = weight + w
    return total, weight


def mean(total: float, weight: float) -> float:
    """Return the mean cost; 0 where no step has a weight."""
    return total / weight if weight > 0 else 0.0
