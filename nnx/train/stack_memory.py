"""The memory of a stack, estimated before it is taken, and rounds of as many members as fit."""

from collections.abc import Callable
from contextlib import suppress
from math import prod
from typing import Any, NamedTuple

from nnx.array.namespace import Array
from nnx.batches import Provider
from nnx.batches.members import MemberBatches
from nnx.compiler import TraceError, step_graph, trace
from nnx.compiler.pipeline import Target, schedule
from nnx.errors import InputError, size
from nnx.support.limits import available, cores
from nnx.train.evaluation import MAX_NUMBERS
from nnx.train.session import Session
from nnx.train.step import Batch, training_step

STATES = 4
"""Copies of a member's state in a fit: the current one, a spare one, that of the snapshot, and one that is read."""

FILE_STATES = 4
"""Copies of a member's state while the model file is written: of all members, their bytes, the file's, and room for
what a fit and predictions have left."""

ORDERS = 3
"""Copies of the order in which a member takes its samples: as it is drawn, beside the others', and on the device."""

SESSION_BYTES = 30_000
"""Bytes on the host of a member that does not train, beside its state (CPython 3.11, 64 bits)."""

SMALL = 2**27
"""Bytes that a fit takes without a look at the free memory."""

USABLE = 0.9
"""The share of the free memory that a stack may take: its pieces do not fill it."""


class Need(NamedTuple):
    """The bytes of each member that trains, those that all share, and those that each member has taken already."""

    each: int
    shared: int
    taken: int = 0

    def fits(self, free: int) -> int:
        """Return how many members fit into free bytes."""
        return max(0, int(USABLE * free - self.shared) // max(1, self.each))


def room(K: int, need: Need, free: Callable[[], int | None]) -> int:
    """Return how many of K members fit into the free memory; K where they are small, or the system does not say.

    Examples
    --------
    >>> room(1_000, Need(10**6, 10**7), lambda: 2 * 10**8), room(100, Need(10**6, 10**7), lambda: 2 * 10**8)
    (170, 100)
    """
    if K * need.each + need.shared < SMALL or (left := free()) is None:
        return K
    return min(K, need.fits(left))


def check_room(
    K: int, need: Need, free: Callable[[], int | None], advice: str, things: str = "members"
) -> None:
    """Raise an InputError unless K members, or other things, fit into the free memory; it says how many would."""
    if room(K, need, free) < K:
        whole, left = Need(need.each + need.taken, need.shared), (free() or 0) + K * need.taken
        most = whole.fits(left)
        raise InputError(
            f"{K:,} {things} take about {size(K * whole.each + whole.shared)} of memory; "
            f"{f'{most:,} fit' if most else 'not even one fits'} into {USABLE:.0%} of the {size(left)} that are "
            f"free{' or theirs' if need.taken else ''}. {advice}"
        )


def parts(K: int, most: int) -> list[range]:
    """Return the members of each round of at most so many, all rounds about as large.

    Examples
    --------
    >>> parts(10, 4), parts(3, 5)
    ([range(0, 3), range(3, 6), range(6, 10)], [range(0, 3)])
    """
    rounds = -(-K // max(1, most))
    return [range(K * i // rounds, K * (i + 1) // rounds) for i in range(rounds)]


def check_sessions(K: int, first: Session | None = None) -> None:
    """Raise an InputError if there is no room for K sessions, or for K states like that of the first one."""
    need, free = Need(SESSION_BYTES, 0), available
    if first is not None:
        need, free = Need(_bytes(first, _numbers(first.read())), 0), lambda: first.backend.memory().free
    check_room(K, need, free, "Give fewer members, as a fit takes more", "members, before they train,")


def needed(one: Session, K: int, batches: Provider, evaluated: int = 0) -> Need:
    """Return the bytes that a fit of members takes, beside their sessions and the samples.

    Parameters
    ----------
    one : Session
        A member; all others are like it.
    K : int
        The number of members.
    batches : Provider
        With those that are given, whose sizes are not known, a step counts as one of a sample.
    evaluated : int
        Samples of a validation.
    """
    network, state, m = one.network, one.read(), batches.at_once or 1
    gathered = m * (network.n[0] + network.n[-1] + 2)
    kept = 4 * m * sum(network.n) + 2 * network.P  # about what a step keeps, if that cannot be told exactly
    each = _bytes(
        one, STATES * _numbers(state) + network.P + gathered
    )  # P: the best that early stopping keeps
    taken = _bytes(one, _numbers(state))
    in_memory = batches if isinstance(batches, MemberBatches) else None
    if in_memory is not None and (in_memory.draws or in_memory.samples is not None):
        each += ORDERS * 8 * in_memory.m
    outputs = 3 * min(MAX_NUMBERS, K * network.widest * evaluated)
    if in_memory is None or K * (each + _bytes(one, kept)) < SMALL:  # it is not worth a trace
        return Need(each + _bytes(one, kept), _bytes(one, outputs), taken)
    buffers = _buffers(one, state, _batch(in_memory, m)) or _bytes(one, kept)
    buffers *= 1 if in_memory.even else 2  # the last batch's step is another one
    if one.forward.buffers_of_all:
        return Need(each + buffers, _bytes(one, outputs), taken)
    return Need(each, _bytes(one, outputs) + cores() * buffers, taken)


def _buffers(one: Session, state: dict[str, Array], batch: Batch) -> int:
    """Return the bytes of the buffers of a step of one member; 0 if it cannot be traced."""
    step = training_step(one.network, one.optimizer, one.regularization)
    try:
        traced = trace(step, state, batch)
    except Exception:  # tracing runs the user's code, which may raise anything
        return 0
    with suppress(TraceError):
        graph, slots = step_graph(traced)
        return sum(schedule(graph, Target(), slots).buffers)
    return 0


def _batch(batches: MemberBatches, m: int) -> Any:
    """Return m samples, and the weights of one member."""
    X, Y, w = (None if x is None else x[..., :m] for x in batches.data)
    return X, Y, w if w is None or w.ndim == 1 else w[0, ...]


def _numbers(state: dict[str, Array]) -> int:
    return sum(prod(x.shape) for x in state.values())


def _bytes(one: Session, numbers: int) -> int:
    return numbers * (8 if one.dtype == "float64" else 4)
