"""Schedules with lengths in epochs: the first fit converts them to steps."""

from dataclasses import dataclass, fields
from typing import Any, NoReturn

from nnx.array.namespace import Array
from nnx.errors import InputError, above_zero, between, count, scalar, unknown
from nnx.support.members import Number, each, varied

LENGTHS = ("steps", "every", "warmup")
"""The arguments of schedules that count steps."""


@dataclass(frozen=True, repr=False)
class InEpochs:
    """A schedule with lengths in epochs. `Trainer.fit` replaces it by one in steps.

    Attributes
    ----------
    kind : class
        The schedule's class.
    learning_rate : float
    epochs : float or None
        The length; None: the epochs of the first fit.
    arguments : tuple of (name, value)
        The other arguments, lengths in epochs.
    """

    kind: Any
    learning_rate: Number
    epochs: float | None
    arguments: tuple[tuple[str, float], ...]

    def __post_init__(self) -> None:
        names = {field.name for field in fields(self.kind)} - {"learning_rate"}
        if self.epochs is not None:
            if "steps" not in names:
                raise InputError(f"{self._name} has no end, so it takes no epochs; its length is every=")
            object.__setattr__(self, "epochs", above_zero("epochs", self.epochs))
        object.__setattr__(self, "learning_rate", each("learning_rate", self.learning_rate, above_zero))
        given: dict[str, Any] = {}
        for name, value in self.arguments:
            if name not in names - {"steps"}:
                known = sorted({*names, "epochs"} - {"steps"})
                raise unknown(f"argument of {self._name}.in_epochs", name, known)
            given[name] = between(name, value, 0) if name in LENGTHS else scalar(value)
        object.__setattr__(self, "arguments", tuple(given.items()))
        if self.epochs is not None and given.get("warmup", 0) >= self.epochs:
            raise InputError(
                f"warmup must be less than epochs={self.epochs:g}, which contain it; not {given['warmup']:g}"
            )
        self._in_steps(1000, 1000)  # so that all arguments are checked now

    def factor(self, t: Array) -> NoReturn:
        """Raise an InputError: the number of steps in an epoch is not known yet."""
        raise InputError(
            f"{self!r} counts epochs, and the first fit says how many steps these have; before it there is no rate"
        )

    def bound(self, steps: int | None, epochs: int) -> Any:
        """Return the schedule in steps.

        Parameters
        ----------
        steps : int or None
            The steps of an epoch; None: not known.
        epochs : int
            The epochs of the fit.

        Raises
        ------
        InputError
            When the steps are not known, or too few.
        """
        if steps is None:
            raise InputError(
                f"{self!r} counts epochs, and how many steps an epoch of these batches has is not known before its "
                "end; give steps=, a list of batches, or a schedule in steps"
            )
        try:
            return self._in_steps(steps, epochs)
        except InputError as error:
            raise InputError(f"{self!r}, {count(steps, 'step')} an epoch: {error}") from None

    def _in_steps(self, steps: int, epochs: int) -> Any:
        names = {field.name for field in fields(self.kind)}
        given: dict[str, float] = (
            {"every": 1, **dict(self.arguments)} if "every" in names else dict(self.arguments)
        )
        if "steps" in names:
            given["steps"] = epochs if self.epochs is None else self.epochs
        for name in LENGTHS:
            if given.get(name):
                given[name] = max(1, round(given[name] * steps))
        return self.kind(self.learning_rate, **given)

    @property
    def _name(self) -> str:
        return str(getattr(self.kind, "__name__", self.kind))

    def __repr__(self) -> str:
        given = [
            f"{name}={value:g}"
            for name, value in (("epochs", self.epochs), *self.arguments)
            if value is not None
        ]
        rate = str(self.learning_rate) if varied(self) else f"{self.learning_rate:g}"
        return f"{self._name}.in_epochs({', '.join([rate, *given])})"


class InSteps:
    """The base of schedules with lengths in steps."""

    @classmethod
    def in_epochs(cls, learning_rate: Number, epochs: float | None = None, **arguments: float) -> InEpochs:
        """Return this schedule with its lengths in epochs, which the first fit converts to steps.

        Later fits, model files and resumed fits have the same steps, whatever their batch size.

        Parameters
        ----------
        learning_rate : float
        epochs : float or None
            In place of `steps`; None: all epochs of the first fit.
        **arguments
            The schedule's other arguments; `warmup` and `every` are epochs. Fractions are rounded to steps.

        Raises
        ------
        InputError
            For an argument that the schedule does not take, or one out of its range.

        Examples
        --------
        >>> import numpy as np
        >>> import nnx
        >>> schedule = nnx.schedules.Cosine.in_epochs(0.01, epochs=10, warmup=0.5)
        >>> trainer = nnx.Trainer(nnx.mlp([2, 1]), nnx.Adam(schedule), backend="numpy")
        >>> _ = trainer.fit(np.zeros((2, 100)), np.zeros(100), epochs=1, batch_size=10)
        >>> trainer.optimizer.learning_rate
        Cosine(learning_rate=0.01, steps=100, warmup=5, end=0.0)
        """
        return InEpochs(cls, learning_rate, epochs, tuple(arguments.items()))
