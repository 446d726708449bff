"""Early stopping: ends a fit when a number gets no better, and restores the best weights."""

import sys
from collections.abc import Mapping
from typing import Any

from nnx.array import host
from nnx.array.namespace import Array
from nnx.callbacks.fit import Fit
from nnx.callbacks.monitor import Monitor
from nnx.callbacks.progress import Progress
from nnx.errors import count, flag, positive_int
from nnx.support.schema import Vector, Whole

PATIENCE = 10
"""The best of 5, 10, 15, 20 and 30 epochs on thirteen small tables (120 to 3,000 rows), with the validation's loss.
Stopping by accuracy or R2 was worse."""


class EarlyStopping(Monitor):
    """Ends the fit when a measured number has not become better for some epochs.

    Parameters
    ----------
    monitor : str
        The number's name in the history. Without a validation "validation_loss" is an error; "loss" is the training's.
    patience : int
        The epochs in a row without a better value after which the fit ends, as in Keras; scikit-learn's
        n_iter_no_change, with its default, waits for one more.
    min_delta : float
        By how much, at least 0, a value must be better than the best to count.
    mode : {"auto", "min", "max"}
        Whether the least or the greatest value is best; "auto" decides by the name.
    restore_best : bool
        Whether the fit restores the parameters of the best epoch at its end, also after a stop or Ctrl-C.
        `trainer.kept` is that epoch. (Keras's default is False.) After an error the trainer stays as the
        error says, and `theta` of this object has them. The optimizer's state stays that of the last step.

    Attributes
    ----------
    best, best_epoch : float and int, or None
        The best value and the epoch of the fit, from 1, that had it.

    Raises
    ------
    InputError
        For a parameter out of its range; at the start of the fit for a name that is not measured.

    Examples
    --------
    >>> import nnx
    >>> trainer = nnx.Trainer(nnx.mlp([1, 1], output="identity"), nnx.GradientDescent(1.9), backend="numpy")
    >>> stopping = EarlyStopping(monitor="loss", patience=3, min_delta=0.01)
    >>> history = trainer.fit([[-1, 1]], [-1, 1], epochs=100, callbacks=stopping)
    >>> trainer.stopped.startswith("loss has not become better for 3 epochs")
    True
    >>> len(history["loss"]) == stopping.best_epoch + 3
    True
    """

    def __init__(
        self,
        monitor: str = "validation_loss",
        patience: int = PATIENCE,
        min_delta: float = 0.0,
        mode: str = "auto",
        restore_best: bool = True,
    ) -> None:
        super().__init__(monitor, min_delta, mode)
        self.patience = positive_int("patience", patience)
        self.restore_best = flag("restore_best", restore_best)
        self._theta: Array = None
        self._kept: int | None = None  # the best epoch, counted over all fits of the trainer
        self._waited = 0
        self._before: BaseException | None = None
        self._to_numpy = host.as_host  # a fit brings its backend's

    def __getstate__(self) -> dict[str, Any]:
        """Return the contents of a copy or a pickle: NumPy parameters, and no running fit."""
        return {**vars(self), "_theta": self.theta, "_before": None, "_to_numpy": host.as_host}

    @property
    def theta(self) -> Any:
        """The parameters of the best epoch (P,), a NumPy array; None before it, or without restore_best."""
        return None if self._theta is None else host.copy(self._to_numpy(self._theta))

    def begin(self, trainer: Fit, state: dict[str, Any] | None) -> None:
        """Forget an earlier fit, or go on with the checkpoint's best."""
        super().begin(trainer, state)
        self._to_numpy = trainer.backend.to_numpy
        self._waited = state["waited"] if state else 0
        theta = state.get("theta") if state else None
        self._theta = None if theta is None else trainer.backend.asarray(theta)
        self._kept = state.get("kept", self.best_epoch) if state else None
        self._before = sys.exception()  # of a fit that is called where one is handled

    def state(self) -> dict[str, Any]:
        """Return the best value, its epoch and parameters, and the epochs waited since."""
        theta = {} if self._theta is None else {"theta": self.theta}
        return {**super().state(), "waited": self._waited, "kept": self._kept, **theta}

    def expects(self, trainer: Fit, state: Mapping[str, Any]) -> Any:
        """Return the form of the state in a checkpoint."""
        theta = Vector(trainer.network.P)
        return {
            **super().expects(trainer, state),
            "waited": Whole(),
            "kept?": (Whole(1), None),
            "theta?": theta,
        }

    def on_epoch(self, trainer: Fit, progress: Progress) -> None:
        """Save the parameters of a better epoch; end the fit after too many others."""
        if self.improved(progress):
            self._waited, self._kept = 0, len(trainer.records)
            if self.restore_best:
                self._theta = trainer.session.own_theta
            return
        self._waited += 1
        if self._waited >= self.patience:
            best = (
                "; it was no finite number in any epoch"
                if self.best is None
                else f"; the best, {self.best:.6g}, was that of epoch {self.best_epoch}"
            )
            trainer.stop(f"{self.monitor} has not become better for {count(self._waited, 'epoch')}{best}")

    def on_fit_end(self, trainer: Fit) -> None:
        """Restore the best parameters and name their epoch, unless an error ends the fit."""
        error = sys.exception()  # Ctrl-C's is no Exception
        failed = isinstance(error, Exception) and error is not self._before
        if self._theta is not None and not failed:
            trainer.theta = self.theta
            trainer.kept = self._kept
