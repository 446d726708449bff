"""What a fit tells while it runs, and of what it leaves: progress, history, divergence."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from nnx.errors import DivergenceError
from nnx.optimizers import Optimizer

History = dict[str, list[float]]
"""One number an epoch under each name: "loss", and with validation "validation_loss" and its score."""


@dataclass(frozen=True)
class Progress:
    """Where a fit stands: after every step, and after every epoch with what was measured.

    Attributes
    ----------
    epoch, epochs : int
        The epoch, from 1, and how many this fit has.
    step, steps : int
        The step in the epoch, from 1, and how many an epoch has.
    samples : int
        The samples trained on in this epoch so far.
    seconds : float
        Wall time since the epoch began, validation not counted.
    measured : dict or None
        The epoch's numbers as in the history, once it is over; None before. Steps may still be queued on a
        GPU while it is None.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    samples: int
    seconds: float
    measured: Mapping[str, float] | None


def diverged(
    costs: list[float], epoch: int, optimizer: Optimizer, validation: float | None = None
) -> DivergenceError:
    """Return the error for an epoch whose costs, validation, or state at its end are not finite."""
    bad = [step for step, J in enumerate(costs) if not math.isfinite(J)]
    before = f"; the cost before was {costs[bad[0] - 1 if bad else -1]:.4g}" if not bad or bad[0] > 0 else ""
    if bad:
        what = f"the cost became {costs[bad[0]]} in step {bad[0] + 1} of epoch {epoch}"
    elif validation is None:
        what = f"the parameters, or the optimizer's memory, became infinite or NaN in epoch {epoch}"
    else:
        what = f"the cost of the validation became {validation} after epoch {epoch}"
    advice = " and look for values far out of range in the validation" if validation is not None else ""
    return DivergenceError(
        f"{what}{before}. Nothing of that epoch is kept. Try a learning rate below "
        f"{optimizer.learning_rate:g}, or scale the features{advice}"
    )


def columns(records: list[dict[str, float]]) -> History:
    """Return records, one an epoch, as one list a name.

    Examples
    --------
    >>> columns([{"loss": 2.0}, {"loss": 1.0}])
    {'loss': [2.0, 1.0]}
    """
    names = dict.fromkeys(name for record in records for name in record)
    return {name: [record[name] for record in records if name in record] for name in names}
