"""The parameters of some epochs on the host, for an animation."""

from collections.abc import Mapping
from typing import Any

from nnx.callbacks.fit import Fit
from nnx.callbacks.progress import Progress
from nnx.callbacks.resumable import Resumable
from nnx.errors import integer
from nnx.support.registry import STEPS
from nnx.support.schema import Vector, Whole, check


class Snapshots(Resumable):
    """Saves theta at the beginning of a fit, after some of its epochs, equally far apart, and after the last one.

    When there are too many, it drops every other one, and from then on saves only every other epoch. A second fit
    with the same object goes on.

    Parameters
    ----------
    most : int
        The most snapshots, at least 2.

    Attributes
    ----------
    epochs : list of int
        The trainer's epochs at each snapshot.
    thetas : list of arrays (P,)
        NumPy arrays.

    Examples
    --------
    >>> import nnx
    >>> trainer = nnx.Trainer(nnx.mlp([1, 1]), backend="numpy")
    >>> snapshots = Snapshots(most=4)
    >>> _ = trainer.fit([[0.0, 1.0]], [0, 1], epochs=9, callbacks=snapshots)
    >>> snapshots.epochs
    [0, 4, 8, 9]
    """

    each_member = True

    def __init__(self, most: int = 60) -> None:
        self.most = integer("most", most, 2, expected="an integer of 2 or more")
        self.epochs: list[int] = []
        self.thetas: list[Any] = []
        self._every = 1

    def begin(self, trainer: Fit, state: dict[str, Any] | None) -> None:
        """Take the first one, or go on with those of the checkpoint."""
        if state is not None:
            self.epochs, self._every = list(state["epochs"]), state["every"]
            self.thetas = [state[f"theta{epoch}"] for epoch in self.epochs]
        elif not self.epochs or self.epochs[-1] > len(trainer.records):  # another trainer
            self.epochs, self.thetas, self._every = [], [], 1
            self._take(trainer)

    def state(self) -> dict[str, Any]:
        """Return the snapshots."""
        thetas = {f"theta{epoch}": theta for epoch, theta in zip(self.epochs, self.thetas, strict=True)}
        return {"epochs": self.epochs, "every": self._every, **thetas}

    def expects(self, trainer: Fit, state: Mapping[str, Any]) -> Any:
        """Return the form of the state in a checkpoint: an array for each of its epochs."""
        epochs = state.get("epochs")
        check("the snapshots' epochs", epochs, [Whole(0, STEPS)])
        thetas = {f"theta{epoch}": Vector(trainer.network.P) for epoch in epochs or ()}
        return {"epochs": list, "every": Whole(1), **thetas}

    def on_epoch(self, trainer: Fit, progress: Progress) -> None:
        """Take one if it is time."""
        last = progress.epoch == progress.epochs or trainer.stopped is not None
        if last or len(trainer.records) % self._every == 0:
            self._take(trainer)

    def _take(self, trainer: Fit) -> None:
        now = len(trainer.records)
        self.epochs.append(now)
        self.thetas.append(trainer.theta)
        while len(self.epochs) > self.most:
            self._every *= 2
            kept = [k for k, epoch in enumerate(self.epochs) if epoch % self._every == 0 or epoch == now]
            self.epochs = [self.epochs[k] for k in kept]
            self.thetas = [self.thetas[k] for k in kept]
