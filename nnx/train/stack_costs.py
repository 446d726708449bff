"""The costs of an epoch's steps of a stack, of each of its rows."""

import math
from collections.abc import Sequence
from typing import Any

from nnx.array import host
from nnx.array.namespace import array_namespace
from nnx.port.base import Backend
from nnx.train.costs import EpochCosts, added


class StackCosts:
    """The costs of an epoch's steps so far, of each row of a stack; they stay on the device until they are read.

    Parameters
    ----------
    before : sequence of EpochCosts
        Of each row, the steps of the epoch that an earlier fit did; empty: none.

    Attributes
    ----------
    total, weight : array (rows,) or float
        The sums of w J and w over the steps whose costs are read.
    samples : int
    parts : list of (int, array (count, rows))
        The costs of each call that are read: its first step, from 1, and the cost of each row.
    unread : list
        (first, Js, weights) of each call of the program.
    """

    def __init__(self, before: Sequence[EpochCosts] = ()) -> None:
        self.total: Any = host.stacked([own.total for own in before]) if before else 0.0
        self.weight: Any = host.stacked([own.weight for own in before]) if before else 0.0
        self.samples = max((own.samples for own in before), default=0)
        self.parts: list[tuple[int, Any]] = []
        self.unread: list[tuple[int, Any, Sequence[Any]]] = []
        self._before = before

    def add(self, first: int, Js: Any, weights: Sequence[Any], samples: int) -> None:
        """Add the steps of a call. To read their costs may wait for them."""
        self.samples += samples
        self.unread.append((first, Js, weights))

    def read(self, backend: Backend) -> None:
        """Read the costs and weights of all calls since the last read; if this is interrupted, none of them is read."""
        sums, parts = (self.total, self.weight), [*self.parts]
        for first, Js, weights in self.unread:
            found = costs_of(backend, Js, len(weights))
            sums = added(sums, found, weights_of(backend, weights))
            parts.append((first, found))
        (self.total, self.weight), self.parts = sums, parts
        del self.unread[:]

    @property
    def losses(self) -> Any:
        """The mean cost (rows,) of the steps that are read."""
        return means(self.total, self.weight)

    @property
    def bad(self) -> list[int]:
        """The rows of which a cost that is read is not finite."""
        if isinstance(self.total, float):  # none is read
            return []
        return [row for row, total in enumerate(self.total.tolist()) if not math.isfinite(total)]

    def of_row(self, row: int) -> EpochCosts:
        """Return the costs of one row that are read."""
        last = self._before[row].last if self._before else None
        found = EpochCosts(_of_row(self.total, row), _of_row(self.weight, row), last, self.samples)
        parts = self.parts[-1:] if math.isfinite(found.total) else self.parts  # one look tells of all
        for first, part in parts:
            for step, J in enumerate(part[:, row].tolist(), first):
                if not math.isfinite(J):
                    found.bad = step, J
                    return found
                found.last = step, J
        return found


def costs_of(backend: Backend, Js: Any, count: int) -> Any:
    """Return the costs (count, rows) in float64, on the host."""
    if isinstance(Js, list):
        return host.as_dtype(host.stacked([backend.to_numpy(J) for J in Js]), "float64")
    return host.as_dtype(backend.to_numpy(Js)[:count], "float64")


def weights_of(backend: Backend, weights: Sequence[Any]) -> list[Any]:
    """Return the weights of steps, each a number or (rows,) in float64, on the host."""
    return [w if isinstance(w, float) else host.as_dtype(backend.to_numpy(w), "float64") for w in weights]


def means(total: Any, weight: Any) -> Any:
    """Return each row's mean cost (..., rows); 0 where no step has a weight."""
    xp = array_namespace(total)
    some = xp.asarray(weight > 0)
    return xp.where(some, total / xp.where(some, weight, 1.0), 0.0)


def _of_row(sums: Any, row: int) -> float:
    return float(sums if isinstance(sums, float) or not sums.ndim else sums[row])
