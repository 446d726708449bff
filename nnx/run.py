"""One fit: its epochs and steps, where it stands, and how it goes on from a checkpoint."""

import math
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple

from nnx.arrays import Array, array_namespace
from nnx.callbacks.base import Callbacks
from nnx.divergence import diverged
from nnx.errors import DivergenceError, InputError
from nnx.optimizers import State
from nnx.progress import History, Progress, columns
from nnx.step import Batch, Sums

if TYPE_CHECKING:
    from nnx.trainer import Trainer

LOOK_EVERY = 256
"""Steps after which a cost is looked at within an epoch: reading one waits for a GPU."""


class Done(NamedTuple):
    """A step that was done: the state before and after, its cost, samples, their weight, and the last piece."""

    before: State
    after: State
    J: Array
    samples: int
    weight: Any
    batch: Batch


class Run:
    """One fit of a trainer.

    Parameters
    ----------
    trainer : Trainer
    batches : Batches or Stream
        What gives the pieces of every step's batch.
    epochs : int
    validation : Batches or Stream, or None
    metrics : sequence of metrics
        Of the validation.
    callbacks : Callbacks
    plan : dict
        What a checkpoint must agree with for the fit to go on: the number of samples, batch_size, ...
    """

    def __init__(
        self,
        trainer: "Trainer",
        batches: Any,
        epochs: int,
        validation: Any,
        metrics: Any,
        callbacks: Callbacks,
        plan: Mapping[str, Any],
    ) -> None:
        self.trainer, self.batches, self.epochs = trainer, batches, epochs
        self.validation, self.metrics = validation, metrics
        self.callbacks, self.plan = callbacks, dict(plan)
        self.epoch, self.step = 1, 0  # the epoch that is under way, and its steps done
        self.costs: list[Any] = []  # of these steps: on the device until they are read
        self.weights: list[Any] = []
        self.samples = 0
        self.first_record = len(trainer.records)
        self._rng_before = self._rng_state()  # before the epoch drew its order

    def go(self) -> History:
        """Run to the end; return the history of this fit."""
        trainer = self.trainer
        try:
            self.callbacks.call("on_fit_start", trainer, self.epochs)
            while self.epoch <= self.epochs and trainer.stopped is None:
                self._one_epoch()
        finally:
            self.callbacks.end(trainer)
        return columns(trainer.records[self.first_record :])

    def _rng_state(self) -> Any:
        return self.trainer.rng.bit_generator.state

    def _one_epoch(self) -> None:
        # A step replaces the state and changes nothing in it: this is all it takes to come back.
        trainer, good_step, samples = self.trainer, self.step, self.samples
        good = trainer.state, self._rng_state() if self.step == 0 else self._rng_before
        self._rng_before = good[1]
        start = time.perf_counter()
        try:
            self._steps(start)
            if trainer.stopped is not None:
                return
            seconds = time.perf_counter() - start
            measured = self._measure(good, good_step)
        except BaseException as error:  # an interrupt keeps the steps done, unless they led nowhere
            if isinstance(error, DivergenceError) or not trainer.is_finite():
                trainer.state, trainer.rng.bit_generator.state = good
                del self.costs[good_step:], self.weights[good_step:]
                self.step, self.samples = good_step, samples
            raise
        now = self._progress(self.step, seconds, measured)
        trainer.records.append(measured)
        self.epoch, self.step, self.samples, self.costs, self.weights = self.epoch + 1, 0, 0, [], []
        self.callbacks.call("on_epoch", trainer, now)

    def _steps(self, start: float) -> None:
        """Do what is left of the epoch's steps."""
        trainer, good, good_step = self.trainer, self.trainer.state, self.step
        if self.step:
            trainer.rng.bit_generator.state = self._rng_before
        with closing(self.walk(lambda: trainer.state, self.step)) as steps:
            for done in steps:
                trainer.state = done.after
                self.costs.append(done.J)
                self.weights.append(done.weight)
                self.samples += done.samples
                self.step += 1
                if self.step % LOOK_EVERY == 0 and not math.isfinite(self._read(done.J)):
                    raise self._diverged((good, self._rng_before), good_step)
                if self.callbacks.each_step:
                    now = self._progress(self.step, time.perf_counter() - start, None)
                    self.callbacks.call("on_step", trainer, now)
                    if trainer.stopped is not None:
                        return

    def walk(self, now: Callable[[], State], skip: int) -> Generator[Done, None, None]:
        """Yield an epoch's steps, each from the state that is then, without the first `skip` steps."""
        trainer, asarray = self.trainer, self.trainer.backend.asarray
        sums: Sums = {}
        samples = 0
        weight: Any
        with closing(self.batches.epoch(skip)) as pieces:
            for batch, start, ends in pieces:
                state, m = now(), batch[0].shape[-1]
                w = batch[2] if len(batch) > 2 else None
                whole = start == 0 and ends
                if whole:
                    weight, samples = m if w is None else array_namespace(w).sum(w), m
                    after, J = trainer.step(state, batch)
                else:
                    place = asarray(start, "int32")
                    first = start == 0
                    samples = m if first else samples + m
                    sums = (
                        trainer.pieces.first(state, batch, place)
                        if first
                        else trainer.pieces.add(state, sums, batch, place)
                    )
                    if not ends:
                        continue
                    weight = sums["weight"]
                    after, J = trainer.pieces.update(state, sums)
                yield Done(state, after, J, samples, weight, batch)

    def _progress(self, step: int, seconds: float, measured: Mapping[str, float] | None) -> Progress:
        J = self.costs[-1]
        return Progress(
            self.epoch,
            self.epochs,
            step,
            self.batches.steps,
            self.samples,
            seconds,
            measured,
            lambda: self._read(J),
        )

    def _read(self, x: Any) -> float:
        return float(x if isinstance(x, float | int) else self.trainer.backend.to_numpy(x))

    def read_costs(self) -> list[float]:
        """Return the costs of the epoch's steps so far: here they are read, and no step waits for the host."""
        self.costs = [self._read(J) for J in self.costs]
        self.weights = [self._read(weight) for weight in self.weights]
        return self.costs

    def _measure(self, good: Any, good_step: int) -> dict[str, float]:
        """Return the epoch's record, or raise a DivergenceError unless all in it and the state are finite."""
        if not (all(map(math.isfinite, self.read_costs())) and self.trainer.is_finite()):
            raise self._diverged(good, good_step)
        total = sum(self.weights)
        loss = sum(J * weight for J, weight in zip(self.costs, self.weights, strict=True))
        measured = {"loss": loss / total if total > 0 else 0.0}
        if self.validation is not None:
            found = self.trainer.measure(self.validation, self.metrics)
            if not math.isfinite(found["loss"]):
                raise self._diverged(good, good_step, found["loss"])
            measured |= {f"validation_{name}": value for name, value in found.items()}
        # A record is plain numbers, and lists of them: a metric may be an array (the confusion matrix).
        return {name: x.tolist() if hasattr(x, "tolist") else x for name, x in measured.items()}

    def _diverged(self, good: Any, good_step: int, validation: float | None = None) -> DivergenceError:
        epoch = len(self.trainer.records) + 1
        return diverged(self, good, good_step, epoch, validation)

    def position(self) -> dict[str, Any]:
        """Return where the fit stands, of types that JSON has.

        Raises
        ------
        DivergenceError
            When the costs so far are not finite: what led nowhere is not to be gone on from.
        """
        costs = self.read_costs()
        if not all(map(math.isfinite, costs)) or not self.trainer.is_finite():
            raise self._diverged((self.trainer.state, self._rng_before), self.step)
        return {
            "epoch": self.epoch,
            "step": self.step,
            "rng": self._rng_before if self.step else self._rng_state(),
            "costs": costs,
            "weights": self.weights,
            "samples": self.samples,
            "first_record": self.first_record,
            "stopped": self.trainer.stopped,
            "plan": self.plan,
        }

    def restore(self, position: Mapping[str, Any]) -> None:
        """Take up a position; the trainer's state is taken up apart from it.

        Raises
        ------
        InputError
            When the fit that left it was another one: which of its arguments differ.
        """
        for name, value in position["plan"].items():
            if value != self.plan.get(name):
                raise InputError(
                    f"the checkpoint is of a fit with {name} = {value!r}, this one has {self.plan.get(name)!r}; "
                    "only the same data and arguments can be gone on with (or leave out resume)"
                )
        self.epoch, self.step, self.samples = position["epoch"], position["step"], position["samples"]
        self.costs, self.weights = list(position["costs"]), list(position["weights"])
        self.first_record = position["first_record"]
        self._rng_before = position["rng"]
        self.trainer.rng.bit_generator.state = position["rng"]
        self.trainer.stopped = position["stopped"]
