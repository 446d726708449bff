"""The interface of a schedule."""

from typing import Protocol, runtime_checkable

from nnx.array.namespace import Array
from nnx.support.members import Number


@runtime_checkable
class Schedule(Protocol):
    """The interface that an optimizer calls, if its learning rate is a schedule."""

    @property
    def learning_rate(self) -> Number:
        """The rate at factor 1."""

    def factor(self, t: Array) -> Array:
        """Return the factor of the learning rate after t steps; t is 0-d, or (K, 1) of a stack, and floating."""
