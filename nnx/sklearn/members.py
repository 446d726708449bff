"""Estimators with members: K networks of one architecture that are fitted in one stack and predict by their mean.

Each member is an estimator of one network. The stack changes how the members are fitted, and nothing of their fits.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from nnx.array.namespace import Array, array_namespace
from nnx.callbacks.base import Callbacks
from nnx.errors import DivergenceError, InputError
from nnx.model.outputs.base import Output
from nnx.port import registry
from nnx.port.base import Backend
from nnx.sklearn import samples
from nnx.sklearn.fitting import TOO_LARGE, Fit, Given, finish, train
from nnx.sklearn.losses import mean_of_members
from nnx.sklearn.member_params import ALONE, OF_ONE, draw, member_params
from nnx.sklearn.parameters import check_design, check_parameters, count_parameters
from nnx.sklearn.stacked_fits import HOST_COPIES, WAITING_COPIES, member_bytes, train_together
from nnx.sklearn.validation import hold_out
from nnx.support.limits import available
from nnx.support.members import named
from nnx.support.warned import warn
from nnx.train.stack_memory import Need, check_room
from nnx.train.stack_session import StackSession
from nnx.train.trainer import Trainer

OF_ALL = (
    "n_features_in_", "feature_names_in_", "_column_names", "n_outputs_", "out_activation_", "_link", "classes_",
    "_kind", "_sparse_labels", "_embedded",
)  # fmt: skip
"""The attributes that the estimator learns of X and y for all members."""

OF_MEMBERS = (
    "members_", "member_weights_", "_own", "_member_params", "_copied", "_stack", "_forwards"
)  # fmt: skip
"""The attributes of an estimator with members, of which one of a single network has none."""

MOST_DENSE = 2**24
"""Numbers of a sparse X that are made dense for a stack. On a larger X members train one after the other."""


def fit_members(estimator: Any, given: Given) -> None:
    """Train all members, or train them on, and find their shares in the mean."""
    if given.first:
        check_memory(estimator, given)
    random_state = estimator._random_state = check_random_state(estimator.random_state)
    seeds = random_state.randint(2**31 - 1, size=estimator.n_members)
    if given.first:
        forget(estimator)
        estimator._own, estimator._member_params = draw(estimator, random_state), member_params(estimator)
    parameters = estimator.get_params(deep=False)
    members = [type(estimator)(**parameters) for _ in seeds] if given.first else estimator.members_
    _set_parameters(estimator, members, {**parameters, **ALONE}, seeds)
    split, greedy = None, estimator.selection == "greedy"
    if greedy and given.validation is None:  # no member may see the samples that choose members
        split = hold_out(estimator, given.X.shape[0], given.Y)
    fits = [_ready(estimator, k, member, given, split) for k, member in enumerate(members)]
    trainer, errors = _train(estimator, fits)
    left_out = _finish(fits, errors)
    shares = np.asarray([k not in left_out for k in range(len(fits))], np.float64)
    if greedy:
        held, choosing = given.validation, replace(fits[0], rows=None if split is None else split[1])
        if held is not None:
            choosing = replace(choosing, X=held.X, Y=held.Y, weights=held.weights)
        X, Y, weights = choosing.samples
        shares = np.asarray(trainer.ensemble.select(X, Y, sample_weight=weights))
    estimator.members_, estimator.member_weights_ = members, shares / shares.sum()
    estimator.n_layers_, estimator.n_iter_ = members[0].n_layers_, max(member.n_iter_ for member in members)
    estimator._forwards = {}


def check_memory(estimator: Any, given: Given) -> None:
    """Raise an InputError if the host has no room for so many members, of which at least one trains at a time."""
    K, P = estimator.n_members, count_parameters(estimator, given.X.shape[1])
    work = registry.work(P, given.X.shape[0] * estimator.max_iter, 0, K)
    backend = samples.backend_for(given.X, estimator.backend, estimator.device, estimator.precision, work)
    need = Need(member_bytes(P, given.dtype, HOST_COPIES), 0)
    if backend.device == "cpu":
        each = member_bytes(P, given.dtype, WAITING_COPIES)
        need = Need(each, member_bytes(P, given.dtype) - each)
    check_room(K, need, available, "Give a smaller n_members")


def forget(estimator: Any) -> None:
    """Forget the last fit, of one network or of members."""
    private = "_vector", "_views", "_best", "_trainer", "_optimizer", "_asked", "_memory"
    for name in (*OF_ONE, *private, *OF_MEMBERS):
        vars(estimator).pop(name, None)


def _set_parameters(estimator: Any, members: Sequence[Any], parameters: dict[str, Any], seeds: Any) -> None:
    """Give the members the estimator's parameters and their own, and copies of the callbacks that are each member's."""
    callbacks = parameters.pop("callbacks")
    is_new = vars(estimator).get("_copied", members) is not callbacks
    estimator._copied = callbacks
    for member, own, seed in zip(members, estimator._own, seeds, strict=True):
        for name, value in {**parameters, "random_state": int(seed), **own}.items():
            setattr(member, name, value)
        if is_new:
            member.callbacks = [deepcopy(one) for one in Callbacks(callbacks).all if one.each_member]


def _ready(estimator: Any, k: int, member: Any, given: Given, split: Any) -> Fit:
    """Return the fit of member k, ready to run."""
    vars(member).update({name: vars(estimator)[name] for name in OF_ALL if name in vars(estimator)})
    try:
        check_parameters(member, given.incremental)
        if not given.first:
            check_design(member)
    except ValueError as error:
        own = estimator._own[k]
        raise (InputError(f"member {k}, with {own}: {error}") if own else error) from error
    fit: Fit = member._ready_for(given, len(estimator._own), split)
    fit.callbacks[0].prefix = f"Member {k}: "
    return fit


# --- training ---------------------------------------------------------------------------------------------------------


def _train(estimator: Any, fits: Sequence[Fit]) -> tuple[Any, Sequence[BaseException | None]]:
    """Train all members.

    Returns
    -------
    trainer : Trainer or None
        That of all members; None for L-BFGS, whose line search ends elsewhere for each.
    errors : sequence of K
        Why a member ended before its end: a divergence, an interrupt, or None.
    """
    if not estimator._stochastic:
        return None, _one_by_one(estimator, fits)
    first, trainer = fits[0], _together(estimator, fits)
    if sparse.issparse(first.X):
        if np.prod(first.X.shape) > MOST_DENSE:
            return trainer, _one_by_one(estimator, fits)
        fits = [replace(fit, X=X) for X in [first.X.toarray()] for fit in fits]
    same = all(fit.rows is first.rows for fit in fits)
    pool = (fits[0] if same else replace(fits[0], rows=None)).samples
    shared, interrupt = Callbacks(_of_all(estimator)), None
    shared.trainer = trainer
    try:
        train_together(trainer.session, fits, pool, None if same else [fit.rows for fit in fits], shared)
    except KeyboardInterrupt as error:
        interrupt = error
    return trainer, [error or interrupt for error in trainer.session.errors]


def _together(estimator: Any, fits: Sequence[Fit]) -> Trainer:
    """Return the trainer of all members; that of the fit before where the members go on."""
    sessions = [fit.trainer.session for fit in fits]
    known: Trainer | None = vars(estimator).get("_stack")
    if known is None or any(a is not b for a, b in zip(known.session.members, sessions, strict=True)):
        known = estimator._stack = Trainer._of(StackSession.of(sessions))
    return known


def _of_all(estimator: Any) -> list[Any]:
    """Return the callbacks of which the members have no copies."""
    return [one for one in Callbacks(estimator.callbacks).all if not one.each_member]


def _one_by_one(estimator: Any, fits: Sequence[Fit]) -> list[BaseException | None]:
    """Train one member after the other; each fit calls all callbacks. An interrupt is that of all behind it, too."""
    errors: list[BaseException | None] = []
    for fit in fits:
        interrupt = errors[-1] if errors and isinstance(errors[-1], KeyboardInterrupt) else None
        errors.append(interrupt or train(replace(fit, callbacks=[*fit.callbacks, *_of_all(estimator)])))
    return errors


def _finish(fits: Sequence[Fit], errors: Sequence[BaseException | None]) -> set[int]:
    """Leave the attributes of each member, and the warnings of all; return the members that take no part in the mean.

    Raises
    ------
    ValueError
        When no member has come through.
    """
    failed: dict[int, ValueError] = {}
    all_diverged = all(isinstance(error, DivergenceError) for error in errors)
    warned: dict[tuple[type, str], list[int]] = {}
    for k, (fit, error) in enumerate(zip(fits, errors, strict=True)):
        try:
            warning = finish(fit, error)
        except ValueError as too_large:
            failed[k] = too_large
        best = all_diverged and hasattr(
            fit.estimator, "_best"
        )  # then its best parameters are better than nothing
        if isinstance(error, DivergenceError) and not best:
            failed.setdefault(k, ValueError(TOO_LARGE))
            warning = ConvergenceWarning(f"left out of the mean, as it has diverged: {error}")
        fit.trainer.session.failure = error if k in failed else None
        fit.estimator._take_up(fit)
        if warning is not None:
            warned.setdefault((type(warning), str(warning)), []).append(k)
    if len(failed) == len(fits):
        raise failed[0] from errors[0]
    left_out = {*failed} | (untrained := _untrained(fits, errors, {*range(len(fits))} - {*failed}))
    if untrained:
        warned[ConvergenceWarning, "left out of the mean, as the fit ended before it was trained"] = [
            *untrained
        ]
    for (kind, text), which in warned.items():
        if kind is not UserWarning:  # an interrupt is not that of a member
            text = f"{named(which, len(fits))}: {text}"
        warn(text, kind)
    return left_out


def _untrained(fits: Sequence[Fit], errors: Sequence[BaseException | None], members: set[int]) -> set[int]:
    """Return those of the members that have trained for no epoch, or for no step; none if that is true of all."""
    epochs = {
        k for k in members
        if fits[k].estimator.n_iter_ or vars(fits[k].estimator).get("loss_curve_")  # of a fit before
        or not (errors[k] or fits[k].estimator._stochastic)  # L-BFGS, which began where it would have ended
    }  # fmt: skip
    return members - (epochs or {k for k in members if fits[k].trainer.steps} or members)


# --- prediction -------------------------------------------------------------------------------------------------------


def outputs(
    estimator: Any, X: Any, combined: Callable[[Output, Array, Array], Array] = mean_of_members
) -> tuple[Array, Backend, Any]:
    """Return the mean of the members' A[L] (n[L], m), or another combination, the backend, and X as validated."""
    check_is_fitted(estimator, "members_")
    X = samples.validated(estimator, X, reset=False)
    chosen = [k for k, share in enumerate(estimator.member_weights_) if share > 0]
    members, first = [estimator.members_[k] for k in chosen], estimator.members_[0]
    work = registry.work(first.network_.P, X.shape[0] * first.max_iter, 0, len(members))
    backend = samples.backend_for(X, first.backend, first.device, first.precision, work)
    thetas = [member._theta(member.network_) for member in members]
    theta = array_namespace(thetas[0]).stack(thetas)  # anew each time: coefs_ may have been written into
    theta = backend.asarray(theta, samples.dtype_of(theta))
    forwards = vars(estimator).setdefault("_forwards", {})
    if backend not in forwards:
        forwards[backend] = backend.compile(first.network_.forward)
    shares = backend.asarray(estimator.member_weights_[chosen].reshape(-1, 1, 1), samples.dtype_of(theta))
    pieces = first._pieces(backend, forwards[backend], theta, X)
    parts = [combined(first._output, A, shares) for A in pieces]
    return parts[0] if len(parts) == 1 else array_namespace(theta).concat(parts, axis=-1), backend, X
