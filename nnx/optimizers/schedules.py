"""Schedules: the learning rate as a function of the number of steps done.

A schedule is data plus one pure function, its factor: rate of a step = learning_rate * factor(t), t being the number
of steps done before it, 0 in the first. It counts steps; `Cosine.in_epochs` and its like count epochs, which the fit
makes steps of. After its last step a schedule stays at its end.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from typing import Any, Protocol, runtime_checkable

from nnx.array.namespace import Array, array_namespace
from nnx.errors import InputError, above_zero, one_of
from nnx.model import custom
from nnx.optimizers.in_epochs import InEpochs, InSteps
from nnx.support import registry
from nnx.support.registry import numbers


@runtime_checkable
class Schedule(Protocol):
    """What an optimizer asks of a schedule, given to it as its learning rate."""

    @property
    def learning_rate(self) -> float:
        """The rate that factor 1 stands for."""

    def factor(self, t: Array) -> Array:
        """Return what the learning rate is multiplied by after t steps, t being 0-d and floating."""


@dataclass(frozen=True)
class Constant:
    """rate = learning_rate in every step: what a float stands for.

    Parameters
    ----------
    learning_rate : float
        Greater than 0.
    """

    learning_rate: float

    def __post_init__(self) -> None:
        numbers(self)

    def factor(self, t: Array) -> Array:
        """Return 1."""
        return array_namespace(t).ones_like(t)


@dataclass(frozen=True)
class StepDecay(InSteps):
    """rate = learning_rate * decay^floor(t / every).

    PyTorch's StepLR; Keras's ExponentialDecay with staircase=True.

    Parameters
    ----------
    learning_rate : float
        Of the first step.
    every : int
        Steps at one rate.
    decay : float
        What the rate is then multiplied by; between 0 and 1. 0.1, as PyTorch's gamma; Keras has no default.

    Examples
    --------
    >>> import numpy as np
    >>> StepDecay(0.3, every=2, decay=0.5).factor(np.arange(6.0))
    array([1.  , 1.  , 0.5 , 0.5 , 0.25, 0.25])
    """

    learning_rate: float
    every: int
    decay: float = 0.1

    def __post_init__(self) -> None:
        numbers(self, decay=1)

    def factor(self, t: Array) -> Array:
        """Return decay^floor(t / every)."""
        # t // every, not floor(t / every): some GPUs divide by multiplying with 1 / every, a bit less than exact.
        return self.decay ** (t // self.every)


@dataclass(frozen=True)
class Exponential(InSteps):
    """rate = learning_rate * decay^(t / every): a StepDecay without its steps.

    With every=1 PyTorch's ExponentialLR; Keras's ExponentialDecay.

    Parameters
    ----------
    learning_rate : float
        Of the first step.
    every : int
        The steps in which the rate is multiplied by decay once.
    decay : float
        Between 0 and 1. 0.1, as in StepDecay; PyTorch and Keras have no default.

    Examples
    --------
    >>> import numpy as np
    >>> Exponential(0.3, every=2, decay=0.25).factor(np.arange(5.0))
    array([1.    , 0.5   , 0.25  , 0.125 , 0.0625])
    """

    learning_rate: float
    every: int
    decay: float = 0.1

    def __post_init__(self) -> None:
        numbers(self, decay=1)

    def factor(self, t: Array) -> Array:
        """Return decay^(t / every)."""
        return self.decay ** (t / self.every)


@dataclass(frozen=True)
class InverseScaling(InSteps):
    """rate = learning_rate / (1 + samples floor(t / every))^power.

    As it stands, learning_rate / k^power in the k-th step. scikit-learn's "invscaling" counts samples and changes
    the rate once an epoch: give it as `samples` the samples, as `every` the steps of an epoch.

    Parameters
    ----------
    learning_rate : float
        Of the first step.
    power : float
        0.5, scikit-learn's power_t.
    every : int
        Steps at one rate.
    samples : int
        What is counted in so many steps.

    Examples
    --------
    >>> import numpy as np
    >>> InverseScaling(0.3, power=1).factor(np.arange(4.0)).round(3)
    array([1.   , 0.5  , 0.333, 0.25 ])
    >>> InverseScaling(0.3, every=2, samples=99).factor(np.arange(4.0))
    array([1. , 1. , 0.1, 0.1])
    """

    learning_rate: float
    power: float = 0.5
    every: int = 1
    samples: int = 1

    def __post_init__(self) -> None:
        numbers(self)

    def factor(self, t: Array) -> Array:
        """Return 1 / (1 + samples floor(t / every))^power."""
        return (1 + self.samples * (t // self.every)) ** -self.power


@dataclass(frozen=True)
class Polynomial(InSteps):
    """rate = learning_rate (end + (1 - end) (1 - t / steps)^power), for t up to `steps`.

    PyTorch's PolynomialLR and Keras's PolynomialDecay.

    Parameters
    ----------
    learning_rate : float
        Of the first step.
    steps : int
        After so many the rate is at its end.
    end : float
        The last rate as a fraction of the learning rate; at least 0, below 1. 0, as PyTorch; Keras gives the rate
        itself, 0.0001.
    power : float
        1 is a straight line.

    Examples
    --------
    >>> import numpy as np
    >>> Polynomial(0.3, steps=4, end=0.5).factor(np.arange(6.0))
    array([1.   , 0.875, 0.75 , 0.625, 0.5  , 0.5  ])
    """

    learning_rate: float
    steps: int
    end: float = 0.0
    power: float = 1.0

    def __post_init__(self) -> None:
        numbers(self, "end", end=1)

    def factor(self, t: Array) -> Array:
        """Return end + (1 - end) (1 - t / steps)^power."""
        left = array_namespace(t).maximum(self.steps - t, 0.0) / self.steps
        return self.end + (1 - self.end) * left**self.power


def _half_cosine(t: Array, first: float, last: float, start: float, end: float) -> Array:
    """Half a cosine from `start` in step `first` to `end` in step `last`, constant before and after."""
    xp = array_namespace(t)
    left = xp.clip((last - t) / (last - first), 0.0, 1.0)
    # (1 + cos(pi p)) / 2 of p = 1 - left, which is this square: exact at the end, with all its digits near it
    return end + (start - end) * xp.sin(math.pi / 2 * left) ** 2


@dataclass(frozen=True)
class Cosine(InSteps):
    """Half a cosine from the learning rate to its end, after a linear warm-up.

    rate = learning_rate (t + 1) / (warmup + 1) for t < warmup (Goyal et al., 2017,
    https://arxiv.org/abs/1706.02677, section 2.2), then with p = (t - warmup) / (steps - warmup) up to 1
    learning_rate (end + (1 - end) (1 + cos(pi p)) / 2) (Loshchilov and Hutter, 2017,
    https://arxiv.org/abs/1608.03983, eq. 5, without restarts).

    PyTorch's CosineAnnealingLR, which would rise again after `steps`, and Keras's CosineDecay. The warm-up does not
    start at 0, as Keras's does, since that first step would be lost.

    Parameters
    ----------
    learning_rate : float
        The highest rate.
    steps : int
        After so many, those of the warm-up among them, the rate is at its end.
    warmup : int
        Steps before the highest rate; less than `steps`.
    end : float
        The last rate as a fraction of the learning rate; at least 0, below 1.

    Examples
    --------
    >>> import numpy as np
    >>> Cosine(0.3, steps=5, warmup=1, end=0.1).factor(np.arange(7.0)).round(3)
    array([0.5  , 1.   , 0.868, 0.55 , 0.232, 0.1  , 0.1  ])
    """

    learning_rate: float
    steps: int
    warmup: int = 0
    end: float = 0.0

    def __post_init__(self) -> None:
        numbers(self, "warmup", "end", end=1)
        if self.warmup >= self.steps:
            raise InputError(
                f"warmup must be less than steps={self.steps}, which contain it; not {self.warmup}"
            )

    def factor(self, t: Array) -> Array:
        """Return the warm-up's factor times the cosine's: one of the two is 1."""
        warm = array_namespace(t).minimum((t + 1) / (self.warmup + 1), 1.0)
        return warm * _half_cosine(t, self.warmup, self.steps, 1.0, self.end)


@dataclass(frozen=True)
class OneCycle(InSteps):
    """Half a cosine up to the learning rate, then half a cosine down to next to nothing, all in `steps`.

    Smith and Topin, 2018, https://arxiv.org/abs/1708.07120, as PyTorch's OneCycleLR with its defaults has it: the
    rate only, the momentum stays. The rate is highest in step t = rise * steps - 1, and at its end in the last,
    t = steps - 1.

    Parameters
    ----------
    learning_rate : float
        The highest rate: PyTorch's max_lr.
    steps : int
        All steps of the training: PyTorch's total_steps.
    rise : float
        The fraction of the steps in which the rate rises: PyTorch's pct_start. Below 1, and rise * steps above 1.
    start, end : float
        The first and the last rate as fractions of the learning rate; start between 0 and 1, end at least 0, below
        1. PyTorch gives 1 / start as div_factor, and start / end as final_div_factor.

    Examples
    --------
    >>> import numpy as np
    >>> OneCycle(0.3, steps=6, rise=0.5, start=0.1, end=0).factor(np.arange(8.0)).round(3)
    array([0.1 , 0.55, 1.  , 0.75, 0.25, 0.  , 0.  , 0.  ])
    """

    learning_rate: float
    steps: int
    rise: float = 0.3
    start: float = 1 / 25
    end: float = 1 / 25e4

    def __post_init__(self) -> None:
        numbers(self, "end", rise=1, start=1, end=1)
        if self.rise * self.steps <= 1:
            raise InputError(f"rise must be above 1 / steps = {1 / self.steps:.3g}, not {self.rise:g}")

    def factor(self, t: Array) -> Array:
        """Return the rise's factor times the fall's: one of the two is 1."""
        top = self.rise * self.steps - 1
        return _half_cosine(t, 0, top, self.start, 1.0) * _half_cosine(t, top, self.steps - 1, 1.0, self.end)


@dataclass(frozen=True)
class Custom:
    """rate = learning_rate * factor(t), by a function of your own.

    Parameters
    ----------
    learning_rate : float
        The rate that factor 1 stands for.
    factor : callable
        t -> the factor, t being the number of steps done before, a floating array without axes: written with the
        standard's functions, since it is part of the step (`xp.where` for `if`).
    name : str or None
        What a model file says, and a program that has registered the function (`nnx.register_schedule`). None: the
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

    learning_rate: float
    factor: Callable[[Array], Array]
    name: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "learning_rate", above_zero("learning_rate", self.learning_rate))
        object.__setattr__(self, "name", _checked_name(self.factor, self.name))


def _checked_name(factor: Callable[[Array], Array], given: str | None) -> str:
    """Return the name of a factor of one's own, once it is known to be one."""
    name = custom.name_of("schedule", factor, given)
    if name in _OURS:
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


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "constant": Constant,
    "step_decay": StepDecay,
    "exponential": Exponential,
    "inverse_scaling": InverseScaling,
    "polynomial": Polynomial,
    "cosine": Cosine,
    "one_cycle": OneCycle,
}
"""Every schedule that the command line and a model file may name."""

_OURS = frozenset(SCHEDULES)


def register(factor: Callable[[Array], Array], name: str | None = None) -> Callable[[Array], Array]:
    """Make the factor of a `Custom` schedule known by its name to `nnx.Trainer.load`; usable as a decorator.

    Model files name their schedules and hold no code, so a function of your own must be registered before a model that
    was trained with it is loaded. Registering another under the same name replaces it.

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
    name = _checked_name(factor, name)

    def custom(learning_rate: float) -> Schedule:
        return Custom(learning_rate, factor, name)

    SCHEDULES[name] = custom
    return factor


def schedule(name: str, **arguments: Any) -> Schedule:
    """Return the schedule of this name; with `in_epochs`, a dict of arguments, the one whose lengths are epochs.

    Raises
    ------
    InputError
        For an unknown name (with the nearest known ones), or arguments that it does not take.

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
    """Whether a learning rate is a schedule with an end, whose last epochs are its best.

    Examples
    --------
    >>> has_end(Cosine.in_epochs(0.01)), has_end(StepDecay(0.01, every=10)), has_end(0.01)
    (True, False, False)
    """
    kind = rate.kind if isinstance(rate, InEpochs) else type(rate)
    return "steps" in getattr(kind, "__dataclass_fields__", ())


def parameters(name: str) -> tuple[str, ...]:
    """Return the names of what the schedule of this name takes.

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
    """Return a description of types that JSON has: its name and its arguments, as `schedule` takes them.

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
