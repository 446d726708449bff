"""The part of a trainer that nnx's own callbacks use, and its numbers where it has members."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from nnx.metrics.history import History, middle
from nnx.model.network import Network
from nnx.port.base import Backend
from nnx.port.communicator import Communicator


class Fit(Protocol):
    """A trainer while it fits. `nnx.Trainer` has all of this; its documentation describes each name."""

    session: Any
    learning_rate: Any
    theta: Any
    kept: int | None

    @property
    def network(self) -> Network:
        """The network."""

    @property
    def backend(self) -> Backend:
        """Where it runs."""

    @property
    def communicator(self) -> Communicator:
        """The processes that train it together."""

    @property
    def dtype(self) -> str:
        """Its parameters' dtype."""

    @property
    def steps(self) -> int:
        """The steps done, over all fits."""

    @property
    def records(self) -> list[dict[str, float]]:
        """The numbers measured, one dict an epoch."""

    @property
    def history(self) -> History:
        """The same, one list a name."""

    @property
    def measures(self) -> tuple[str, ...]:
        """The names of the numbers that this fit measures."""

    @property
    def stopped(self) -> str | None:
        """Why the fit was told to end."""

    @property
    def resumes(self) -> bool:
        """Whether the fit was asked to go on from a checkpoint."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The parameters by name, NumPy arrays."""

    def stop(self, reason: str = ...) -> None:
        """End the fit after the current step or epoch."""

    def save(self, path: str | Path) -> None:
        """Write a model file."""


def steps_done(trainer: Fit) -> int:
    """Return the steps that a trainer has done; of members those of the one that has done the most."""
    return max(trainer.steps) if isinstance(trainer.steps, list) else trainer.steps


def epochs_done(trainer: Fit) -> int:
    """Return the epochs that a trainer has recorded; of members those of the one that has recorded the most."""
    records: Any = trainer.records
    each = getattr(trainer, "each", ())
    return max(map(len, records)) if each else len(records)


def rate_of(trainer: Fit) -> float:
    """Return the learning rate of the next step; of members the median."""
    rate = trainer.learning_rate
    return middle(rate) if isinstance(rate, list) else float(rate)


def why_ended(trainer: Fit) -> str | None:
    """Return why a fit was told to end; of members None while one of them trains."""
    stopped: Any = trainer.stopped
    if not isinstance(stopped, list):
        return None if stopped is None else str(stopped)
    errors = getattr(trainer, "errors", ())
    if any(why is None and error is None for why, error in zip(stopped, errors, strict=True)):
        return None
    return "all members have ended"
