"""The interface of a schedule."""

from typing import Protocol, runtime_checkable

from nnx.array.namespace import Array


@runtime_checkable
class Schedule(Protocol):
    """The interface that an optimizer calls, if its learning rate is a schedule."""

    @property
    def learning_rate(self) -> float:
        """The rate at factor 1."""

    def factor(self, t: Array) -> Array:
        """Return the factor of the learning rate after t steps; t is 0-d and floating."""
