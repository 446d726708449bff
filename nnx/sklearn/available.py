"""When an estimator has a method."""

from typing import Any

from nnx.errors import shown


def has_members(estimator: Any) -> bool:
    """Return whether there are members; else there is no `predict_std`."""
    if estimator.n_members is None:
        raise AttributeError("predict_std is the deviation of members; give n_members=8, say, before fit")
    return True


def can_partial_fit(estimator: Any) -> bool:
    """Return whether the solver uses batches; else there is no `partial_fit`."""
    if not estimator._stochastic:
        which = "solver" if estimator.optimizer is None else "optimizer"
        name = shown(getattr(estimator, which))
        raise AttributeError(
            f"partial_fit is only available for stochastic optimizers. {name} is not stochastic; set the {which}"
        )
    return True
