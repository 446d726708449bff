"""Where a fit stands within its epochs, as a checkpoint has it."""

from collections.abc import Mapping
from typing import Any

from nnx.train.costs import EpochCosts
from nnx.train.session import Session


def position_of(
    session: Session,
    epoch: int,
    step: int,
    rng: Any,
    costs: EpochCosts,
    first_record: int,
    plan: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the position of a fit, of types that JSON has.

    Parameters
    ----------
    session : Session
    epoch, step : int
        The epoch that is under way, and its steps that are done.
    rng : dict or None
        The state of the random numbers before the epoch draws its order; None: it has drawn none.
    costs : EpochCosts
        Of these steps, all read.
    first_record : int
        The session's records before the fit.
    plan : dict
        As of `FitLoop`.
    """
    return {
        "epoch": epoch,
        "step": step,
        "rng": session.rng.bit_generator.state if rng is None else rng,
        "samples": costs.samples,
        "total": costs.total,
        "weight": costs.weight,
        "last": costs.last,
        "first_record": first_record,
        "stopped": session.stopped,
        "plan": dict(plan),
    }


def costs_of(position: Mapping[str, Any]) -> EpochCosts:
    """Return the costs of the steps of the epoch that were done at a position."""
    last = tuple(position["last"]) if position["last"] else None
    return EpochCosts(position["total"], position["weight"], last, position["samples"])
