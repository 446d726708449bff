"""A fit by L-BFGS, which computes the cost of all samples as often as it needs it."""

import math
from typing import Any

from nnx.array import host
from nnx.errors import DivergenceError, InputError
from nnx.optimizers import LBFGS
from nnx.train.costs import number
from nnx.train.divergence import largest
from nnx.train.loop import FitLoop
from nnx.train.step import Sums
from nnx.train.steps import add_micro_batch, nothing_to_train_on


class _Stopped(Exception):  # noqa: N818  # not an error
    """Leaves the optimizer's `minimize`, since a callback has told the trainer to stop."""


class FullBatchLoop(FitLoop):
    """One fit, whose epochs are the iterations of the optimizer's `minimize`.

    The history's "loss" is J after the iteration, with the penalties.
    """

    _first_cost = True

    def all_epochs(self) -> None:
        """Do the remaining iterations."""
        session, left = self.session, self.epochs - self.epoch + 1
        assert isinstance(session.optimizer, LBFGS)  # `fit` has looked at it
        self._check()
        if left <= 0 or session.stopped is not None:
            return
        try:
            theta = host.as_dtype(session.theta, "float64")
            _, why = session.optimizer.minimize(self._objective, theta, left, self._report)
        except _Stopped:
            return
        if self.epoch <= self.epochs:
            session.stopped = why

    def _check(self) -> None:
        network, own = self.session.network, self.session.regularization
        for bad, what in (
            (network.random, "Dropout or noise, which change the cost each time it is computed"),
            (network.statistics, "BatchNorm, whose running statistics are made step by step"),
            (
                own.clip_norm or own.clip_value or own.max_norm,
                "clipping and max-norm, which change the gradient",
            ),
            (self.batches.steps != 1, "mini-batches: leave out batch_size (micro_batch saves memory)"),
        ):
            if bad:
                raise InputError(f"{type(self.session.optimizer).__name__} cannot be used with {what}")

    def _objective(self, theta: Any) -> tuple[float, Any]:
        """Return J and dtheta of all samples, at theta on the host."""
        session, backend = self.session, self.session.backend
        sums: Sums = {}
        dtheta: Any = None
        state = {**session.read(), "theta": backend.asarray(theta, session.dtype)}
        J: Any = None
        for batch, start, ends in self.batches.epoch():
            if not batch[0].shape[-1]:
                continue  # its weights are all 0
            if start == 0 and ends:
                J, dtheta = session.gradient(state, batch)
            else:
                sums = add_micro_batch(session, state, sums, batch, start)
        if sums:
            J, dtheta = session.micro_batches.total(state, sums)
        if dtheta is None:
            raise nothing_to_train_on(f"in iteration {self.epoch}")
        J, dtheta = number(backend, J), backend.to_numpy(dtheta)
        if self._first_cost and not math.isfinite(J):  # the line search deals with later ones
            before = f"the cost is {J} before iteration {self.epoch}"
            raise DivergenceError(
                f"{before}; {largest(session.network, dtheta, 'it')}. Scale the features, or begin with smaller weights"
            )
        self._first_cost = False
        return J, host.as_dtype(dtheta, "float64")

    def _report(self, iteration: int, theta: Any, J: float) -> None:
        """Take up the parameters of an iteration, and measure them."""
        session, backend = self.session, self.session.backend
        session.program.snapshot()
        session.load(
            {
                "theta": backend.asarray(host.copy(theta), session.dtype),
                "t": backend.asarray(session.steps + 1, "int32"),
            }
        )
        self.step, self.costs.samples = 1, self.batches.m or 0
        self.done += 1
        found = self.scores()
        if not math.isfinite(found.get("validation_loss", 0.0)):
            session.rollback()
            raise DivergenceError(
                f"the cost of the validation became {found['validation_loss']} in iteration {self.epoch}, the "
                f"training's being {J:.4g}. The trainer is as before it. Look for values far out of range in the "
                "validation"
            )
        self.callbacks.call("on_step", self.progress(0.0, None, J))
        self.end_epoch(0.0, {"loss": J, **found}, J)
        if session.stopped is not None:
            raise _Stopped
