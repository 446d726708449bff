"""What is said of a run that diverged: when, how far it had come, which layer, and what to try."""

import math
from typing import TYPE_CHECKING, Any

from nnx.array import host
from nnx.errors import DivergenceError, Error
from nnx.optimizers import base_rate
from nnx.train.costs import number

if TYPE_CHECKING:
    from nnx.train.loop import Good, Run


def diverged(run: "Run", good: "Good | None", validation: float | None = None) -> DivergenceError:
    """Return the error for an epoch whose costs, validation, or state at its end are not finite.

    Parameters
    ----------
    run : Run
        Whose costs are read.
    good : Good or None
        From where the epoch's steps are done again up to the one before the bad one, to see its gradient; None: they
        are not.
    validation : float or None
        The validation's cost, when it is that which is not finite.
    """
    trainer, epoch = run.trainer, len(run.trainer.records) + 1
    if run.bad is not None:
        step, J = run.bad
        of_all = f" (step {int(good.state['t']) + step - good.step} of all)" if good else ""
        what = f"the cost became {J} in step {step} of epoch {epoch}{of_all}"
    elif validation is not None:
        what = f"the cost of the validation became {validation} after epoch {epoch}"
    else:
        what = f"the parameters, or the optimizer's memory, became infinite or NaN in epoch {epoch}"
    said = [what]
    if run.last is not None:
        said.append(f"the last finite cost was {run.last[1]:.4g}, in step {run.last[0]}")
    elif trainer.records:
        said.append(f"the mean cost of the epoch before was {trainer.records[-1]['loss']:.4g}")
    if good:
        said += _largest_gradient(run, good)
    scaled = " and look for values far out of range in the validation" if validation is not None else ""
    tries = (
        f"Try a learning rate below {base_rate(trainer.optimizer):g}, nnx.Regularization(clip_norm=1.0), or scale the "
        f"features{scaled}"
    )
    if run.bad and run.bad[0] == 1 and not trainer.records:
        tries = (
            "No step was done before, so the learning rate is not the cause: scale the features and the targets, and "
            "see that a loss or an activation of your own gives numbers"
        )
    return DivergenceError(
        f"{'; '.join(said)}. Nothing of that epoch is kept: the trainer is as before it. {tries}"
    )


def largest(network: Any, dtheta: Any, step: str) -> str:
    """Say which entry of a gradient (P,), a NumPy array, is largest, and in which layer."""
    name, value = host.largest(network.places, dtheta)
    if math.isfinite(value):
        return f"the largest entry of the gradient in {step} was {value:.3g}, in {name}"
    return f"the gradient in {step} has {value}, first in {name}"


def _largest_gradient(run: "Run", good: "Good") -> list[str]:
    """Return what is to be said of the last gradient before the bad cost; nothing if it cannot be had again."""
    trainer, network = run.trainer, run.trainer.network
    step, J = run.last or run.bad or (1, math.nan)
    if not run.batches.again or step <= good.step:
        return []
    drawn, now = trainer.rng.bit_generator.state, [good.state]
    try:
        run.draw_from(good.rng)
        for at, done in enumerate(run.walk(lambda: now[0], good.step, one=True), good.step + 1):
            now[0] = done.after
            if at == step:
                found = number(trainer.backend, done.Js[0])
                if found != J and math.isfinite(J):
                    return []  # batches that are not the same when they are read again
                sums = done.sums
                dtheta = (
                    trainer.gradient(done.before, done.batch())
                    if sums is None
                    else trainer.pieces.total(done.before, sums)
                )[1]
                return [largest(network, trainer.backend.to_numpy(dtheta), f"step {step}")]
    except Error:
        pass
    finally:
        trainer.rng.bit_generator.state = drawn
    return []
