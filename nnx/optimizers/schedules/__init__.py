"""Schedules: the learning rate as a function of the number of steps done.

A schedule has numbers and one pure function, its factor. The rate of a step is learning_rate * factor(t), with t the
number of steps before it, 0 in the first. It counts steps; `Cosine.in_epochs` and the like count epochs, which the fit
converts to steps. After its last step the factor of a schedule stays as it is.
"""

from collections.abc import Callable
from inspect import signature
from typing import Any

from nnx.array.namespace import Array
from nnx.errors import InputError, one_of
from nnx.optimizers.in_epochs import InEpochs
from nnx.optimizers.schedules.base import Schedule
from nnx.optimizers.schedules.by_name import SCHEDULES
from nnx.optimizers.schedules.cosine import Cosine, CosLog, OneCycle
from nnx.optimizers.schedules.custom import Custom, checked_name
from nnx.optimizers.schedules.falling import Constant, Exponential, InverseScaling, Polynomial, StepDecay
from nnx.support import registry

__all__ = [
    "SCHEDULES",
    "Constant",
    "CosLog",
    "Cosine",
    "Custom",
    "Exponential",
    "InverseScaling",
    "OneCycle",
    "Polynomial",
    "Schedule",
    "StepDecay",
    "describe",
    "has_end",
    "parameters",
    "register",
    "schedule",
]


def register(factor: Callable[[Array], Array], name: str | None = None) -> Callable[[Array], Array]:
    """Make the factor of a `Custom` schedule known by its name to `nnx.Trainer.load`; usable as a decorator.

    Model files name their schedules and have no code. So register a function of your own before you load a model that
    was trained with it. Registering another one under the same name replaces it.

    Parameters
    ----------
    factor : callable
        See `Custom`.
    name : str or None
        None: the function's own name.

    Raises
    ------
    InputError
        As `Custom` does.
    """
    name = checked_name(factor, name)

    def custom(learning_rate: float) -> Schedule:
        return Custom(learning_rate, factor, name)

    SCHEDULES[name] = custom
    return factor


def schedule(name: str, **arguments: Any) -> Schedule:
    """Return the schedule of this name; with `in_epochs`, a dict of arguments, one with lengths in epochs.

    Raises
    ------
    InputError
        For an unknown name (with the nearest known ones), or unknown arguments.

    Examples
    --------
    >>> schedule("cosine", learning_rate=0.01, steps=1000)
    Cosine(learning_rate=0.01, steps=1000, warmup=0, end=0.0)
    """
    if (lengths := arguments.pop("in_epochs", None)) is None:
        return registry.make("schedule", SCHEDULES, name, arguments)
    one_of("schedule", name, SCHEDULES)
    if not hasattr(kind := SCHEDULES[name], "in_epochs"):
        raise InputError(f"the schedule {name!r} has no lengths that could be in epochs")
    found: InEpochs = kind.in_epochs(**arguments, **lengths)
    return found


def has_end(rate: Any) -> bool:
    """Return whether a learning rate is a schedule with an end; its last epochs are the best then.

    Examples
    --------
    >>> has_end(Cosine.in_epochs(0.01)), has_end(StepDecay(0.01, every=10)), has_end(0.01)
    (True, False, False)
    """
    kind = rate.kind if isinstance(rate, InEpochs) else type(rate)
    return "steps" in getattr(kind, "__dataclass_fields__", ())


def parameters(name: str) -> tuple[str, ...]:
    """Return the names of the arguments of the schedule of this name.

    Raises
    ------
    InputError
        For an unknown name (with the nearest known ones).

    Examples
    --------
    >>> parameters("cosine")
    ('learning_rate', 'steps', 'warmup', 'end')
    """
    one_of("schedule", name, SCHEDULES)
    return tuple(signature(SCHEDULES[name]).parameters)


def describe(schedule: Any) -> dict[str, Any]:
    """Return its name and its arguments as JSON values, as `schedule` takes them.

    Raises
    ------
    InputError
        When it is not among SCHEDULES: a model file could not name it.
    """
    names = {kind: name for name, kind in SCHEDULES.items()}
    if isinstance(schedule, InEpochs) and schedule.kind in names:
        given = {"epochs": schedule.epochs, **dict(schedule.arguments)}
        lengths = {key: value for key, value in given.items() if value is not None}
        return {"name": names[schedule.kind], "learning_rate": schedule.learning_rate, "in_epochs": lengths}
    if isinstance(schedule, Custom):
        return {"name": schedule.name, "learning_rate": schedule.learning_rate}
    return registry.describe("schedule", SCHEDULES, "nnx.schedules.SCHEDULES", schedule)
