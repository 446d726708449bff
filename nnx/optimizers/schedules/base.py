"""What an optimizer asks of a schedule."""

from typing import Protocol, runtime_checkable

from nnx.array.namespace import Array


@runtime_checkable
class Schedule(Protocol):
    """What an optimizer asks of a schedule, given to it as its learning rate."""

    @property
    def learning_rate(self) -> float:
        """The rate that factor 1 stands for."""

    def factor(self, t: Array) -> Array:
        """Return what the learning rate is multiplied by after t steps, t being 0-d and floating."""
