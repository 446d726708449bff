"""Where a fit stands, as its callbacks are told."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Progress:
    """Where a fit stands: after every step, and after every epoch with what was measured.

    Attributes
    ----------
    epoch, epochs : int
        The epoch, from 1, and how many this fit has.
    step : int
        The step in the epoch, from 1.
    steps : int or None
        How many steps an epoch has; None where an iterable of batches has not told yet.
    samples : int
        The samples trained on in this epoch so far.
    seconds : float
        Wall time since the epoch began, validation not counted.
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
