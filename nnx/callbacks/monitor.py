"""The best value so far of a number that is measured after every epoch."""

import math
from collections.abc import Collection, Mapping
from numbers import Real
from typing import Any

from nnx.callbacks.fit import Fit
from nnx.callbacks.progress import Progress
from nnx.callbacks.resumable import Resumable
from nnx.errors import InputError, between, one_of, shown, unknown
from nnx.metrics import METRICS
from nnx.support.schema import Whole

GREATER = ("accuracy", "top_k", "precision", "recall", "f1", "roc_auc", "r2", "score")
"""The metrics of which more is better, without their parameters, and an estimator's score."""


class Monitor(Resumable):
    """Watches a measured number.

    Parameters
    ----------
    monitor : str
        Its name in the history, such as "validation_loss" or "validation_accuracy".
    min_delta : float
        By how much, at least 0, a value must be better than the best to count as better.
    mode : {"auto", "min", "max"}
        Whether the least or the greatest is best. "auto" decides by the name: the least loss or error, the greatest
        accuracy, R2, ... (`GREATER`).

    Attributes
    ----------
    best : float or None
        The best value so far; None before the first.
    best_epoch : int or None
        The epoch of the fit with this value, from 1.

    Raises
    ------
    InputError
        For an impossible mode or min_delta; for a name with which "auto" cannot decide; at the start of a fit for a
        name that it does not measure.
    """

    each_member = True

    def __init__(self, monitor: str, min_delta: float = 0.0, mode: str = "auto") -> None:
        if not isinstance(monitor, str):
            raise InputError(
                f"monitor must be the name of a measured number, such as 'validation_loss', not {shown(monitor)}"
            )
        self.monitor = monitor
        self.min_delta = between("min_delta", min_delta, 0)
        self.mode = one_of("mode", mode, ("auto", "min", "max"))
        if self.mode == "auto":
            self.mode = best_is(monitor)
        self.best: float | None = None
        self.best_epoch: int | None = None

    def begin(self, trainer: Fit, state: dict[str, Any] | None) -> None:
        """Forget the best of an earlier fit, or go on with that of the checkpoint."""
        self._check(trainer.measures)
        self.best, self.best_epoch = (state["best"], state["best_epoch"]) if state else (None, None)

    def state(self) -> dict[str, Any]:
        """Return the best value and its epoch."""
        return {"best": self.best, "best_epoch": self.best_epoch}

    def expects(self, trainer: Fit, state: Mapping[str, Any]) -> Any:
        """Return the form of the state in a checkpoint."""
        return {"best": (float, None), "best_epoch": (Whole(1), None)}

    def improved(self, progress: Progress) -> bool:
        """Return whether an epoch's number is the best so far, and remember it then. NaN and infinities never are."""
        value = self._value(progress.measured or {})
        sign = 1 if self.mode == "max" else -1
        if not math.isfinite(value) or (
            self.best is not None and sign * (value - self.best) <= self.min_delta
        ):
            return False
        self.best, self.best_epoch = value, progress.epoch
        return True

    def _check(self, measured: Collection[str]) -> None:
        if self.monitor not in measured:
            validates = any(one.startswith("validation_") for one in measured)
            metric = self.monitor.removeprefix("validation_")
            of_training = metric == self.monitor
            if (validates or of_training) and metric.partition("(")[0] in METRICS:
                raise InputError(f"{self.monitor!r} is not measured; give fit(metrics=[{metric!r}, ...])")
            hint = (
                ""
                if validates
                else ". More is measured on validation samples, fit(validation=(X, Y)) or fit(validation_split=0.2); "
                "an estimator of nnx.sklearn has early_stopping=True instead"
            )
            raise InputError(f"{unknown('number to monitor', self.monitor, measured)}{hint}")

    def _value(self, measured: Mapping[str, Any]) -> float:
        name = self.monitor
        value = measured[name]
        if not isinstance(value, Real):
            raise InputError(f"{name!r} is no single number, which alone can be monitored: {value!r}")
        return float(value)


def best_is(name: str, otherwise: str | None = None) -> str:
    """Return whether the "min" or the "max" of a measured number is best, by its name.

    Raises
    ------
    InputError
        When neither the name nor `otherwise` decides.

    Examples
    --------
    >>> best_is("validation_loss"), best_is("validation_top_k(3)")
    ('min', 'max')
    """
    kind = (
        name.removeprefix("validation_").removeprefix("val_").partition("(")[0]
    )  # Keras's is told when it is read
    if kind in GREATER:
        return "max"
    if kind.endswith(("loss", "error")):
        return "min"
    if otherwise is not None:
        return otherwise
    raise InputError(
        f"whether the least or the greatest {shown(name)} is best? Give mode='min' or mode='max'"
    )
