"""The parameter `loss` of the estimators: the output of their networks, and predictions from several outputs."""

from typing import Any

from nnx.array.namespace import Array, array_namespace
from nnx.errors import shown
from nnx.io.convert.sklearn import SKLEARN_NAMES
from nnx.model.outputs import LOSSES, output
from nnx.model.outputs.base import Output
from nnx.model.outputs.custom import OWN
from nnx.model.outputs.loss import Loss
from nnx.model.outputs.losses import parts
from nnx.sklearn.available import has_members
from nnx.sklearn.names import Names
from nnx.support.spec import split

Link = tuple[str, str | Loss | None]
"""An output's link and loss, the arguments of `nnx.model.outputs.output`: None is the link's own loss."""

SKLEARN_LOSSES: dict[str, Link] = {"squared_error": ("identity", None), "poisson": ("exp", None)}
OF_NUMBERS = {*SKLEARN_LOSSES, *LOSSES["identity"], *LOSSES["exp"]} - {"hinge"}
OF_CLASSES = {"log_loss", "focal", "hinge"}
OUT_ACTIVATIONS = {link: name for name, link in SKLEARN_NAMES.items()}
"""scikit-learn's names of the links, for `out_activation_`."""

LOSS_OF_NUMBERS = [Names(OF_NUMBERS, OWN), Loss, callable]
LOSS_OF_CLASSES = [Names(OF_CLASSES, OWN), Loss, callable]


def of_numbers(loss: Any) -> Link:
    """Return the link and loss of a regressor's `loss`."""
    if isinstance(loss, str) and loss in SKLEARN_LOSSES:
        return SKLEARN_LOSSES[loss]
    counts = isinstance(loss, str) and split(loss)[0] in LOSSES["exp"]
    return _link("exp" if counts else "identity", loss)


def of_classes(loss: Any, link: str) -> Link:
    """Return the link and loss of a classifier's `loss`; `link` is the one of probabilities."""
    if isinstance(loss, str) and loss in ("log_loss", "hinge"):
        return (link, None) if loss == "log_loss" else ("identity", loss)
    return _link(link, loss)


def _link(link: str, loss: Any) -> Link:
    found = output(link, loss)
    return link, found.own or found.spec


def name_of(link: Link) -> str:
    """Return the name of a loss for people: scikit-learn's, where it has one."""
    for name, known in SKLEARN_LOSSES.items():
        if link == known:
            return repr(name)
    return "'log_loss'" if link[1] is None else repr(link[1])


def is_gaussian(found: Output) -> bool:
    """Return whether an output is a mean and the logarithm of a variance."""
    return found.epsilon is not None


def check_has_std(estimator: Any) -> bool:
    """Return whether a regressor has a `predict_std`."""
    link, loss = vars(estimator).get("_link"), estimator.loss
    gaussian = is_gaussian(output(*link)) if link else isinstance(loss, str) and split(loss)[0] == "gaussian"
    if not (gaussian or has_members(estimator)):
        raise AttributeError(
            "predict_std is the deviation of members, or that of loss='gaussian'; give n_members=8, say, before fit"
        )
    return True


def check_has_probabilities(estimator: Any) -> bool:
    """Return whether a classifier has probabilities, as of all losses but the hinge."""
    if _margins(estimator):
        raise AttributeError(f"probability estimates are not available for loss={shown(estimator.loss)}")
    return True


def check_has_std_of_classes(estimator: Any) -> bool:
    """Return whether a classifier has a `predict_std`."""
    if not has_members(estimator):
        raise AttributeError("predict_std is the deviation of members; give n_members=8, say, before fit")
    return check_has_probabilities(estimator)


def check_has_margins(estimator: Any) -> bool:
    """Return whether a classifier has a `decision_function`, as of the hinge alone."""
    if not _margins(estimator):
        raise AttributeError("decision_function is that of loss='hinge'; use predict_proba")
    return True


def _margins(estimator: Any) -> bool:
    link = vars(estimator).get("_link")
    loss = link[1] if link else estimator.loss
    return isinstance(loss, str) and loss == "hinge"


# --- predictions ------------------------------------------------------------------------------------------------------


def in_order(found: Output, A: Array) -> Array:
    """Return A[L] (..., n[L], m), the quantiles of each target in order.

    Each was fitted on its own, so they may cross. Sorted their loss is the same or less: V. Chernozhukov,
    I. Fernández-Val, A. Galichon, Quantile and probability curves without crossing, Econometrica 78 (2010), 1093-1125,
    https://doi.org/10.3982/ECTA7880.
    """
    if found.per_target == 1 or is_gaussian(found):
        return A
    xp, (*lead, n, m) = array_namespace(A), A.shape
    quantiles = xp.reshape(A, (*lead, found.per_target, n // found.per_target, m))
    return xp.reshape(xp.sort(quantiles, axis=-3), A.shape)


def in_place(found: Output, A: Array, k: Any) -> Any:
    """Return the outputs (m,) that `in_order` of A[L] (n[L], m) puts at the places k, a number or (m,) of them.

    Examples
    --------
    The quantiles of the second sample have crossed:

    >>> import numpy as np
    >>> two = output("identity", "quantile(0.1,0.9)")
    >>> in_place(two, np.array([[1.0, 4.0], [2.0, 3.0]]), 1)
    array([1, 0])
    """
    xp, (n, m) = array_namespace(A), A.shape
    targets = n // found.per_target
    order = xp.argsort(xp.reshape(A, (found.per_target, targets, m)), axis=0)
    return xp.reshape(order * targets + xp.arange(targets)[:, None], (n, m))[k, xp.arange(m)]


def as_rows(found: Output, A: Array) -> Array:
    """Return predictions (m,) or (m, targets); of several quantiles (m, quantiles) or (m, targets, quantiles).

    The argument is A[L] (n[L], m); of a Gaussian the rows of its means, or of its deviations (targets, m).
    """
    if found.per_target == 1 or is_gaussian(found):
        return A[0, :] if A.shape[0] == 1 else A.T
    xp, k, m = array_namespace(A), found.per_target, A.shape[1]
    quantiles = xp.permute_dims(xp.reshape(A, (k, -1, m)), (2, 1, 0))
    return quantiles[:, 0, :] if quantiles.shape[1] == 1 else quantiles


def variance(found: Output, A: Array) -> Array:
    """Return the variances e^s + epsilon (..., targets, m) of a Gaussian's outputs (..., n[L], m)."""
    return array_namespace(A).exp(parts(A, 2)[1]) + found.epsilon


def mean_of_members(found: Output, A: Array, shares: Array) -> Array:
    """Return the mean (n[L], m) of members' A[L] (K, n[L], m), whose shares are (K, 1, 1).

    The mean is that of their predictions. So the quantiles of each member are put in order first.
    """
    return array_namespace(A).sum(shares * in_order(found, A), axis=0)


def std_of_members(found: Output, A: Array, shares: Array) -> Array:
    """Return the deviation of members' predictions around their mean, see `mean_of_members`.

    Of Gaussians it is that of their mixture, whose variance is the mean of theirs and the variance of their means
    (B. Lakshminarayanan, A. Pritzel, C. Blundell, Simple and scalable predictive uncertainty estimation using deep
    ensembles, NeurIPS 2017, https://arxiv.org/abs/1612.01474).
    """
    xp, own = array_namespace(A), 0.0
    if is_gaussian(found):
        own, A = variance(found, A), found.predicted(A)
    else:
        A = in_order(found, A)
    return xp.sqrt(xp.sum(shares * (own + (A - xp.sum(shares * A, axis=0)) ** 2), axis=0))
