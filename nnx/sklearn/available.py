"""When an estimator has a method."""

from typing import Any

from nnx.errors import shown


def has_members(estimator: Any) -> bool:
    """Return whether a fitted estimator has members; before fit, whether it will have them."""
    fitted = vars(estimator)
    if "network_" in fitted or "members_" in fitted:
        return "members_" in fitted
    return estimator.n_members is not None


def can_partial_fit(estimator: Any) -> bool:
    """Return whether the solver uses batches; else there is no `partial_fit`."""
    if not estimator._stochastic:
        which = "solver" if estimator.optimizer is None else "optimizer"
        name = shown(getattr(estimator, which))
        raise AttributeError(
            f"partial_fit is only available for stochastic optimizers. {name} is not stochastic; set the {which}"
        )
    return True
