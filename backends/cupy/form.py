"""What stands in a kernel's text for sizes: the number of samples by its name, all others as they are.

A last batch is shorter than the others, and compiling takes a second. So the text of a kernel must not depend on the
number of samples m. Which numbers do is found by comparing: the same function, traced for another number of samples,
differs in these alone.
"""

from math import prod
from typing import Any

from nnx.compiler import Op, Value
from nnx.compiler.schedule import Schedule
from nnx.support.tree import leaves

LARGE = (1 << 31) - 1
"""The elements of the largest arrays whose elements have numbers of 32 bits."""


class Form:
    """A schedule, with each size as a text.

    Parameters
    ----------
    schedule : Schedule
    other : Schedule or None
        That of the same function for another number of samples. None, or one that does something else: all sizes are
        literals.
    """

    def __init__(self, schedule: Schedule, other: Schedule | None = None) -> None:
        self.schedule, self.graph = schedule, schedule.graph
        self.constants = self.graph.constants
        self._other = other if other is not None and _alike(schedule, other) else None
        self._m = (_samples(schedule), _samples(other)) if self._other and other else (1, 1)
        values = [*self._other.graph.inputs, *self._other.graph.makers] if self._other else []
        self._others = {x.number: x for x in values}

    @property
    def m(self) -> int:
        """The number of samples."""
        return self._m[0]

    @property
    def index(self) -> str:
        """The dtype of the number of an element: of the largest array, to which a loop adds its step once too often."""
        return (
            "uint64"
            if max(prod(place.shape) for place in self.schedule.places.values()) > LARGE
            else "uint32"
        )

    def size(self, value: Value, axis: int | None = None) -> str:
        """Return the elements of a value along an axis, or all of them."""
        other = self._other_of(value)
        if axis is None:
            return self._text(value.size, other.size)
        return self._text(value.shape[axis], other.shape[axis])

    def strides(self, value: Value) -> tuple[str, ...]:
        """Return the strides of a value, in elements."""
        found = self.schedule.place(value).strides
        others = self._other.place(self._other_of(value)).strides if self._other else found
        return tuple(map(self._text, found, others))

    def depends(self, op: Op, k: int) -> bool:
        """Whether argument k of an operation, a number, depends on the number of samples."""
        if self._other is None:
            return False
        arg = op.args[k]
        other = self._other.graph.makers[self._other_of(op.out)].args[k]
        return bool(self.schedule.literal(arg) != self._other.literal(other))

    def _other_of(self, value: Value) -> Value:
        return self._others[value.number] if self._other else value

    def _text(self, n: int, other: int) -> str:
        m, other_m = self._m
        if n == other or n * other_m != other * m or n % m:
            return str(n)
        return "m" if n == m else f"{n // m} * m"


def _samples(schedule: Schedule) -> int:
    """Return the last axis of the first array of the batch."""
    found = [x for x in leaves(schedule.graph.arguments[1:2]) if isinstance(x, Value) and x.ndim]
    return found[0].shape[-1] if found else 1


def _alike(schedule: Schedule, other: Schedule) -> bool:
    """Whether two schedules do the same, but for sizes and numbers."""
    if _samples(schedule) == _samples(other) or min(_samples(schedule), _samples(other)) < 1:
        return False
    return [_outline(x) for x in schedule.instructions] == [_outline(x) for x in other.instructions] and [
        _op(op) for op in schedule.graph.ops
    ] == [_op(op) for op in other.graph.ops]


def _outline(instruction: Any) -> Any:
    ops = getattr(instruction, "ops", None) or (getattr(instruction, "op", None),)
    return type(instruction), [op.out.number for op in ops if op is not None]


def _op(op: Op) -> Any:
    args = [x.number if isinstance(x, Value) else type(x) for x in op.args]
    return op.name, args, op.out.number, op.out.dtype, op.out.ndim
