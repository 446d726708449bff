"""Trials of Optuna that end early when they promise little."""

from typing import Any

from nnx.callbacks.fit import Fit
from nnx.callbacks.monitor import Monitor, best_is
from nnx.callbacks.progress import Progress
from nnx.errors import InputError, shown
from nnx.port.base import require


class OptunaPruning(Monitor):
    """Reports a measured number to a trial of Optuna after every epoch, and ends the fit when its pruner says so.

    The fit then ends with ``optuna.TrialPruned``, which the study takes for the trial's end. The trainer is as after
    its last step.

    Copies report to the same trial, such as those of scikit-learn's `clone`. The step that is reported is the epoch,
    from 1. A second fit with the same trial, such as the second fold of a cross-validation, counts on from the epochs
    that the first was to have. So trials are compared fold by fold. (``cross_val_score(..., error_score="raise")`` lets
    TrialPruned through.) A copy in another process has no trial, and its fit is an error.

    Of a trainer with members the median is reported.

    Parameters
    ----------
    trial : optuna.Trial
    monitor : str
        The number's name in the history, such as "validation_loss". An estimator of nnx.sklearn measures "loss", and
        with ``early_stopping=True`` or a `validation_set` "validation_loss" and "validation_score".

    Attributes
    ----------
    best, best_epoch : float and int, or None
        The best value of the last fit, and its epoch.

    Raises
    ------
    InputError
        For no trial; when the study's direction is not that in which the number gets better; for a study of several
        objectives, which Optuna does not prune; at the start of the fit for a name that is not measured.
    BackendError
        When Optuna is missing, with the command that installs it.

    Examples
    --------
    >>> import nnx
    >>> import optuna  # doctest: +SKIP
    >>> def objective(trial):
    ...     rate = trial.suggest_float("rate", 1e-3, 1e-1, log=True)
    ...     trainer = nnx.Trainer(nnx.mlp([4, 8, 3], output="softmax"), nnx.Adam(rate))
    ...     history = trainer.fit(X, Y, epochs=50, validation_split=0.2, callbacks=nnx.OptunaPruning(trial))
    ...     return history["validation_loss"][-1]
    >>> optuna.create_study(pruner=optuna.pruners.MedianPruner()).optimize(objective, 20)  # doctest: +SKIP
    """

    each_member = False

    def __init__(self, trial: Any, monitor: str = "validation_loss") -> None:
        optuna = require("optuna", "optuna")
        self.raises = (optuna.TrialPruned,)
        if isinstance(trial, type) or not (hasattr(trial, "report") and hasattr(trial, "should_prune")):
            raise InputError(
                f"trial must be the optuna.Trial that the objective is given, not {shown(trial)}"
            )
        found = [one.name.lower()[:3] for one in getattr(getattr(trial, "study", None), "directions", ())]
        if len(found) > 1:
            raise InputError(
                f"the study has {len(found)} objectives, and Optuna prunes trials of one alone; leave out OptunaPruning"
            )
        super().__init__(monitor, mode=found[0] if found else "auto")
        if (best := best_is(monitor, self.mode)) != self.mode:
            raise InputError(
                f"the study looks for the {self.mode}imum, and of {monitor!r} the {best}imum is best: its pruner would "
                f"end the better trials. Monitor another number, or create the study with direction='{best}imize'"
            )
        self._trial: Any = trial
        self._reported = [0]
        """The epochs that fits of this trial were to have so far, one list for all copies."""
        self._first = 0

    def __deepcopy__(self, memo: Any) -> "OptunaPruning":
        other = object.__new__(type(self))
        vars(other).update(vars(self))  # of the same trial
        return other

    def __getstate__(self) -> dict[str, Any]:
        """Return the contents of a pickle: no trial, which belongs to its process."""
        return {**vars(self), "_trial": None}

    def on_fit_start(self, trainer: Fit, epochs: int) -> None:
        """Begin behind the epochs of the trial's earlier fits."""
        if self._trial is None:
            raise InputError(
                "this copy of OptunaPruning has no trial: it was pickled, or is in another process, where its reports "
                "would be lost. Fit in the process of the study, such as by n_jobs=1"
            )
        super().on_fit_start(trainer, epochs)
        self._first = self._reported[0]
        self._reported[0] += epochs

    def on_epoch(self, trainer: Fit, progress: Progress) -> None:
        """Report the number; end the fit if the trial is to be pruned."""
        self.improved(progress)
        value = self._value(progress.measured or {})
        self._trial.report(value, self._first + progress.epoch)
        if self._trial.should_prune():
            raise self.raises[0](f"pruned after epoch {progress.epoch}, with the {self.monitor} {value:.6g}")
