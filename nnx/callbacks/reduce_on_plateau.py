"""A lower learning rate when a number gets no better."""

from collections.abc import Mapping
from typing import Any

from nnx.array import host
from nnx.callbacks.fit import Fit
from nnx.callbacks.monitor import Monitor
from nnx.callbacks.progress import Progress
from nnx.errors import above_zero, between, integer, positive_int
from nnx.support.schema import Whole


class ReduceOnPlateau(Monitor):
    """Multiplies the learning rate when a measured number has not become better for some epochs.

    It is PyTorch's ReduceLROnPlateau with threshold_mode="abs", and Keras's. It lowers alpha; a schedule goes on
    multiplying alpha with its factor.

    Parameters
    ----------
    monitor : str
        The number's name in the history.
    factor : float
        The factor of alpha; between 0 and 1.
    patience : int
        The epochs in a row without a better value after which alpha is lowered, as in Keras; PyTorch's waits for one
        more.
    min_delta : float
        By how much, at least 0, a value must be better than the best to count; Keras's default.
    cooldown : int
        Epochs after a reduction that do not count for patience, as in PyTorch.
    min_learning_rate : float
        The least alpha, at least 0. (alpha also stays above the smallest number of the trainer's dtype.)
    mode : {"auto", "min", "max"}
        Whether the least or the greatest value is best; "auto" decides by the name.

    Raises
    ------
    InputError
        For a parameter out of its range; at the start of the fit for a name that is not measured.

    Examples
    --------
    >>> import nnx
    >>> trainer = nnx.Trainer(nnx.mlp([1, 1], output="identity"), nnx.GradientDescent(0.5), backend="numpy")
    >>> plateau = ReduceOnPlateau(monitor="loss", factor=0.5, patience=2, min_delta=100)
    >>> _ = trainer.fit([[-1, 1]], [-1, 1], epochs=5, callbacks=plateau)
    >>> trainer.learning_rate
    0.125
    """

    def __init__(
        self,
        monitor: str = "validation_loss",
        factor: float = 0.1,
        patience: int = 10,
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_learning_rate: float = 0.0,
        mode: str = "auto",
    ) -> None:
        super().__init__(monitor, min_delta, mode)
        self.factor = above_zero("factor", factor, 1)
        self.patience = positive_int("patience", patience)
        self.cooldown = integer("cooldown", cooldown)
        self.min_learning_rate = between("min_learning_rate", min_learning_rate, 0)
        self._waited = self._cooling = 0

    def begin(self, trainer: Fit, state: dict[str, Any] | None) -> None:
        """Forget an earlier fit, or go on with the checkpoint's count."""
        super().begin(trainer, state)
        self._waited, self._cooling = (state["waited"], state["cooling"]) if state else (0, 0)

    def state(self) -> dict[str, Any]:
        """Return the best value, its epoch, and the epochs waited and to cool down."""
        return {**super().state(), "waited": self._waited, "cooling": self._cooling}

    def expects(self, trainer: Fit, state: Mapping[str, Any]) -> Any:
        """Return the form of the state in a checkpoint."""
        return {**super().expects(trainer, state), "waited": Whole(), "cooling": Whole()}

    def on_epoch(self, trainer: Fit, progress: Progress) -> None:
        """Lower the learning rate after too many epochs that are no better."""
        self._waited = 0 if self.improved(progress) else self._waited + 1
        if self._cooling:
            self._cooling, self._waited = self._cooling - 1, 0
        if self._waited >= self.patience:
            self._cooling, self._waited = self.cooldown, 0
            alpha = float(
                trainer.backend.to_numpy(trainer.session.read("alpha")["alpha"])
            )  # not the schedule's
            lowered = max(alpha * self.factor, self.min_learning_rate, host.smallest(trainer.dtype))
            if lowered < alpha:
                trainer.learning_rate = lowered
