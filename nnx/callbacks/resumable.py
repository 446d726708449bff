"""Callbacks with a state, which each fit begins anew or takes from a checkpoint."""

from abc import abstractmethod
from typing import Any

from nnx.callbacks.base import Callback
from nnx.callbacks.fit import Fit


class Resumable(Callback):
    """A callback that gets its state from a checkpoint, if there is one, at the start of a fit."""

    _restored: dict[str, Any] | None = None

    def restore(self, state: dict[str, Any]) -> None:
        """Save the state for the start of the fit, which has the trainer."""
        self._restored = state

    def on_fit_start(self, trainer: Fit, epochs: int) -> None:
        """Begin anew, or with the checkpoint's state."""
        state, self._restored = self._restored, None
        self.begin(trainer, state)

    @abstractmethod
    def begin(self, trainer: Fit, state: dict[str, Any] | None) -> None:
        """Begin a fit with the state of the checkpoint, or anew if that is None."""
