"""The parameters `n_members`, `member_params` and `selection` of an estimator: their check, and each member's own."""

from typing import Any

from sklearn.model_selection import ParameterSampler

from nnx.errors import InputError, first_line, items, listed, positive_int, shown, unknown

OWN = (
    "random_state", "alpha", "learning_rate", "learning_rate_init", "power_t", "momentum", "beta_1", "beta_2",
    "epsilon", "tol", "n_iter_no_change", "dropout", "optimizer", "schedule", "regularization",
)  # fmt: skip
"""The parameters in which the members of one stack may differ."""

ALONE = {"n_members": None, "member_params": None, "selection": "all"}
"""These parameters of a member."""

OF_ONE = (
    "coefs_", "intercepts_", "network_", "loss_", "best_loss_", "loss_curve_", "validation_scores_",
    "validation_loss_curve_", "best_validation_score_", "t_",
)  # fmt: skip
"""The attributes that each member has, and the estimator with members has not."""


def check_members(estimator: Any) -> None:
    """Raise an InputError unless the three parameters have a meaning together."""
    K, greedy = estimator.n_members, estimator.selection == "greedy"
    if K is None:
        if estimator.member_params is not None or greedy:
            name = "selection='greedy'" if greedy else "member_params"
            raise InputError(f"{name} is given without n_members; give n_members=8, say, or leave it out")
        return
    positive_int("n_members", K)
    if greedy and not (estimator.early_stopping and estimator._stochastic):
        raise InputError(
            "selection='greedy' chooses members by the samples that early_stopping holds out, or by the "
            "validation_set in their place; give early_stopping=True and solver='adam' or 'sgd', with a set too, or "
            "selection='all'"
        )
    given = member_params(estimator)
    for name, values in given.items():
        if isinstance(values, list) and len(values) != K:
            raise InputError(
                f"member_params[{name!r}] has length {len(values)}; expected n_members={K}, one value for each member"
            )
    rates = given.get("dropout")
    if isinstance(rates, list) and 0 in rates and any(rate != 0 for rate in rates):
        raise InputError(
            f"member_params['dropout'] is {rates}: a network without dropout has another architecture. Give all "
            "members rates above 0, such as 1e-6"
        )


def member_params(estimator: Any) -> dict[str, Any]:
    """Return `member_params`: by name a list of values, or a distribution, which has `rvs`."""
    expected = f"a list of n_members={estimator.n_members} values, or a distribution of scipy.stats"
    found = {}
    for name, values in (estimator.member_params or {}).items():
        if name not in estimator.get_params(deep=False):
            raise unknown("parameter of members", name, OWN)
        if name not in OWN:
            raise InputError(
                f"member_params has {shown(name)}, which is the same for all members: give it to the estimator. "
                f"Members may differ in {', '.join(OWN)}"
            )
        is_random = hasattr(values, "rvs")
        found[name] = values if is_random else items(f"member_params[{name!r}]", values, expected)
    return found


def draw(estimator: Any, random_state: Any) -> list[dict[str, Any]]:
    """Return each member's own parameters, those of distributions drawn as `ParameterSampler` draws them."""
    K, given = estimator.n_members, member_params(estimator)
    random = {name: values for name, values in given.items() if not isinstance(values, list)}
    try:
        drawn = (
            [*ParameterSampler(random, K, random_state=random_state)] if random else [{} for _ in range(K)]
        )
    except Exception as error:  # of a distribution
        raise InputError(
            f"member_params has no value of the distribution of {listed(random, 3)}: {first_line(error)}. Give it its "
            "parameters, as in scipy.stats.loguniform(1e-4, 1)"
        ) from error
    return [
        own | {name: values[k] for name, values in given.items() if name not in random}
        for k, own in enumerate(drawn)
    ]


def check_goes_on(estimator: Any) -> None:
    """Raise an InputError unless the members that are there can go on under the parameters as they are now."""
    known = len(estimator.members_) if "members_" in vars(estimator) else None
    anew = "set {} back, or begin anew with fit and warm_start=False"
    if estimator.n_members != known:
        raise InputError(
            f"n_members is {estimator.n_members}, but the fit that goes on has {known}; {anew.format('it')}"
        )
    if known is not None and member_params(estimator) != estimator._member_params:
        raise InputError(
            f"member_params are others than those of the fit that goes on; {anew.format('them')}"
        )
