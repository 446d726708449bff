"""Callbacks that remember: they begin anew with each fit, or go on where a checkpoint stands."""

from abc import abstractmethod
from typing import Any

from nnx.callbacks.base import Callback
from nnx.callbacks.fit import Fit


class Resumable(Callback):
    """A callback that is told at the start of a fit which state it goes on from, if any."""

    _restored: dict[str, Any] | None = None

    def restore(self, state: dict[str, Any]) -> None:
        """Keep the state for the start of the fit, which knows the trainer."""
        self._restored = state

    def on_fit_start(self, trainer: Fit, epochs: int) -> None:
        """Begin anew, or where the checkpoint stands."""
        state, self._restored = self._restored, None
        self.begin(trainer, state)

    @abstractmethod
    def begin(self, trainer: Fit, state: dict[str, Any] | None) -> None:
        """Begin a fit: from what `state` returned at the checkpoint, or anew where that is None."""
