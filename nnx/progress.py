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


def diverged(costs: list[float], epoch: int, optimizer: Optimizer) -> DivergenceError:
    """Return the error for an epoch whose costs, or whose parameters at its end, are not finite."""
    bad = [i for i, J in enumerate(costs) if not math.isfinite(J)]
    if bad:
        where = f"the cost became {costs[bad[0]]} in step {bad[0] + 1} of epoch {epoch}"
        last = costs[bad[0] - 1] if bad[0] else None
    else:
        where, last = f"the parameters became infinite, NaN or far too large in epoch {epoch}", costs[-1]
    before = "" if last is None else f", after {last:.4g}"
    return DivergenceError(
        f"{where}{before}. The trainer is as it was before that epoch. Try a learning rate below "
        f"{optimizer.learning_rate:g}, or scale the features"
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
