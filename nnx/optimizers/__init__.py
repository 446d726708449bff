"""The optimizers by name: finding one, describing it for a model file, and its learning rate in a step."""

from collections.abc import Callable, Mapping
from copy import copy
from typing import Any

from nnx.array.namespace import Array, array_namespace
from nnx.errors import InputError, shown
from nnx.optimizers import schedules
from nnx.optimizers.adam import Adam, AdamW, Lion, NAdam
from nnx.optimizers.lbfgs import LBFGS
from nnx.optimizers.schedules import Schedule
from nnx.optimizers.updates import Adagrad, GradientDescent, Momentum, Nesterov, Optimizer, RMSprop, State
from nnx.support import registry
from nnx.support.members import Number

__all__ = [
    "LBFGS",
    "OPTIMIZERS",
    "Adagrad",
    "Adam",
    "AdamW",
    "GradientDescent",
    "Lion",
    "Momentum",
    "NAdam",
    "Nesterov",
    "Optimizer",
    "RMSprop",
    "Schedule",
    "State",
    "base_rate",
    "describe",
    "optimizer",
    "rate",
    "with_rate",
]

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "gradient_descent": GradientDescent,
    "momentum": Momentum,
    "nesterov": Nesterov,
    "adagrad": Adagrad,
    "rmsprop": RMSprop,
    "adam": Adam,
    "adamw": AdamW,
    "nadam": NAdam,
    "lion": Lion,
    "lbfgs": LBFGS,
}
"""Every optimizer that the command line and a model file may name."""


def optimizer(name: str | Optimizer, **arguments: Any) -> Optimizer:
    """Return the optimizer of this name; an Optimizer is returned as it is.

    A learning rate may be a float, a Schedule, or the description of one.

    Raises
    ------
    InputError
        For an unknown name (with the nearest known ones), unknown arguments, or an object that is no optimizer.

    Examples
    --------
    >>> optimizer("adam", learning_rate=0.01)
    Adam(learning_rate=0.01, beta1=0.9, beta2=0.999, epsilon=1e-08)
    >>> optimizer("momentum", learning_rate={"name": "polynomial", "learning_rate": 0.1, "steps": 500})
    Momentum(learning_rate=Polynomial(learning_rate=0.1, steps=500, end=0.0, power=1.0), momentum=0.9)
    """
    if not isinstance(name, str):
        if isinstance(name, type) or not all(
            hasattr(name, part) for part in ("init", "update", "learning_rate")
        ):
            raise InputError(
                f"the optimizer must be a name or an instance such as nnx.Adam(); given {shown(name)}"
            )
        return name
    described = arguments.get("learning_rate")
    if isinstance(described, Mapping):
        arguments["learning_rate"] = schedules.schedule(**{"name": None, **described})
    return registry.make("optimizer", OPTIMIZERS, name, arguments)


def describe(optimizer: Any) -> Mapping[str, Any]:
    """Return its name and its arguments as JSON values, as `optimizer` takes them.

    Raises
    ------
    InputError
        When it is not among OPTIMIZERS, or its schedule not among SCHEDULES: a model file could not name it.
    """
    found = registry.describe("optimizer", OPTIMIZERS, "nnx.OPTIMIZERS", optimizer)
    if isinstance(optimizer.learning_rate, Schedule):
        found["learning_rate"] = schedules.describe(optimizer.learning_rate)
    return found


def base_rate(optimizer: Optimizer) -> Number:
    """Return the first state["alpha"]: the learning rate, or the schedule's rate at the factor 1.

    Of a stack it may be a sequence, one for each member.

    Examples
    --------
    >>> base_rate(Adam(0.01)), base_rate(Adam(schedules.Cosine(0.02, steps=100)))
    (0.01, 0.02)
    """
    rate = optimizer.learning_rate
    return rate.learning_rate if isinstance(rate, Schedule) else rate


def with_rate(optimizer: Optimizer, rate: float | Schedule) -> Optimizer:
    """Return the optimizer with another learning rate.

    Examples
    --------
    >>> with_rate(GradientDescent(0.1), 0.2)
    GradientDescent(learning_rate=0.2)
    """
    other = copy(optimizer)
    object.__setattr__(other, "learning_rate", rate)  # optimizers are frozen
    return other


def rate(optimizer: Optimizer, alpha: Array, t: Array) -> Array:
    """Return the learning rate of a step: alpha, times the schedule's factor if there is a schedule.

    Parameters
    ----------
    optimizer : Optimizer
    alpha : array
        state["alpha"], 0-d or (K, 1).
    t : array
        state["t"], 0-d or (K, 1), including this step.
    """
    schedule = optimizer.learning_rate
    if isinstance(schedule, float) or not isinstance(schedule, Schedule):  # the first test is quick
        return alpha
    return alpha * schedule.factor(array_namespace(alpha).astype(t - 1, alpha.dtype))
