"""A fit by a method that looks at the whole of the samples as often as it likes: L-BFGS."""

import math
from typing import Any

from nnx import host
from nnx.errors import DivergenceError, InputError
from nnx.optimizers.lbfgs import LBFGS
from nnx.progress import History, columns
from nnx.run import Run
from nnx.step import Sums


class _Stopped(Exception):  # noqa: N818  # it is none
    """A callback has told the trainer to stop."""


class WholeRun(Run):
    """One fit, whose epochs are the iterations of `trainer.optimizer.minimize`.

    The history's "loss" is J after the iteration, with the penalties.
    """

    _first_look = True

    def go(self) -> History:
        """Run to the end; return the history of this fit."""
        trainer = self.trainer
        self._check()
        assert isinstance(trainer.optimizer, LBFGS)  # which `Trainer.fit` has looked at
        try:
            self.callbacks.call("on_fit_start", trainer, self.epochs)
            left = self.epochs - self.epoch + 1
            if left > 0 and trainer.stopped is None:
                theta = host.as_dtype(trainer.theta, "float64")
                _, why = trainer.optimizer.minimize(self._objective, theta, left, self._report)
                if self.epoch <= self.epochs:
                    trainer.stop(why)
        except _Stopped:
            pass
        finally:
            self.callbacks.end(trainer)
        return columns(trainer.records[self.first_record :])

    def _check(self) -> None:
        network, own = self.trainer.network, self.trainer.regularization
        for bad, what in (
            (network.random, "Dropout or noise, which change the cost from look to look"),
            (network.statistics, "BatchNorm, whose running statistics are made step by step"),
            (
                own.clip_norm or own.clip_value or own.max_norm,
                "clipping and max-norm, which bend the gradient",
            ),
            (self.batches.steps != 1, "mini-batches: leave out batch_size (micro_batch saves memory)"),
        ):
            if bad:
                raise InputError(f"{type(self.trainer.optimizer).__name__} cannot be used with {what}")

    def _objective(self, theta: Any) -> tuple[float, Any]:
        """Return J and dtheta of all samples, at theta on the host."""
        trainer, backend = self.trainer, self.trainer.backend
        sums: Sums = {}
        state = {**trainer.state, "theta": backend.asarray(theta, trainer.dtype)}
        J, dtheta = None, None
        for batch, start, ends in self.batches.epoch():
            place = backend.asarray(start, "int32")
            if start == 0 and ends:
                J, dtheta = trainer.gradient(state, batch)
            elif start == 0:
                sums = trainer.pieces.first(state, batch, place)
            else:
                sums = trainer.pieces.add(state, sums, batch, place)
        if sums:
            J, dtheta = trainer.pieces.total(state, sums)
        J = self._read(J)
        if self._first_look and not math.isfinite(J):  # later ones are the line search's own matter
            raise DivergenceError(f"the cost is {J} before the first iteration; scale the features")
        self._first_look = False
        return J, host.as_dtype(backend.to_numpy(dtheta), "float64")

    def _report(self, iteration: int, theta: Any, J: float) -> None:
        """Take up what an iteration has found."""
        trainer, good = self.trainer, self.trainer.state
        trainer.state = {
            **good,
            "theta": trainer.backend.asarray(host.copy(theta), trainer.dtype),
            "t": good["t"] + 1,
        }
        measured = {"loss": J}
        if self.validation is not None:
            found = trainer.measure(self.validation, self.metrics)
            measured |= {f"validation_{name}": value for name, value in found.items()}
        trainer.records.append(measured)
        self.costs, self.samples = [J], self.batches.m
        now = self._progress(1, 0.0, measured)
        self.epoch, self.costs = self.epoch + 1, []
        self.callbacks.call("on_epoch", trainer, now)
        if trainer.stopped is not None:
            raise _Stopped
