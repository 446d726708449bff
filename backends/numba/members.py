"""A stack of networks on the cores: each core does all steps of one member, in its own cache, then those of the next.

A member runs the compiled step of a single network, with one thread. So its numbers are those of its single run, bit
for bit if that has one thread, too.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from nnx.array.namespace import Array
from nnx.backends.numba.threads import run_in_threads, threads
from nnx.backends.numpy.calls import aligned
from nnx.compiler.thresholds import SINGLE_THREAD_SECONDS

NO_BARRIERS = np.zeros(8, np.int64)


class Segment(NamedTuple):
    """Steps of one size that each member does before those of the next segment.

    Attributes
    ----------
    function : callable
        The compiled step.
    tables : list of dict
        Its tables, for each thread: see `copies`.
    places : tuple of int
        count, at, m: see `nnx.port.program.Program.run`.
    Js : array (K, count)
    seconds : float
        About what a step takes on one core.
    """

    function: Callable[..., None]
    tables: list[dict[str, Any]]
    places: tuple[int, int, int]
    Js: Array
    seconds: float


def run_members(
    segments: Sequence[Segment], live: Sequence[int], samples_of: Callable[[int], tuple[Array, ...]],
    first: Sequence[Array], later: Sequence[Array],
) -> None:  # fmt: skip
    """Do the segments of each of the members in the rows `live`.

    `samples_of` returns a member's order, X^T in rows, and its samples. The other arguments of the step, of all
    members, are `first` in the first segment, and `later` in the others, which go on in place.
    """
    states = [
        dict(zip(live, zip(*(of_members(x, live) for x in arrays), strict=True), strict=True))
        for arrays in (first, later)
    ]

    def member(k: int, call: Callable[..., None]) -> None:
        order, rows, *samples = samples_of(k)
        for segment, state in zip(segments, [states[0], *[states[1]] * (len(segments) - 1)], strict=True):
            call(segment, *segment.places, order, segment.Js[k], rows, *samples, *state[k])

    def work(t: int, T: int, sync: Array) -> None:
        def alone(segment: Segment, *arguments: Any) -> None:
            segment.function(0, 1, NO_BARRIERS, *arguments, *segment.tables[t].values())

        while (k := next(places, -1)) >= 0 and not sync[0]:  # which a failure of another thread sets
            member(k, alone)

    def together(segment: Segment, *arguments: Any) -> None:
        run_in_threads(segment.function, segment.seconds, *arguments, *segment.tables[0].values())

    n = len(live) - with_all_threads(len(live), threads(), segments[0].seconds)
    places = iter(live[:n])
    run_in_threads(work, n * sum(segment.seconds * segment.places[0] for segment in segments))
    for k in live[n:]:
        member(k, together)


def with_all_threads(n: int, T: int, seconds: float) -> int:
    """Return how many of n members all T threads do together, one after the other; a step takes `seconds`.

    Those are the members behind the last round of T, if they would be work for at most half of the threads.

    Examples
    --------
    >>> [with_all_threads(n, 4, 1e-3) for n in range(1, 9)]
    [1, 2, 0, 0, 1, 2, 0, 0]
    """
    rest = n % T
    return rest if 2 * rest <= T and seconds > SINGLE_THREAD_SECONDS else 0


def of_members(x: Array, live: Sequence[int]) -> list[Array]:
    """Return `of_member(x, k)` for each of these members k."""
    own = live if x.shape[0] > 1 else [0] * len(live)
    return [x[k, 0, ...] for k in own] if x.shape[1:] == (1,) else [x[k] for k in own]


def copies(tables: dict[str, Any], T: int) -> list[dict[str, Any]]:
    """Return the tables of a compiled step for each of T threads: the memory that it writes is a thread's own."""
    read_only = {name for name in tables if name == "D" or name.startswith(("C_", "scalars_", "f"))}
    own = ({name: x if name in read_only else _like(x) for name, x in tables.items()} for _ in range(T - 1))
    return [tables, *own]


def _like(x: Any) -> Any:
    return aligned(x.nbytes).view(x.dtype).reshape(x.shape) if x.size else np.empty_like(x)
