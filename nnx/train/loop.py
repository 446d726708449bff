"""One fit: its epochs and steps, where it stands, and how it goes on from a checkpoint."""

import math
import time
from bisect import bisect_left
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from functools import partial
from operator import getitem
from typing import TYPE_CHECKING, Any, NamedTuple

from nnx.array.namespace import array_namespace
from nnx.batches import Batches, Provider
from nnx.callbacks.base import Callbacks
from nnx.callbacks.progress import Progress
from nnx.errors import DivergenceError, Error, InputError, ModelFileError, count
from nnx.metrics.history import History, columns
from nnx.optimizers import State
from nnx.train.costs import added, costs, mean, number, numbers
from nnx.train.divergence import diverged
from nnx.train.step import Batch, Sums

if TYPE_CHECKING:
    from nnx.train.trainer import Trainer

LOOK_EVERY = 256
"""Steps after which the costs are read within an epoch: reading waits for a GPU."""


SLICE = 0.5
"""Seconds of steps that are done at once, about: a person who looks, or stops, does not wait longer."""

AT_ONCE = 4096
"""Steps that are done at once, at most."""

ORDERED = 1 << 18
"""Places in the orders that are drawn at once, at most: they stay in the cache."""


class Done(NamedTuple):
    """Steps that were done at once, often one: the states before and after, and of each its cost and weight."""

    before: State
    after: State
    Js: Any
    """See `nnx.port.base.Steps`."""
    samples: int
    """Of all of them; 0: of one step, whose batch cannot be trained on. It is left out."""
    weights: Sequence[Any]
    batch: Callable[[], Batch]
    """That of the first step; its last piece, which is the whole batch unless there are `sums`."""
    sums: Sums | None


class Run:
    """One fit of a trainer.

    Parameters
    ----------
    trainer : Trainer
    batches : Batches, Stream or Iterated
        What gives the pieces of every step's batch.
    epochs : int
    validation, training : Batches, Stream or Iterated, or None
        Samples that are measured after every epoch; `training` are some of those trained on.
    metrics : sequence of metrics
        Of both.
    callbacks : Callbacks
    plan : dict
        What a checkpoint must agree with for the fit to go on: the number of samples, batch_size, ...
    """

    def __init__(
        self,
        trainer: "Trainer",
        batches: Provider,
        epochs: int,
        validation: Provider | None,
        training: Provider | None,
        metrics: Any,
        callbacks: Callbacks,
        plan: Mapping[str, Any],
    ) -> None:
        self.trainer, self.batches, self.epochs = trainer, batches, epochs
        self.validation, self.training, self.metrics = validation, training, metrics
        self.callbacks, self.plan = callbacks, dict(plan)
        self.epoch = 1  # the epoch that is under way
        self.first_record = len(trainer.records)
        self.done = 0  # steps of the trainer, over all fits
        self._pace = 0.0  # seconds of a step
        self._on_end_of = batches if isinstance(batches, Batches) and batches.micro_batch is None else None
        if self._on_end_of is not None and batches.draws:
            trainer.backend.picked_from(self._on_end_of.data)
        self._one_by_one = False  # after several epochs at once that led nowhere
        self._least = 2 if trainer.network.whole_batches else 1
        """Samples that a batch must have to be trained on: of one there is no variance, which BatchNorm divides by."""
        self._begin_epoch()

    def _begin_epoch(self) -> None:
        self.step = self.samples = 0  # done in this epoch
        self.total = self.weight = 0.0  # the sums of w J and w over the steps whose costs are read
        self.last: tuple[int, float] | None = (
            None  # the last of these steps with a finite cost, from 1, and the cost
        )
        self.bad: tuple[int, float] | None = None  # the first with another
        self._unread: list[
            tuple[int, Any, Sequence[Any]]
        ] = []  # the first step, J and w of each, on the device
        self._last_cost: Any = math.nan
        self._rng_before: Any = None  # before the epoch draws its order, if it draws one

    def go(self) -> History:
        """Run to the end; return the history of this fit."""
        self.done = self.trainer.steps
        try:
            self.callbacks.call("on_fit_start", self.trainer, self.epochs)
            self.all_epochs()
        except BaseException as error:
            try:
                self.callbacks.end(self.trainer)
            except Error as later:  # what ended the fit is what is raised
                error.add_note(f"Beside that: {later}")
            raise
        self.callbacks.end(self.trainer)
        kept = self.trainer.kept
        own = None if kept is None or kept <= self.first_record else kept - self.first_record
        return columns(self.trainer.records[self.first_record :], own)

    def all_epochs(self) -> None:
        """Do what is left of the epochs."""
        while self.epoch <= self.epochs and self.trainer.stopped is None:
            if not self._several_epochs():
                self._one_epoch()

    @property
    def _unseen(self) -> bool:
        """Whether nobody must see each epoch."""
        return not self.callbacks.each_epoch and self.validation is None and self.training is None

    def _several_epochs(self) -> bool:
        """Do as many epochs at once as `SLICE` and `AT_ONCE` allow, where nobody sees each; return whether it was done.

        All of them or none: after an interrupt the trainer is as before them, and where one leads nowhere they are done
        one by one.
        """
        trainer, batches = self.trainer, self._on_end_of
        if self._one_by_one or not self._unseen or self.step or not self._pace:
            return False
        if batches is None or not batches.even or (batches.draws and trainer.backend.one_order):
            return False
        epochs = min(self.epochs - self.epoch + 1, int(min(AT_ONCE, SLICE / self._pace)) // batches.steps)
        if batches.draws:
            epochs = min(epochs, ORDERED // batches.m)
        if epochs < 2:
            return False
        good, records = Good(trainer.state, self._rng_state(), 0), len(trainer.records)
        try:
            with trainer.threads(batches.at_once):
                trainer.state, losses = self._whole_epochs(batches, epochs)
            if not (all(map(math.isfinite, losses)) and trainer.is_finite()):
                self._come_back(good)
                self._one_by_one = True  # so it will be found which
                return False
            trainer.records.extend({"loss": loss} for loss in losses)
            self.epoch += epochs
            self.done += epochs * batches.steps
        except BaseException:  # also another one while it comes back
            self._come_back(good)
            del trainer.records[records:]
            raise
        if self.callbacks:
            self._tell_last(batches)
        return True

    def _tell_last(self, batches: Batches) -> None:
        """Tell the callbacks of the last of several epochs."""
        steps, record = batches.steps, self.trainer.records[-1]
        now = Progress(
            self.epoch - 1, self.epochs, steps, steps, batches.m, self._pace * steps, record, self.done
        )
        self.callbacks.call("on_epoch", self.trainer, now)

    def _whole_epochs(self, batches: Batches, epochs: int) -> tuple[State, list[float]]:
        """Do so many epochs at once; return the state after them, and the loss of each."""
        size, steps, order = batches.batch_size, batches.steps, batches.order(epochs)
        state, Js = self._at_once(self.trainer.state, batches, order, 0, size, epochs * steps)
        Js = costs(self.trainer.backend, Js, epochs * steps)
        drawn = 1 if order is None else epochs  # in order, each epoch's weights are those of the first
        weights = numbers(self.trainer.backend, batches.weights(order, 0, size, drawn * steps))
        weights = [*weights] * (epochs // drawn)
        places = [slice(first, first + steps) for first in range(0, epochs * steps, steps)]
        return state, [mean(*added((0.0, 0.0), Js[place], weights[place])) for place in places]

    def _at_once(
        self, state: State, batches: Batches, order: Any, at: int, m: int, count: int
    ) -> tuple[State, Any]:
        """Do so many steps in one call, and look how long each takes; see `nnx.port.base.Steps`."""
        start = time.perf_counter()
        after, Js = self.trainer.repeated(state, batches.data, order, at, m, count)
        if not self.callbacks.each_step:  # else it is one step, whatever it takes, and no GPU is waited for
            self.trainer.backend.synchronize()
        self._pace = (time.perf_counter() - start) / count
        return after, Js

    def _come_back(self, good: "Good") -> None:
        self.trainer.state = good.state
        self.draw_from(good.rng)

    def _rng_state(self) -> Any:
        return self.trainer.rng.bit_generator.state

    def draw_from(self, state: Any) -> None:
        """Let the random numbers go on from a state, if that of an epoch's beginning has been kept."""
        if state is not None:
            self.trainer.rng.bit_generator.state = state

    def _one_epoch(self) -> None:
        if self.batches.draws and self.step == 0:
            self._rng_before = self._rng_state()
        # A step replaces the state and changes nothing in it: this is all it takes to come back.
        trainer, good = self.trainer, Good(self.trainer.state, self._rng_before, self.step)
        mark = self.samples, self.total, self.weight, self.last
        start = time.perf_counter()
        try:
            with trainer.threads(self.batches.at_once):
                self._steps(start, good)
            if trainer.stopped is not None:
                return
            seconds = time.perf_counter() - start
            measured = self._measure(good)
        except BaseException as error:  # an interrupt keeps the steps done, unless they led nowhere
            if isinstance(error, DivergenceError) or not trainer.is_finite():
                self._come_back(good)
                self._unread, self.bad, self.step = [], None, good.step
                self.samples, self.total, self.weight, self.last = mark
            elif self.step == 0:  # before its first step: who goes on draws this epoch's order
                self.draw_from(good.rng)
            raise
        self.end_epoch(seconds, measured, self._last_cost)

    def end_epoch(self, seconds: float, measured: dict[str, Any], J: Any) -> None:
        """Keep the epoch's record, tell the callbacks, and stand before the next epoch."""
        now = self.progress(seconds, measured, J) if self.callbacks else None
        self.trainer.records.append(measured)
        self.epoch += 1
        self._begin_epoch()
        if now:
            self.callbacks.call("on_epoch", self.trainer, now)

    def _steps(self, start: float, good: "Good") -> None:
        """Do what is left of the epoch's steps."""
        trainer = self.trainer
        self.draw_from(self._rng_before)
        steps = self.walk(lambda: trainer.state, self.step)
        try:  # closing() would take 0.3 us more, of some 8 that an epoch has here
            for done in steps:
                if not done.samples:
                    self.step += 1
                    continue
                trainer.state = done.after
                count = len(done.weights)
                self._unread.append((self.step + 1, done.Js, done.weights))
                self.step += count
                self.done += count
                self.samples += done.samples
                if self.step + 1 - self._unread[0][0] >= LOOK_EVERY:
                    self.read_costs()
                    if self.bad:
                        raise diverged(self, good)
                # Not taken until it is read: in some libraries it is a call of its own.
                self._last_cost = partial(getitem, done.Js, count - 1)
                if self.callbacks.on_steps:
                    now = self.progress(time.perf_counter() - start, None, self._last_cost)
                    self.callbacks.call("on_step", trainer, now)
                    if trainer.stopped is not None:
                        return
        finally:
            steps.close()

    def walk(self, now: Callable[[], State], skip: int, one: bool = False) -> Generator[Done, None, None]:
        """Return an epoch's steps without the first `skip`, each from the state that is then.

        Several are done at once where nobody wants to see each of them; `one`: never.
        """
        if self._on_end_of is not None:
            return self._on_end(self._on_end_of, now, skip, one or self.callbacks.each_step)
        return self._in_pieces(now, skip)

    def _on_end(
        self, batches: Batches, now: Callable[[], State], skip: int, one: bool
    ) -> Generator[Done, None, None]:
        order, step, steps = batches.order(), skip, batches.steps
        same = batches.m // batches.batch_size  # steps of one size
        idle = batches.idle(order)
        if batches.size(-1) < self._least and steps - 1 not in idle[-1:]:
            idle.append(steps - 1)
        while step < steps:
            m, left = (batches.batch_size, same - step) if step < same else (batches.size(-1), 1)
            if idle and (at := bisect_left(idle, step)) < len(idle):
                left = min(left, idle[at] - step)
            if not left:
                yield _left_out(now())
                step += 1
                continue
            count = 1 if one or not self._pace else max(1, min(left, AT_ONCE, int(SLICE / self._pace)))
            state = now()
            after, Js = self._at_once(state, batches, order, step * batches.batch_size, m, count)
            weights = batches.weights(order, step, m, count)
            yield Done(state, after, Js, m * count, weights, partial(batches.batch, order, step), None)
            step += count

    def _in_pieces(self, now: Callable[[], State], skip: int) -> Generator[Done, None, None]:
        trainer = self.trainer
        sums: Sums = {}
        samples = 0
        with closing(self.batches.epoch(skip)) as pieces:
            for batch, start, ends in pieces:
                state, m = now(), batch[0].shape[-1]
                if start == 0 and ends and m >= self._least:
                    after, J = trainer.step(state, batch)
                    w = batch[2]
                    weight = float(m) if w is None else array_namespace(w).sum(w)
                    yield Done(state, after, [J], m, [weight], partial(tuple, batch), None)
                    continue
                samples, sums = (m, {}) if start == 0 else (samples + m, sums)
                if m and self._least == 1:
                    sums = self.added(sums, state, batch, start)
                if ends and not sums:
                    yield _left_out(state)
                elif ends:
                    after, J = trainer.pieces.update(state, sums)
                    yield Done(state, after, [J], samples, [sums["weight"]], partial(tuple, batch), sums)

    def added(self, sums: Sums, state: State, batch: Batch, start: int) -> Sums:
        """Return the sums over a step's pieces with one more; without any this one begins them."""
        place = self.trainer.backend.asarray(start, "int32")
        if not sums:
            return self.trainer.pieces.first(state, batch, place)
        return self.trainer.pieces.add(state, sums, batch, place)

    def progress(self, seconds: float, measured: Mapping[str, float] | None, J: Any) -> Progress:
        """Return where the fit stands."""
        return Progress(
            self.epoch,
            self.epochs,
            self.step,
            self.batches.steps,
            self.samples,
            seconds,
            measured,
            self.done,
            lambda: number(self.trainer.backend, J),
        )

    def read_costs(self) -> None:
        """Read the costs of the steps done: here it is done for many at once, and no step waits for the host."""
        for first, Js, weights in self._unread:
            backend = self.trainer.backend
            Js, weights = costs(backend, Js, len(weights)), numbers(backend, weights)
            self.total, self.weight = added((self.total, self.weight), Js, weights)
            if math.isfinite(self.total + self.weight):  # one look tells of all
                self.last = first + len(Js) - 1, Js[-1]
                continue
            # Which is the first bad one?
            for step, (J, w) in enumerate(zip(Js, weights, strict=True), first):
                if not (math.isfinite(J) and math.isfinite(w)):
                    self.bad = self.bad or (step, J)
                elif self.bad is None:
                    self.last = step, J
        self._unread = []

    def _measure(self, good: "Good") -> dict[str, Any]:
        """Return the epoch's record, or raise a DivergenceError unless all in it and the state are finite."""
        self.read_costs()
        if not self.bad and not self.weight:
            raise nothing_to_train_on(f"in epoch {self.epoch}", self._least)
        loss = mean(self.total, self.weight)
        if self.bad or not math.isfinite(loss) or not self.trainer.is_finite():
            raise diverged(self, good)
        found = self.scores()
        if not math.isfinite(found.get("validation_loss", 0.0)):
            raise diverged(self, good, found["validation_loss"])
        return {"loss": loss, **found}

    def scores(self) -> dict[str, Any]:
        """Return what was measured, plain numbers and lists of them: a metric may be an array."""
        found: dict[str, Any] = {}
        if self.training is not None:  # the loss is that of the steps
            found |= self.trainer.measure(self.training, self.metrics)
            del found["loss"]
        if self.validation is not None:
            measured = self.trainer.measure(self.validation, self.metrics)
            found |= {f"validation_{name}": x for name, x in measured.items()}
        return {name: x.tolist() if hasattr(x, "tolist") else x for name, x in found.items()}

    def position(self) -> dict[str, Any]:
        """Return where the fit stands, of types that JSON has.

        Raises
        ------
        DivergenceError
            When the costs so far are not finite: what led nowhere is not to be gone on from.
        """
        self.read_costs()
        if self.bad or not self.trainer.is_finite():
            raise diverged(self, None)
        return {
            "epoch": self.epoch,
            "step": self.step,
            "rng": self._rng_before if self.step and self.batches.draws else self._rng_state(),
            "samples": self.samples,
            "total": self.total,
            "weight": self.weight,
            "last": self.last,
            "first_record": self.first_record,
            "stopped": self.trainer.stopped,
            "plan": self.plan,
        }

    def check(self, position: Mapping[str, Any], where: str) -> None:
        """Raise an InputError unless a position, in a file, is of this fit: which of its arguments differ."""
        for name, value in {**dict.fromkeys(self.plan), **position["plan"]}.items():
            if value != self.plan.get(name):
                raise InputError(
                    f"the checkpoint is of a fit with {name} = {value!r}, this one has {self.plan.get(name)!r}; "
                    "only the same data and arguments can be gone on with (or leave out resume)"
                )
        steps = self.batches.steps
        if steps is not None and position["step"] > steps:
            raise ModelFileError(
                f"{where!r} stands at step {position['step']} of an epoch; this fit's have {count(steps, 'step')}"
            )

    def restore(self, position: Mapping[str, Any]) -> None:
        """Take up a position that was checked; the trainer's state is taken up apart from it."""
        for name in ("epoch", "step", "samples", "total", "weight", "first_record"):
            setattr(self, name, position[name])
        self.last = tuple(position["last"]) if position["last"] else None
        self.draw_from(position["rng"])
        self._rng_before = position["rng"] if self.batches.draws else None
        self.trainer.stopped = position["stopped"]
        self.batches.go_on(self.epoch - 1)


def _left_out(state: State) -> Done:
    """Return the step of a batch that cannot be trained on: nothing changes, and nothing is counted."""

    def nothing() -> Batch:
        raise AssertionError("a batch that is left out has no gradient")

    return Done(state, state, [], 0, [], nothing, None)


def nothing_to_train_on(when: str, least: int = 1) -> InputError:
    """Return the error for a time in which no batch could be trained on."""
    why = "the weights of all samples are 0"
    if least > 1:
        why += ", or each batch has a single sample, on which BatchNorm cannot train"
    return InputError(
        f"there was nothing to train on {when}: {why}. Expected some samples that weigh more than 0"
    )


class Good(NamedTuple):
    """Where a run can come back to: the state, that of the random numbers before the epoch draws, its steps done."""

    state: State
    rng: Any
    step: int
