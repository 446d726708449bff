"""Callbacks that remember: they begin anew with each fit, or go on where a checkpoint stands."""

from abc import abstractmethod
from collections.abc import Callable
from numbers import Real
from typing import TYPE_CHECKING, Any

from nnx.callbacks.base import Callback
from nnx.errors import InputError

if TYPE_CHECKING:
    from nnx.trainer import Trainer


class Resumable(Callback):
    """A callback that is told at the start of a fit which state it goes on from, if any."""

    _restored: dict[str, Any] | None = None

    def restore(self, state: dict[str, Any]) -> None:
        """Keep the state for the start of the fit, which knows the trainer."""
        self._restored = state

    def on_fit_start(self, trainer: "Trainer", epochs: int) -> None:
        """Begin anew, or where the checkpoint stands."""
        state, self._restored = self._restored, None
        self.begin(trainer, state)

    @abstractmethod
    def begin(self, trainer: "Trainer", state: dict[str, Any] | None) -> None:
        """Begin a fit: from what `state` returned at the checkpoint, or anew where that is None."""


def number(name: str, value: object, expected: str, fits: Callable[[float], bool]) -> float:
    """Return value as a float, or raise an InputError that names it and says what was expected.

    Examples
    --------
    >>> number("decay", 0.9, "between 0 and 1", lambda x: 0 < x < 1)
    0.9
    """
    if not isinstance(value, Real) or isinstance(value, bool) or not fits(float(value)):
        raise InputError(f"{name} must be {expected}, not {value!r}")
    return float(value)
