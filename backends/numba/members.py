"""A stack of networks on the cores: each core does all steps of one member, in its own cache, then those of the next.

A member runs the compiled step of a single network, with one thread. So its numbers are those of its single run, bit
for bit if that has one thread, too.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from nnx.array.namespace import Array
from nnx.backends.numba.threads import run_in_threads, threads
from nnx.backends.numpy.calls import aligned
from nnx.compiler.thresholds import SINGLE_THREAD_SECONDS

NO_BARRIERS = np.zeros(8, np.int64)


Segment: TypeAlias = tuple[Any, tuple[int, int, int], Array]
"""A `CompiledStep`, (count, at, m) as of `nnx.port.program.Program.run`, and Js (K, count)."""


def run_members(
    segments: Sequence[Segment], live: Sequence[int], samples_of: Callable[[int], tuple[Array, ...]],
    first: Sequence[Array], later: Sequence[Array],
) -> None:  # fmt: skip
    """Do the segments of each of the members in the rows `live`, one behind the other.

    `samples_of` returns a member's order, X^T in rows, and its samples. The other arguments of the step, of all
    members, are `first` in the first segment, and `later` in the others, which go on in place.
    """
    states = [[*zip(*(of_members(x, live) for x in arrays), strict=True)] for arrays in (first, later)]
    for step, _, _ in segments:
        if len(step.tables) < threads():
            step.tables = copies(step.tables[0], threads())

    def member(place: int, call: Callable[..., None]) -> None:
        order, rows, *samples = samples_of(k := live[place])
        for number, (step, places, Js) in enumerate(segments):
            call(step, *places, order, Js[k], rows, *samples, *states[number > 0][place])

    def work(t: int, T: int, sync: Array) -> None:
        def alone(step: Any, *arguments: Any) -> None:
            step.function(0, 1, NO_BARRIERS, *arguments, *step.tables[t].values())

        while (place := next(left, None)) is not None and not sync[0]:  # a failure of another thread sets it
            member(place, alone)

    def together(step: Any, *arguments: Any) -> None:
        run_in_threads(step.function, step.seconds, *arguments, *step.tables[0].values())

    side_by_side = len(live) - members_behind(len(live), threads(), segments[0][0].seconds)
    left = iter(range(side_by_side))
    run_in_threads(work, side_by_side * sum(step.seconds * count for step, (count, _, _), _ in segments))
    for place in range(side_by_side, len(live)):
        member(place, together)


def members_behind(n: int, T: int, seconds: float) -> int:
    """Return how many of n members are behind the last round of T threads, if they leave half of them idle or more.

    All threads do those together, one after the other; `seconds` of a step are worth it.
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
