"""The part of a trainer that nnx's own callbacks use."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from nnx.metrics.history import History
from nnx.model.network import Network
from nnx.port.base import Backend


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
