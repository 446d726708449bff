"""The progress of a fit, for its callbacks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Progress:
    """The progress of a fit: after every step, and after every epoch with the measured numbers.

    Attributes
    ----------
    epoch, epochs : int
        The epoch, from 1, and the number of epochs of this fit.
    step : int
        The step in the epoch, from 1.
    steps : int or None
        The number of steps of an epoch; None as long as an iterable of batches has not ended.
    samples : int
        The samples trained on in this epoch so far.
    seconds : float
        Wall time since the epoch began, without the validation.
    measured : dict or None
        The epoch's numbers as in the history, once it is over; None before. Steps may still be queued on a
        GPU while it is None.
    done : int
        The steps that the trainer has done in all, over all fits; `trainer.steps` would wait for a GPU to say it.
    """

    epoch: int
    epochs: int
    step: int
    steps: int | None
    samples: int
    seconds: float
    measured: Mapping[str, float] | None
    done: int = 0
    read_cost: Callable[[], float] = field(repr=False, default=lambda: float("nan"))

    @property
    def cost(self) -> float:
        """J of the last step, before its update. Reading it waits for the step on a GPU."""
        return self.read_cost()
