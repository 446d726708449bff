"""Calls on two streams: one has the longest chain of calls that wait for each other, the other all the rest."""

from collections.abc import Sequence
from typing import NamedTuple


class Plan(NamedTuple):
    """Where each call runs, and the events between the streams.

    Attributes
    ----------
    beside : tuple of bool
        Whether each call is on the second stream.
    waits : tuple of (int or None)
        The call of the other stream that each one waits for. Those before it there are done, too.
    """

    beside: tuple[bool, ...]
    waits: tuple[int | None, ...]

    @property
    def awaited(self) -> frozenset[int]:
        """The calls after which an event is recorded."""
        return frozenset(x for x in self.waits if x is not None)


def planned(after: Sequence[frozenset[int]], weights: Sequence[float] | None = None) -> Plan:
    """Return how calls run on two streams.

    Parameters
    ----------
    after : sequence of frozenset
        Of each call, those before it that it must wait for.
    weights : sequence of float, optional
        Roughly how long each call takes; default: all the same.

    Examples
    --------
    Call 1 is a dW, which only the optimizer (call 3) reads; call 2 is the dA beside it.

    >>> planned([frozenset(), frozenset({0}), frozenset({0}), frozenset({1, 2})], [1, 1, 2, 1])
    Plan(beside=(False, True, False, False), waits=(None, 0, None, 1))
    """
    chain = longest_chain(after, weights or [1.0] * len(after))
    beside = tuple(k not in chain for k in range(len(after)))
    waits: list[int | None] = []
    seen = {False: -1, True: -1}  # of each stream, the last call of the other one that it has waited for
    for k, calls in enumerate(after):
        last = max((other for other in calls if beside[other] != beside[k]), default=-1)
        waits.append(last if last > seen[beside[k]] else None)
        seen[beside[k]] = max(seen[beside[k]], last)
    return Plan(beside, tuple(waits))


def longest_chain(after: Sequence[frozenset[int]], weights: Sequence[float]) -> frozenset[int]:
    """Return the calls of the chain that takes longest, each of which waits for the one before it.

    Examples
    --------
    >>> sorted(longest_chain([frozenset(), frozenset({0}), frozenset(), frozenset({1, 2})], [1, 1, 1, 1]))
    [0, 1, 3]
    """
    times: list[float] = []
    before: list[int | None] = []
    for calls, weight in zip(after, weights, strict=True):
        last = max(calls, key=lambda k: times[k], default=None)
        before.append(last)
        times.append(weight + (0.0 if last is None else times[last]))
    at = max(range(len(times)), key=lambda k: times[k], default=None)
    found = set()
    while at is not None:
        found.add(at)
        at = before[at]
    return frozenset(found)
