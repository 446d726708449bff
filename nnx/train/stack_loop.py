"""The fit loop of a stack: members share their steps, and each has its history, its callbacks and its end."""

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any

from nnx.array import host
from nnx.array.namespace import array_namespace
from nnx.callbacks.base import Callbacks
from nnx.callbacks.progress import Progress
from nnx.errors import Error
from nnx.metrics.history import columns_of_members, medians, middle
from nnx.support.blas_threads import leave_interrupted
from nnx.train.costs import added
from nnx.train.evaluation import scores
from nnx.train.loop import LOOK_EVERY
from nnx.train.member_fit import MemberFit
from nnx.train.stack import Stack
from nnx.train.stack_costs import StackCosts, costs_of, means, weights_of
from nnx.train.stack_position import StackPosition
from nnx.train.steps import Done, Steps, nothing_to_train_on

MAX_PLACES_PER_CALL = 2**23
"""Places of samples that the orders of all members in a call have at most, unless it is one epoch: 64 MB."""


class StackLoop(StackPosition):
    """One fit of a stack.

    Parameters
    ----------
    stack : Stack
    batches : MemberBatches, or Stream or Iterated whose batches are those of all members
    epochs : int
    callbacks : sequence of K Callbacks
        Each member's own, whose trainer is that member.
    shared : Callbacks
        They see the medians of the members, of those that have ended as they ended.
    validation, training, metrics, plan
        As of `FitLoop`.
    """

    def __init__(
        self,
        stack: Stack,
        batches: Any,
        epochs: int,
        callbacks: Sequence[Callbacks],
        shared: Callbacks,
        validation: Any = None,
        training: Any = None,
        metrics: Any = (),
        plan: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(stack, batches, validation, training)
        self.epochs = epochs
        self.callbacks, self.shared, self._all = callbacks, shared, [*callbacks, shared]
        self.metrics = metrics
        self._on_steps = any(one.on_steps for one in self._all)
        each_step = any(one.each_step for one in self._all)
        self.steps = Steps(stack, batches, each_step)  # type: ignore[arg-type]  # of a session it needs less
        self.members = [MemberFit(self, k, plan or {}) for k in range(len(stack.sessions))]
        self._several_per_call = validation is None and training is None and not each_step
        self._several_per_call &= not any(one.each_epoch for one in self._all)

    # --- the fit ---

    def run(self) -> None:
        """Do the fit. The members then have their states, and the stack none."""
        stack = self.stack
        for member in self.members:
            member.done = member.session.steps
        stack.enter()
        for batches in self._of_members():
            batches.rows = stack.rows
        try:
            for member in self.members:
                member.session.checkpoint = member.checkpoint
            for some in self._all:
                some.call("on_fit_start", self.epochs)
            self.resume_epoch()
            while self.epoch <= self.epochs and self._live:
                epochs = 0
                if self._several_per_call and not self.step:
                    epochs = self.steps.epochs_per_call(stack.runs_epochs)
                    epochs = min(epochs, self.epochs - self.epoch + 1)
                    epochs = min(epochs, MAX_PLACES_PER_CALL // (len(stack.rows) * (self.batches.m or 1)))
                if epochs < 2 or not self._epochs_in_one_call(epochs):
                    self._one_epoch()
        except BaseException as error:
            leave_interrupted()
            self._end(error)
            raise
        self._end(None)

    def _end(self, error: BaseException | None) -> None:
        """Give the members their states, and end all callbacks; the first error is the one that is raised."""
        self.stack.leave(*(k for _, k in self._live))
        errors = []
        for some in self._all:
            try:
                some.end()
            except Error as own:
                errors.append(own)
        if error is None and errors:
            raise errors[0]
        for later in errors if error is not None else ():
            error.add_note(f"Beside that: {later}")  # type: ignore[union-attr]  # it is there

    # --- epochs ---

    def _epochs_in_one_call(self, epochs: int) -> bool:
        """Do so many epochs in one call, all of them or none; return whether they are done.

        If a member diverges in one of them, all are as before, and the caller does them one by one to find that epoch.
        """
        self._note_random_numbers()
        self.stack.program.snapshot()
        start = time.perf_counter()
        try:
            losses, costs = self._several(epochs)
            good = not self._bad(costs)
            if good:
                self._taken = epochs * self.batches.steps
                records = {k: [{"loss": loss} for loss in losses[:, row].tolist()] for row, k in self._live}
                self._add_records(records)
        except BaseException:
            self.rollback_members()
            raise
        if good:
            self._end_epochs(records, costs, (time.perf_counter() - start) / epochs)
            return True
        self.rollback_members()
        self._several_per_call = False
        return False

    def _several(self, epochs: int) -> tuple[Any, StackCosts]:
        """Do so many epochs in one call; return the losses (epochs, rows), and the costs with the last one's."""
        batches, stack, found = self.batches, self.stack, StackCosts()
        steps, order = batches.steps, batches.order(epochs)
        start, count = time.perf_counter(), epochs * steps
        Js = stack.run_epochs(batches.data, order, batches.m, batches.batch_size, epochs)
        Js = costs_of(stack.backend, Js, count)
        self.steps.pace = (time.perf_counter() - start) / count
        drawn = 1 if order is None else epochs
        weights = host.stacked(weights_of(stack.backend, batches.weights_of_epochs(order, drawn)))
        # (steps, epochs, rows): step by step, of all epochs at once.
        each = [x.reshape(n, steps, -1).swapaxes(0, 1) for x, n in ((Js, epochs), (weights, drawn))]
        total, weight = added((0.0, 0.0), *array_namespace(Js).broadcast_arrays(*each))
        with host.quiet():
            found.total, found.weight = total.sum(axis=0), weight.sum(axis=0)
        found.parts, found.samples = [(1, Js[-steps:])], batches.m
        return means(total, weight), found

    def _one_epoch(self) -> None:
        """Do the rest of the epoch."""
        if not self.step:
            self._note_random_numbers()
        self.stack.program.snapshot()
        start = time.perf_counter()
        try:
            self._steps_of_epoch(start)
            seconds = time.perf_counter() - start
            self.diverge(self._bad(self.costs))
            measured = self._measured() if self._live else {}
            costs = {k: record.get("validation_loss", 0.0) for k, record in measured.items()}
            bad = {k: cost for k, cost in costs.items() if not math.isfinite(cost)}
            self.diverge([row for row, k in self._live if k in bad], bad)
            records = {k: [measured[k]] for _, k in self._live}
            self._add_records(records)
        except BaseException:
            self._stay_or_go_back()
            raise
        if records:
            self._end_epochs(records, self.costs, seconds)

    def _steps_of_epoch(self, start: float) -> None:
        """Do the remaining steps of the epoch."""
        costs, backend = self.costs, self.stack.backend
        for _, k in self._live if self.step else ():  # the epoch's order once more
            self.members[k].session.rng.bit_generator.state = self.members[k].drawn
        if self._epoch_in_one_call():
            return
        with closing(self.steps.epoch(self.step, costs)) as steps:  # type: ignore[arg-type]
            for done in steps:
                if not done.samples:
                    self.step += 1
                    continue
                count = len(done.weights)
                self.step, self._taken = self.step + count, self._taken + count
                if costs.unread and self.step + 1 - costs.unread[0][0] >= LOOK_EVERY:
                    costs.read(backend)
                if self._on_steps and not self._call_after_steps(start, done):
                    return
        costs.read(backend)
        if not costs.samples:
            raise nothing_to_train_on(f"in epoch {self.epoch}", self.steps.least)

    def _epoch_in_one_call(self) -> bool:
        """Do the epoch in one call where its last batch is smaller, if the program can; return whether it is done."""
        if self.step or self._on_steps or not self.steps.epochs_per_call(self.stack.runs_epochs):
            return False
        if self.batches.even:
            return False  # it is one call in any case
        _, self.costs = self._several(1)
        self.step = self._taken = self.batches.steps
        return True

    def _call_after_steps(self, start: float, done: Done) -> bool:
        """Call the callbacks; members that are stopped leave. Return whether some are left."""
        seconds, cost = time.perf_counter() - start, partial(_cost, self.stack.backend, done)
        place = self.epoch, self.epochs, self.step, self.batches.steps, self.costs.samples
        now, steps = partial(Progress, *place, seconds, None), self._done()
        for row, k in self._live:
            if self.callbacks[k].on_steps:
                self.callbacks[k].call("on_step", now(steps[k], partial(cost, [row])))
        if self.shared.on_steps:
            rows = [row for row, _ in self._live]
            self.shared.call("on_step", now(max(steps), partial(cost, rows)))
        stopped = [row for row, k in self._live if self.members[k].session.stopped is not None]
        if stopped:
            self.costs.read(self.stack.backend)
            bad = [row for row in self._bad(self.costs) if row in stopped]
            self._leave(self.stack.rows[row] for row in stopped if row not in bad)
            self.diverge(bad)
        return bool(self._live)

    def _measured(self) -> dict[int, dict[str, Any]]:
        """Return the records of the epoch of the members that are left."""
        losses = self.costs.losses.tolist()
        records = {k: {"loss": losses[row]} for row, k in self._live}
        if self.validation is not None or self.training is not None:
            measured = scores(self.stack, self.validation, self.training, self.metrics)
            for row, k in self._live:
                records[k] |= {name: x[row] for name, x in measured.items()}
        return records

    def _add_records(self, records: Mapping[int, list[Any]]) -> None:
        """Add each member's records of the epochs to its others: of all members, or after an interrupt of none."""
        done, counts = self._done(), {k: len(self.members[k].session.records) for k in records}
        try:
            for k, own in records.items():
                self.members[k].session.records.extend(own)
                self.members[k].done = done[k]
        except BaseException:
            for k, n in counts.items():
                del self.members[k].session.records[n:]
            raise

    def _end_epochs(self, records: Mapping[int, list[Any]], costs: StackCosts, seconds: float) -> None:
        """Begin the next epoch, and tell the callbacks of those that these records are of."""
        last, all_steps = {k: own[-1] for k, own in records.items()}, self.batches.steps
        epoch, step = self.epoch + max(map(len, records.values())) - 1, self.step or all_steps
        now = partial(Progress, epoch, self.epochs, step, all_steps, costs.samples, seconds)
        self.epoch = epoch + 1
        self._begin_epoch()
        for row, k in self._live:
            if self.callbacks[k]:
                cost = partial(_last_cost, costs, [row])
                self.callbacks[k].call("on_epoch", now(last[k], self.members[k].done, cost))
        if self.shared:
            ends = columns_of_members([x.session.records[x.first_record :][-1:] for x in self.members])
            measured = {name: x for name, (x,) in medians(ends).items()}
            cost = partial(_last_cost, costs, [row for row, _ in self._live])
            done = max(self.members[k].done for k in records)
            self.shared.call("on_epoch", now(measured, done, cost))
        self._leave(k for _, k in self._live if self.members[k].session.stopped is not None)
        self.compact()


def _cost(backend: Any, done: Done, rows: Sequence[int]) -> float:
    """Return the median cost of these rows in the last of the steps."""
    return middle(costs_of(backend, done.Js, len(done.weights))[-1][rows].tolist())


def _last_cost(costs: StackCosts, rows: Sequence[int]) -> float:
    return middle(costs.parts[-1][1][-1][rows].tolist())
