"""A schedule by a function of your own."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from nnx.array.namespace import Array
from nnx.errors import InputError, above_zero
from nnx.model import custom
from nnx.optimizers.schedules.by_name import OURS
from nnx.support.members import Number, each


@dataclass(frozen=True)
class Custom:
    """rate = learning_rate * factor(t), by a function of your own.

    Parameters
    ----------
    learning_rate : float
        The rate at factor 1.
    factor : callable
        t -> the factor. t is the number of steps done before, a floating 0-d array. Use the standard's functions,
        since it is part of the step (`xp.where` for `if`).
    name : str or None
        Its name in model files, and in a program that has registered the function (`nnx.register_schedule`). None: the
        function's own name.

    Raises
    ------
    InputError
        When the rate is not above 0, nnx has a schedule of that name itself, or the function reads a number of t, has
        no name, or returns no such array.

    Examples
    --------
    >>> import numpy as np
    >>> import nnx
    >>> def halved_at_100(t):
    ...     return nnx.array_namespace(t).where(t < 100, 1.0, 0.5 + 0 * t)
    >>> Custom(0.1, halved_at_100).factor(np.asarray([0.0, 99.0, 100.0]))
    array([1. , 1. , 0.5])
    """

    learning_rate: Number
    factor: Callable[[Array], Array]
    name: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "learning_rate", each("learning_rate", self.learning_rate, above_zero))
        object.__setattr__(self, "name", checked_name(self.factor, self.name))


def checked_name(factor: Callable[[Array], Array], given: str | None) -> str:
    """Check a factor of a user, and return its name."""
    name = custom.name_of("schedule", factor, given)
    if name in OURS:
        raise InputError(f"nnx has a schedule named {name!r} itself; choose another name")
    for dtype in ("float32", "float64"):
        t = custom.array(1.0, dtype)
        custom.check_portable(f"the schedule {name!r}", factor, t)
        custom.check_array(f"the schedule {name!r}", factor(t), t, ((),))
        first = custom.array(0.0, dtype)
        with custom.quiet():
            found = float(factor(first))
        if not 0 <= found < math.inf:
            raise InputError(
                f"the schedule {name!r} gives {found:g} in the first step, t = 0; expected a number >= 0"
            )
    return name
