"""What is said of a run that diverged: when, how far it had come, which layer, and what to try."""

import math
from typing import TYPE_CHECKING, Any

from nnx import host
from nnx.errors import DivergenceError, Error
from nnx.optimizers import base_rate

if TYPE_CHECKING:
    from nnx.run import Run


def diverged(run: "Run", good: Any, good_step: int, epoch: int, validation: float | None) -> DivergenceError:
    """Return the error for an epoch whose costs, validation, or state at its end are not finite.

    Parameters
    ----------
    run : Run
    good : (state, state of the random numbers)
        Those before the step `good_step` of the epoch, from which its steps are done again up to the bad one,
        to see their gradient.
    good_step : int
    epoch : int
        Of all that the trainer has had, from 1.
    validation : float or None
        The validation's cost, when it is that which is not finite.
    """
    costs = run.read_costs()
    bad = next((step for step, J in enumerate(costs) if not math.isfinite(J)), None)
    steps_before = int(good[0]["t"])
    if bad is not None:
        total = steps_before + bad - good_step + 1
        what = f"the cost became {costs[bad]} in step {bad + 1} of epoch {epoch} (step {total} of all)"
    elif validation is not None:
        what = f"the cost of the validation became {validation} after epoch {epoch}"
    else:
        what = f"the parameters, or the optimizer's memory, became infinite or NaN in epoch {epoch}"
    last = len(costs) - 1 if bad is None else bad - 1
    finite = []
    if last >= 0:
        finite = [f"; the last finite cost was {costs[last]:.4g}, in step {last + 1}"]
    elif run.trainer.records:
        finite = [f"; the mean cost of the epoch before was {run.trainer.records[-1]['loss']:.4g}"]
    finite += _largest_gradient(run, good, good_step, max(last, good_step))
    scaled = " and look for values far out of range in the validation" if validation is not None else ""
    return DivergenceError(
        f"{what}{''.join(finite)}. Nothing of that epoch is kept: the trainer is as before it. Try a learning rate "
        f"below {base_rate(run.trainer.optimizer):g}, nnx.Regularization(clip_norm=1.0), or scale the "
        f"features{scaled}"
    )


def _largest_gradient(run: "Run", good: Any, good_step: int, step: int) -> list[str]:
    """Return what is to be said of the gradient in a step of this epoch; nothing if it cannot be had again."""
    trainer = run.trainer
    drawn = trainer.rng.bit_generator.state
    try:
        trainer.rng.bit_generator.state = good[1]
        now = [good[0]]
        for at, done in enumerate(run.walk(lambda: now[0], good_step), good_step):
            now[0] = done.after
            if at == step:
                _, dtheta = trainer.gradient(done.before, done.batch)
                name, value = host.largest(trainer.network.places, trainer.backend.to_numpy(dtheta))
                if math.isfinite(value):
                    return [
                        f"; the largest entry of the gradient in step {step + 1} was {value:.3g}, in {name}"
                    ]
                return [f"; the gradient in step {step + 1} has {value}, first in {name}"]
    except Error:  # an iterable that can be read but once
        pass
    finally:
        trainer.rng.bit_generator.state = drawn
    return []
