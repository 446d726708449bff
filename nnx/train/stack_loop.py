"""The fit loop of a stack: members share their steps, and each has its history, its callbacks and its end."""

import math
import time
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from typing import Any

from nnx.array import host
from nnx.batches.members import MemberBatches
from nnx.callbacks.base import Callbacks
from nnx.callbacks.progress import Progress
from nnx.errors import DivergenceError
from nnx.port.base import Backend
from nnx.support.blas_threads import leave_interrupted
from nnx.train.costs import EpochCosts
from nnx.train.divergence import diverged
from nnx.train.evaluation import scores
from nnx.train.stack import Stack
from nnx.train.steps import Steps, nothing_to_train_on


class StackCosts:
    """The costs of an epoch's steps so far, of each row of a stack; they stay on the device until they are read.

    Attributes
    ----------
    total, weight : array (rows,)
        The sums of w J and w over the steps whose costs are read.
    costs : list of array (count, rows)
        All costs that are read.
    samples : int
    unread : list
        (first, Js, weights) of each call of the program.
    """

    def __init__(self) -> None:
        self.total: Any = 0.0
        self.weight: Any = 0.0
        self.samples = 0
        self.costs: list[Any] = []
        self.unread: list[tuple[int, Any, Sequence[Any]]] = []

    def add(self, first: int, Js: Any, weights: Sequence[Any], samples: int) -> None:
        """Add the steps of a call. To read their costs may wait for them."""
        self.samples += samples
        self.unread.append((first, Js, weights))

    def read(self, backend: Backend) -> None:
        """Read the costs and weights of all calls since the last read."""
        for _, Js, weights in self.unread:
            found = costs_of(backend, Js, len(weights))
            self.costs.append(found)
            self.total, self.weight = added((self.total, self.weight), found, weights_of(backend, weights))
        del self.unread[:]

    def of_row(self, row: int, samples: int) -> EpochCosts:
        """Return the costs of one row."""
        found = EpochCosts(samples=samples)
        column = [J for part in self.costs for J in part[:, row].tolist()]
        bad = next((k for k, J in enumerate(column) if not math.isfinite(J)), None)
        if bad is not None:
            found.bad, column = (bad + 1, column[bad]), column[:bad]
        found.last = (len(column), column[-1]) if column else None
        return found


def costs_of(backend: Backend, Js: Any, count: int) -> Any:
    """Return the costs (count, rows) in float64, on the host."""
    if isinstance(Js, list):
        return host.as_dtype(host.stacked([backend.to_numpy(J) for J in Js]), "float64")
    return host.as_dtype(backend.to_numpy(Js)[:count], "float64")


def weights_of(backend: Backend, weights: Sequence[Any]) -> list[Any]:
    """Return the weights of steps, each a number or (rows,) in float64, on the host."""
    return [w if isinstance(w, float) else host.as_dtype(backend.to_numpy(w), "float64") for w in weights]


def added(sums: tuple[Any, Any], costs: Any, weights: Sequence[Any]) -> tuple[Any, Any]:
    """Return the sums of w J and w with these steps added one by one, as those of a single network are."""
    total, weight = sums
    for J, w in zip(costs, weights, strict=True):
        total = total + J * w
        weight = weight + w
    return total, weight


class StackLoop:
    """One fit of a stack.

    Parameters
    ----------
    stack : Stack
    batches : MemberBatches
    epochs : int
    callbacks : sequence of K Callbacks
        Each member's own, whose trainer is that member.
    shared : Callbacks
        They see the means over the members that are left.
    validation, training, metrics
        As of `FitLoop`.

    Attributes
    ----------
    errors : dict of int to DivergenceError
        Why a member ended that has diverged. It has the state before that epoch.
    """

    def __init__(
        self,
        stack: Stack,
        batches: MemberBatches,
        epochs: int,
        callbacks: Sequence[Callbacks],
        shared: Callbacks,
        validation: Any = None,
        training: Any = None,
        metrics: Any = (),
    ) -> None:
        self.stack, self.batches, self.epochs = stack, batches, epochs
        self.callbacks, self.shared, self._all = callbacks, shared, [*callbacks, shared]
        self.validation, self.training, self.metrics = validation, training, metrics
        self.steps = Steps(stack, batches, shared.each_step)  # type: ignore[arg-type]  # of a session it needs less
        self.epoch = 1
        self.errors: dict[int, DivergenceError] = {}
        self._done = [session.steps for session in stack.sessions]  # before this fit
        self._several_per_call = validation is None and training is None
        self._several_per_call &= not any(one.each_epoch or one.each_step for one in self._all)

    def go_on(self, epoch: int) -> None:
        """Begin with this epoch: all members have done those before it in this fit."""
        self.epoch = epoch
        self._done = [session.steps - (epoch - 1) * self.batches.steps for session in self.stack.sessions]

    def run(self) -> None:
        """Do the fit. The members then have their states, and the stack none."""
        stack = self.stack
        stack.enter()
        self.batches.rows = stack.rows
        try:
            for some in self._all:
                some.call("on_fit_start", self.epochs)
            self._leave(k for k in stack.rows if stack.sessions[k].stopped is not None)
            while self.epoch <= self.epochs and any(k >= 0 for k in stack.rows):
                epochs = 0
                if self._several_per_call:
                    epochs = min(self.steps.epochs_per_call(), self.epochs - self.epoch + 1)
                self._do(max(epochs, 1))
        except BaseException:
            leave_interrupted()
            raise
        finally:
            stack.leave(*(k for k in stack.rows if k >= 0))
            for some in self._all:
                some.end()

    def _do(self, epochs: int) -> None:
        """Do so many epochs in one call, or one; all of them or none."""
        stack = self.stack
        sessions = [stack.sessions[k] for k in stack.rows if k >= 0]
        stack.program.snapshot()
        drawn = [session.rng.bit_generator.state for session in sessions]
        start = time.perf_counter()
        try:
            found = self._several(epochs) if epochs > 1 else self._one()
            seconds = (time.perf_counter() - start) / epochs
            bad = self._bad(found)
            if bad and epochs > 1:  # one by one, to find the epoch
                self._several_per_call = False
                self._back(range(len(stack.rows)), sessions, drawn)
                return
        except BaseException:
            self._back(range(len(stack.rows)), sessions, drawn)
            raise
        for row in bad:
            k = stack.rows[row]
            session, costs = stack.sessions[k], found[-1].of_row(row, found[-1].samples)
            self.errors[k] = diverged(session, costs, None, self._done[k])
            session.rng.bit_generator.state = drawn[sessions.index(session)]
        if bad:
            stack.rollback(*bad)
            stack.leave(*(stack.rows[row] for row in bad))  # the others stay in their rows, as the costs are
        self._record(found, seconds)

    def _one(self) -> list[StackCosts]:
        costs = StackCosts()
        with closing(self.steps.epoch(0, costs)) as steps:  # type: ignore[arg-type]
            for step, done in enumerate(steps, 1):
                if done.samples and self.shared.on_steps:
                    self.shared.call("on_step", self._shared_progress(step, costs, None, 0.0))
        costs.read(self.stack.backend)
        if not costs.samples:
            raise nothing_to_train_on(f"in epoch {self.epoch}", self.steps.least)
        return [costs]

    def _several(self, epochs: int) -> list[StackCosts]:
        """Do so many epochs in one call; return the costs of each."""
        batches, stack, found = self.batches, self.stack, []
        size, steps, order = batches.batch_size, batches.steps, batches.order(epochs)
        start, count = time.perf_counter(), epochs * steps
        Js = costs_of(stack.backend, stack.run(batches.data, order, 0, size, count), count)
        self.steps.pace = (time.perf_counter() - start) / count
        drawn = 1 if order is None else epochs
        weights = weights_of(stack.backend, batches.weights(order, 0, size, drawn * steps)) * (
            epochs // drawn
        )
        for first in range(0, count, steps):
            costs, place = StackCosts(), slice(first, first + steps)
            costs.total, costs.weight = added((0.0, 0.0), Js[place], weights[place])
            costs.costs, costs.samples = [Js[place]], batches.m
            found.append(costs)
        return found

    def _bad(self, found: Sequence[StackCosts]) -> list[int]:
        """Return the rows of members that are left whose costs or states are not finite."""
        live = [row for row, k in enumerate(self.stack.rows) if k >= 0]
        bad = {row for costs in found for row in live if not math.isfinite(costs.total[row])}
        if not self.stack.program.finite:
            bad |= {row for row in live if not self.stack.sessions[self.stack.rows[row]].finite}
        return sorted(bad)

    def _back(self, rows: Any, sessions: Sequence[Any], drawn: Sequence[Any]) -> None:
        self.stack.rollback(*rows)
        for session, state in zip(sessions, drawn, strict=True):
            session.rng.bit_generator.state = state

    def _record(self, found: Sequence[StackCosts], seconds: float) -> None:
        """Add the epochs' records to those of each member, and tell its callbacks."""
        stack, batches = self.stack, self.batches
        found_scores: dict[str, Any] = {}
        if self.validation is not None or self.training is not None:
            found_scores = scores(
                stack, self.validation, self.training, self.metrics
            )  # in such a fit: one epoch
        for costs in found:
            for row, k in enumerate(stack.rows):
                if k < 0:
                    continue
                weight = costs.weight if isinstance(costs.weight, float) else costs.weight[row]
                measured: dict[str, Any] = {"loss": float(costs.total[row] / weight) if weight > 0 else 0.0}
                stack.sessions[k].records.append(
                    measured | {name: x[row] for name, x in found_scores.items()}
                )
            self.epoch += 1
        for row, k in enumerate([*stack.rows]):
            if k < 0 or not self.callbacks[k]:
                continue
            session = stack.sessions[k]
            now = Progress(
                self.epoch - 1, self.epochs, batches.steps, batches.steps, batches.m, seconds, session.records[-1],
                self._done[k] + (self.epoch - 1) * batches.steps, partial(_last_cost, found[-1], row),
            )  # fmt: skip
            self.callbacks[k].call("on_epoch", now)
        live = [stack.sessions[k].records[-1] for k in stack.rows if k >= 0]
        if self.shared and live:
            numbers = {name for name, x in live[0].items() if isinstance(x, float)}
            means = {name: sum(own[name] for own in live) / len(live) for name in live[0] if name in numbers}
            now = self._shared_progress(batches.steps, found[-1], means, seconds, self.epoch - 1)
            self.shared.call("on_epoch", now)
        self._leave(k for k in stack.rows if k >= 0 and stack.sessions[k].stopped is not None)

    def _shared_progress(
        self, step: int, costs: StackCosts, measured: Any, seconds: float, epoch: int | None = None
    ) -> Progress:
        epoch, steps = epoch or self.epoch, self.batches.steps
        done = max(self._done) + (epoch - 1) * steps + step
        return Progress(
            epoch, self.epochs, step, steps, costs.samples, seconds, measured, done,
            partial(_mean_last_cost, self.stack.backend, costs),
        )  # fmt: skip

    def _leave(self, gone: Any) -> None:
        self.stack.leave(*gone)
        if (rows := self.stack.compact()) is not None:
            self.batches.keep(rows, self.stack.rows)


def _last_cost(costs: StackCosts, row: int) -> float:
    return float(costs.costs[-1][-1, row])


def _mean_last_cost(backend: Backend, costs: StackCosts) -> float:
    costs.read(backend)
    return float(costs.costs[-1][-1].mean())
