"""The steps of an epoch: which samples each takes, and how many steps one call of the program does."""

import time
from bisect import bisect_left
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from functools import partial
from typing import Any, NamedTuple

from nnx.array.namespace import array_namespace
from nnx.batches import Batches, Counted, Provider
from nnx.batches.shares import RankIterated
from nnx.errors import InputError
from nnx.model.network import Network
from nnx.optimizers import State
from nnx.port.agreement import of_first
from nnx.train.costs import EpochCosts, costs, number
from nnx.train.session import Session
from nnx.train.share import Share, of_all_ranks
from nnx.train.step import Batch, Sums

SECONDS_PER_CALL = 0.5
"""About the seconds of steps in one call of the program: an interrupt, or a progress bar, waits no longer."""

MAX_STEPS_PER_CALL = 4096
"""Steps in one call of the program, at most."""

MAX_PLACES_PER_CALL = 1 << 18
"""Places in the orders of several epochs in one call, at most: they stay in the cache."""


class Done(NamedTuple):
    """Steps that one call of the program did, often one."""

    Js: Any
    """The cost of each, as `nnx.port.program.Program.run` returns them."""
    samples: int
    """The number of samples of all steps; 0 stands for one step that is left out: its batch cannot be trained on."""
    weights: Sequence[Any]
    """Of each step, the sum of its samples' weights."""
    batch: Callable[[], Batch]
    """Returns the batch of the first step, or its last micro-batch."""
    sums: Sums | None
    """The sums over the micro-batches of a step; None: the batch was computed as a whole."""


def _no_batch() -> Batch:
    raise AssertionError("a batch that is left out has no gradient")


LEFT_OUT = Done([], 0, [], _no_batch, None)
"""The step of a batch that cannot be trained on: nothing changes, and nothing is counted."""


class Steps:
    """Does the steps of epochs.

    Parameters
    ----------
    session : Session
    batches : Batches, Stream or Iterated
    one_by_one : bool
        Whether a callback must see each step. Then a call does one step, and does not wait for a GPU.

    Attributes
    ----------
    least : int
        As of `least_samples`.
    pace : float
        Seconds of a step in the last call; 0: not known.
    """

    def __init__(self, session: Session, batches: Provider, one_by_one: bool) -> None:
        self.session, self.batches, self.one_by_one = session, batches, one_by_one
        self._in_memory = batches if isinstance(batches, Batches) and batches.micro_batch is None else None
        self.least = least_samples(session.network)
        self.pace = 0.0

    def epoch(self, skip: int, found: EpochCosts, one_by_one: bool = False) -> Generator[Done, None, None]:
        """Do an epoch's steps without the first `skip`; yield after each call of the program.

        Add the costs of a call to `found` as soon as it returns: to read them may take long, and may be interrupted.
        """
        if self._in_memory is not None:
            return self._whole_batches(self._in_memory, skip, found, one_by_one or self.one_by_one)
        return self._micro_batches(skip, found)

    def _whole_batches(
        self, batches: Batches, skip: int, found: EpochCosts, one_by_one: bool
    ) -> Generator[Done, None, None]:
        order, step, steps = batches.order(), skip, batches.steps
        full = batches.m // batches.batch_size  # steps of batch_size samples
        left_out = batches.idle(order)
        if batches.size(-1) < self.least and steps - 1 not in left_out[-1:]:
            left_out.append(steps - 1)
        while step < steps:
            m, ahead = (batches.batch_size, full - step) if step < full else (batches.size(-1), 1)
            if left_out and (at := bisect_left(left_out, step)) < len(left_out):
                ahead = min(ahead, left_out[at] - step)
            if not ahead:
                yield LEFT_OUT
                step += 1
                continue
            count = 1
            if self.pace and not one_by_one:
                count = max(1, min(ahead, MAX_STEPS_PER_CALL, int(SECONDS_PER_CALL / self.pace)))
            weights, start = batches.weights(order, step, m, count), time.perf_counter()
            Js = self.session.run(*batches.taken(order, step, m), count)
            found.add(step + 1, Js, weights, m * count)
            if not self.one_by_one:  # reading waits for the steps, and so tells their pace
                found.read(self.session.backend)
                self.pace = self._agreed((time.perf_counter() - start) / count)
            yield Done(Js, m * count, weights, partial(batches.batch, order, step), None)
            step += count

    def _micro_batches(self, skip: int, found: EpochCosts) -> Generator[Done, None, None]:
        session, batches, step = self.session, self.batches, skip
        sums: Sums = {}
        samples = 0
        with closing(batches.epoch(skip)) as pieces:
            for batch, start, ends in pieces:
                m = batch[0].shape[-1]
                step += ends
                if start == 0 and ends and m >= self.least and session.share is None:
                    w = batch[2]
                    weights = [float(m) if w is None else array_namespace(w).sum(w, axis=-1)]
                    Js = session.run(batch, None, 0, m, 1)
                    found.add(step, Js, weights, m)
                    yield Done(Js, m, weights, partial(tuple, batch), None)
                    continue
                samples, sums = (m, {}) if start == 0 else (samples + m, sums)
                if m and self.least == 1:
                    place = start + batches.ahead if isinstance(batches, RankIterated) else start
                    sums = add_micro_batch(session, session.read(), sums, batch, place)
                if ends and session.share is not None:
                    sums = self._of_all_ranks(sums, session.share)
                    samples = self._samples(found.samples)
                if ends and not sums:
                    yield LEFT_OUT
                elif ends:
                    after, J = session.micro_batches.update(session.read(), sums)
                    session.load(after)
                    found.add(step, [J], [sums["weight"]], samples)
                    yield Done([J], samples, [sums["weight"]], partial(tuple, batch), sums)

    def _of_all_ranks(self, sums: Sums, share: Share) -> Sums:
        """Return the sums of a step over the samples of all ranks; empty where all of these weigh 0.

        Empty sums are those of a rank without samples.
        """
        session = self.session
        if not sums:
            theta = session.read("theta")["theta"]
            zeros, zero = (array_namespace(theta).zeros_like(x) for x in (theta, theta[0]))
            sums = {"J": zero, "dtheta": zeros, "weight": zero}
        sums = of_all_ranks(sums, share.communicator)
        return sums if number(session.backend, sums["weight"]) > 0 else {}

    def _samples(self, before: int) -> int:
        """Return the samples of all ranks in a step, behind so many in its epoch."""
        batches = self.batches
        if isinstance(batches, RankIterated):
            return batches.samples
        assert isinstance(batches, Counted)
        return min(batches.batch_size, batches.m - before)

    def _agreed(self, pace: float) -> float:
        """Return the pace of rank 0: all ranks then do the same number of steps in a call."""
        return float(of_first(self.session.communicator, pace))

    def epochs_per_call(self, uneven: bool = False) -> int:
        """Return how many epochs one call may do at most; 0 where an epoch has a batch that must be left out.

        `uneven`: also epochs whose last batch is smaller.
        """
        batches = self._in_memory
        uneven = uneven and batches is not None and batches.size(-1) >= self.least
        if batches is None or not self.pace or not (batches.even or uneven):
            return 0
        epochs = int(min(MAX_STEPS_PER_CALL, SECONDS_PER_CALL / self.pace)) // batches.steps
        return min(epochs, MAX_PLACES_PER_CALL // batches.m) if batches.draws else epochs

    def whole_epochs(self, epochs: int) -> tuple[list[float], list[Any]]:
        """Do so many epochs in one call; return the cost and the weight of each step."""
        batches = self._in_memory
        assert batches is not None  # epochs_per_call has looked at it
        size, steps, order = batches.batch_size, batches.steps, batches.order(epochs)
        start, count = time.perf_counter(), epochs * steps
        Js = costs(self.session.backend, self.session.run(*batches.taken(order, 0, size), count), count)
        self.pace = self._agreed((time.perf_counter() - start) / count)
        drawn = 1 if order is None else epochs  # in order, each epoch's weights are those of the first
        weights = batches.weights(order, 0, size, drawn * steps)
        return Js, [*weights] * (epochs // drawn)


def least_samples(network: Network) -> int:
    """Return how many samples a batch must have to be trained on: BatchNorm needs the variance of two."""
    return 2 if network.whole_batches else 1


def add_micro_batch(session: Session, state: State, sums: Sums, batch: Batch, start: int) -> Sums:
    """Return the sums over a step's micro-batches with this one; empty sums begin with it."""
    place = session.backend.asarray(start, "int32")
    if not sums:
        return session.micro_batches.first(state, batch, place)
    return session.micro_batches.add(state, sums, batch, place)


def nothing_to_train_on(when: str, least: int = 1) -> InputError:
    """Return the error for an epoch in which no batch could be trained on; `when` says which."""
    why = "the weights of all samples are 0"
    if least > 1:
        why += ", or each batch has a single sample, on which BatchNorm cannot train"
    return InputError(
        f"there was nothing to train on {when}: {why}. Expected some samples that weigh more than 0"
    )
