"""The fit loop: its epochs, its position within the fit, and its checkpoints."""

import math
import time
from collections.abc import Mapping
from functools import partial
from operator import getitem
from typing import Any, NamedTuple

from nnx.batches import Provider
from nnx.callbacks.base import Callbacks
from nnx.callbacks.progress import Progress
from nnx.errors import DivergenceError, Error
from nnx.metrics.history import History, columns
from nnx.port.agreement import of_first
from nnx.support.blas_threads import leave_interrupted
from nnx.train.costs import EpochCosts, added, mean, number, numbers
from nnx.train.divergence import diverged, last_gradient
from nnx.train.evaluation import scores
from nnx.train.position import costs_of, position_of
from nnx.train.ranks import agree_on_end, check_state
from nnx.train.session import Session
from nnx.train.steps import Steps, nothing_to_train_on

LOOK_EVERY = 256
"""After so many steps the costs are read within an epoch, too, and no sooner: reading waits for a GPU."""


class Snapshot(NamedTuple):
    """The loop's own part of a snapshot. The program has that of the state."""

    rng: Any
    """The state of the random numbers before the epoch draws; None: it draws none."""
    step: int
    done: int
    costs: tuple[float, float, tuple[int, float] | None, int]


class FitLoop:
    """One fit of a session.

    Parameters
    ----------
    session : Session
    batches : Batches, Stream or Iterated
        The batches of every step.
    epochs : int
    validation, training : Batches, Stream or Iterated, or None
        Samples that are measured after every epoch; `training` are some of those trained on.
    metrics : sequence of metrics
        Of both.
    callbacks : Callbacks
    plan : dict
        The arguments that a checkpoint must share for the fit to go on: the number of samples, batch_size, ...
    """

    def __init__(
        self,
        session: Session,
        batches: Provider,
        epochs: int,
        validation: Provider | None,
        training: Provider | None,
        metrics: Any,
        callbacks: Callbacks,
        plan: Mapping[str, Any],
    ) -> None:
        self.session, self.batches, self.epochs = session, batches, epochs
        self.validation, self.training, self.metrics = validation, training, metrics
        self.callbacks, self.plan = callbacks, dict(plan)
        self.steps = Steps(session, batches, callbacks.each_step)
        self.epoch = 1  # the epoch that is under way
        self.first_record = len(session.records)
        self.done = self._done_before = 0  # steps of the session: all, and those before this fit
        self._several_per_call = not callbacks.each_epoch and validation is None and training is None
        """Whether one call may do several epochs: no callback must see each, and nothing is measured."""
        self._ends = False
        """Whether `Trainer.stop` ends the fit. It is looked at in the same places on all ranks."""
        self._begin_epoch()

    def _begin_epoch(self) -> None:
        self.step = 0  # done in this epoch
        self.costs = EpochCosts()
        self._last_cost: Any = math.nan
        self._rng_before: Any = None  # before the epoch draws its order, if it draws one

    # --- epochs ---

    def run(self) -> History:
        """Do the fit; return its history."""
        session = self.session
        self.done = self._done_before = session.steps
        try:
            self.callbacks.call("on_fit_start", self.epochs)
            self._ends = agree_on_end(session)
            self.all_epochs()
        except BaseException as error:
            leave_interrupted()
            try:
                self.callbacks.end()
            except Error as later:  # the first error is the one that is raised
                error.add_note(f"Beside that: {later}")
            raise
        self.callbacks.end()
        kept = session.kept
        own = None if kept is None or kept <= self.first_record else kept - self.first_record
        return columns(session.records[self.first_record :], own)

    @property
    def share_done(self) -> float:
        """The share of the fit's steps that this call has done; 0 where their number is not known."""
        steps = (self.batches.steps or 0) * self.epochs
        return (self.done - self._done_before) / steps if steps else 0.0

    def all_epochs(self) -> None:
        """Do the remaining epochs."""
        while self.epoch <= self.epochs and not self._ends:
            epochs = 0
            if self._several_per_call and not self.step:
                epochs = min(self.steps.epochs_per_call(), self.epochs - self.epoch + 1)
            if epochs < 2 or not self._epochs_in_one_call(epochs):
                self._one_epoch()

    def _epochs_in_one_call(self, epochs: int) -> bool:
        """Do so many epochs in one call, all of them or none; return whether they are done.

        After an interrupt the session is as before them. If one of them diverges, it is, too, and the caller does them
        one by one to find that epoch.
        """
        session, steps = self.session, self.batches.steps or 0
        session.program.snapshot()
        rng, records = self._rng_state(), len(session.records)
        try:
            losses = self._losses(epochs, steps)
            if not (all(map(math.isfinite, losses)) and session.finite):
                session.rollback()
                self.draw_from(rng)
                self._several_per_call = False
                return False
            check_state(session)
            session.records.extend({"loss": loss} for loss in losses)
            self.epoch += epochs
            self.done += epochs * steps
        except BaseException:
            session.rollback()
            self.draw_from(rng)
            del session.records[records:]
            raise
        if self.callbacks:
            seconds, samples = self.steps.pace * steps, self.batches.m or 0
            now = Progress(
                self.epoch - 1, self.epochs, steps, steps, samples, seconds, session.records[-1], self.done
            )
            self.callbacks.call("on_epoch", now)
        self._ends = agree_on_end(session)
        return True

    def _losses(self, epochs: int, steps: int) -> list[float]:
        """Do so many epochs in one call; return the loss of each."""
        Js, weights = self.steps.whole_epochs(epochs)
        weights = [*numbers(self.session.backend, weights)]
        places = [slice(first, first + steps) for first in range(0, epochs * steps, steps)]
        return [mean(*added((0.0, 0.0), Js[place], weights[place])) for place in places]

    def _one_epoch(self) -> None:
        if self.batches.draws and self.step == 0:
            self._rng_before = self._rng_state()
        session, saved = self.session, self._snapshot()
        start = time.perf_counter()
        try:
            self._steps_of_epoch(start, saved)
            if self._ends:
                self._loss(saved)
                return
            seconds = time.perf_counter() - start
            measured = self._measure(saved)
        except BaseException as error:  # the steps done stay, unless the fit diverged
            if isinstance(error, DivergenceError) or self.costs.bad or not session.finite:
                self._go_back(saved)
            else:
                self._catch_up()
                if self.step == 0:  # before its first step: the next fit draws this epoch's order
                    self.draw_from(saved.rng)
            raise
        self.end_epoch(seconds, measured, self._last_cost)

    def _steps_of_epoch(self, start: float, saved: Snapshot) -> None:
        """Do the remaining steps of the epoch."""
        session, costs, callbacks = self.session, self.costs, self.callbacks
        unread = costs.unread
        self.draw_from(self._rng_before)
        steps = self.steps.epoch(self.step, costs)
        try:  # closing() would take 0.3 us more, of some 8 that an epoch has here
            for done in steps:
                if not done.samples:
                    self.step += 1
                    continue
                count = len(done.weights)
                self.step += count
                self.done += count
                if unread and self.step + 1 - unread[0][0] >= LOOK_EVERY:
                    costs.read(session.backend)
                if costs.bad:
                    raise self._diverged(saved)
                # Not taken until it is read: in some libraries it is a call of its own.
                self._last_cost = partial(getitem, done.Js, count - 1)
                if callbacks.on_steps:
                    now = self.progress(time.perf_counter() - start, None, self._last_cost)
                    callbacks.call("on_step", now)
                    self._ends = agree_on_end(session)
                    if self._ends:
                        return
        finally:
            steps.close()

    def end_epoch(self, seconds: float, measured: dict[str, Any], J: Any) -> None:
        """Add the epoch's record, begin the next epoch, and tell the callbacks."""
        now = self.progress(seconds, measured, J) if self.callbacks else None
        self.session.records.append(measured)
        self.epoch += 1
        self._begin_epoch()
        if now:
            self.callbacks.call("on_epoch", now)
        self._ends = agree_on_end(self.session)

    def progress(self, seconds: float, measured: Mapping[str, float] | None, J: Any) -> Progress:
        """Return where the fit stands."""
        backend, steps = self.session.backend, self.batches.steps
        return Progress(
            self.epoch, self.epochs, self.step, steps, self.costs.samples, seconds, measured, self.done,
            lambda: number(backend, J),
        )  # fmt: skip

    def _measure(self, saved: Snapshot) -> dict[str, Any]:
        """Return the epoch's record, or raise a DivergenceError unless all in it and the state are finite."""
        loss = self._loss(saved)
        if not self.costs.weight:
            raise nothing_to_train_on(f"in epoch {self.epoch}", self.steps.least)
        check_state(self.session)
        found = of_first(self.session.communicator, self.scores())
        if not math.isfinite(found.get("validation_loss", 0.0)):
            raise self._diverged(saved, found["validation_loss"])
        return {"loss": loss, **found}

    def _loss(self, saved: Snapshot) -> float:
        """Return the mean cost of the epoch's steps, or raise a DivergenceError unless it and the state are finite."""
        costs = self.costs
        costs.read(self.session.backend)
        loss = mean(costs.total, costs.weight)
        if costs.bad or not math.isfinite(loss) or not self.session.finite:
            raise self._diverged(saved)
        return loss

    def _diverged(self, saved: Snapshot, validation: float | None = None) -> DivergenceError:
        """Return the error for this epoch. It leaves the program's state to be rolled back."""
        gradient = last_gradient(self.session, self.steps, self.costs, saved.step, saved.rng)
        return diverged(self.session, self.costs, gradient, saved.done - saved.step, validation)

    def scores(self) -> dict[str, Any]:
        """Measure the validation and the training samples."""
        return scores(self.session, self.validation, self.training, self.metrics)

    # --- snapshots ---

    def _snapshot(self) -> Snapshot:
        self.session.program.snapshot()
        costs = self.costs
        return Snapshot(
            self._rng_before, self.step, self.done, (costs.total, costs.weight, costs.last, costs.samples)
        )

    def _go_back(self, saved: Snapshot) -> None:
        self.session.rollback()
        self.draw_from(saved.rng)
        _, self.step, self.done, costs = saved
        self.costs = EpochCosts(*costs)

    def _catch_up(self) -> None:
        """Count the steps of a call that was over when an interrupt came, before they were counted.

        If it came within the microsecond before `Steps` added their costs, the mean cost of the epoch is without them.
        """
        missed = self.session.steps - self.done
        self.step, self.done = self.step + missed, self.done + missed

    def _rng_state(self) -> Any:
        return self.session.rng.bit_generator.state

    def draw_from(self, state: Any) -> None:
        """Let the random numbers go on from a state, unless it is None."""
        if state is not None:
            self.session.rng.bit_generator.state = state

    # --- checkpoints ---

    def checkpoint(self) -> tuple[dict[str, Any], list[tuple[str, dict[str, Any]]]]:
        """Return the position of the fit, of types that JSON has, and the callbacks' states.

        Raises
        ------
        DivergenceError
            When the costs so far are not finite: a fit cannot go on from there.
        """
        self.costs.read(self.session.backend)
        if self.costs.bad or not self.session.finite:
            raise diverged(self.session, self.costs, None)
        rng = self._rng_before if self.step and self.batches.draws else None
        position = position_of(
            self.session, self.epoch, self.step, rng, self.costs, self.first_record, self.plan
        )
        return position, self.callbacks.states()

    def restore(self, position: Mapping[str, Any]) -> None:
        """Go on from a position that was checked. The caller restores the session."""
        for name in ("epoch", "step", "first_record"):
            setattr(self, name, position[name])
        self.costs = costs_of(position)
        self.draw_from(position["rng"])
        self._rng_before = position["rng"] if self.batches.draws else None
        self.session.stopped = position["stopped"]
        self.batches.go_on(self.epoch - 1)
