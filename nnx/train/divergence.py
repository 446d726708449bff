"""The message of a fit that diverged: when, how far it had come, which layer, and what to try."""

import math
from typing import Any

from nnx.array import host
from nnx.errors import DivergenceError, Error
from nnx.optimizers import base_rate
from nnx.train.costs import EpochCosts, number
from nnx.train.session import Session
from nnx.train.steps import Steps


def diverged(
    session: Session,
    costs: EpochCosts,
    gradient: str | None,
    before: int | None = None,
    validation: float | None = None,
) -> DivergenceError:
    """Return the error for an epoch whose costs, validation, or state at its end are not finite.

    Parameters
    ----------
    session : Session
    costs : EpochCosts
        Of the epoch's steps, all read.
    gradient : str or None
        The result of `last_gradient`.
    before : int or None
        The steps of the session, over all fits, before the epoch; None: the message leaves them out.
    validation : float or None
        The validation's cost, if that is not finite.
    """
    epoch = len(session.records) + 1
    if costs.bad is not None:
        step, J = costs.bad
        of_all = "" if before is None else f" (step {before + step} of all)"
        said = [f"the cost became {J} in step {step} of epoch {epoch}{of_all}"]
    elif validation is not None:
        said = [f"the cost of the validation became {validation} after epoch {epoch}"]
    else:
        said = [f"the parameters, or the optimizer's memory, became infinite or NaN in epoch {epoch}"]
    if costs.last is not None:
        said.append(f"the last finite cost was {costs.last[1]:.4g}, in step {costs.last[0]}")
    elif session.records:
        said.append(f"the mean cost of the epoch before was {session.records[-1]['loss']:.4g}")
    if gradient is not None:
        said.append(gradient)
    scaled = " and look for values far out of range in the validation" if validation is not None else ""
    tries = (
        f"Try a learning rate below {base_rate(session.optimizer):g}, nnx.Regularization(clip_norm=1.0), or scale the "
        f"features{scaled}"
    )
    if costs.bad and costs.bad[0] == 1 and not session.records:
        tries = (
            "No step was done before, so the learning rate is not the cause: scale the features and the targets, and "
            "see that a loss or an activation of your own gives numbers"
        )
    return DivergenceError(
        f"{'; '.join(said)}. Nothing of that epoch is kept: the trainer is as before it. {tries}"
    )


def largest(network: Any, dtheta: Any, step: str) -> str:
    """Describe the largest entry of a gradient (P,), a NumPy array: its value, and its parameter."""
    name, value = host.largest(network.places, dtheta)
    if math.isfinite(value):
        return f"the largest entry of the gradient in {step} was {value:.3g}, in {name}"
    return f"the gradient in {step} has {value}, first in {name}"


def last_gradient(session: Session, steps: Steps, costs: EpochCosts, skip: int, rng: Any) -> str | None:
    """Describe the gradient of the last step with a finite cost; None where it cannot be computed again.

    It does the epoch's steps again, from the program's snapshot. The caller rolls the program back afterwards.

    Parameters
    ----------
    session : Session
    steps : Steps
    costs : EpochCosts
        Of the epoch's steps, all read.
    skip : int
        The steps of the epoch that were done before the snapshot.
    rng : dict or None
        The state of the random numbers before the epoch draws; None: it draws none.
    """
    step, J = costs.last or costs.bad or (1, math.nan)
    if not steps.batches.again or step <= skip:
        return None
    drawn = session.rng.bit_generator.state
    try:
        session.rollback()
        if rng is not None:
            session.rng.bit_generator.state = rng
        state = session.read()
        for at, done in enumerate(steps.epoch(skip, EpochCosts(), one_by_one=True), skip + 1):
            if at < step:
                state = session.read() if at == step - 1 else state
                continue
            found = number(session.backend, done.Js[0])
            if found != J and math.isfinite(J):
                return None  # batches that are not the same when they are read again
            _, dtheta = (
                session.gradient(state, done.batch())
                if done.sums is None
                else session.micro_batches.total(state, done.sums)
            )
            return largest(session.network, session.backend.to_numpy(dtheta), f"step {step}")
    except Error:
        pass
    finally:
        session.rng.bit_generator.state = drawn
    return None
