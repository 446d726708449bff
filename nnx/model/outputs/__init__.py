"""The outputs: a link A[L] = g[L](Z[L]) together with a loss that goes with it.

Each link has a canonical loss, with the derivative ∂loss/∂Z[L] = A[L] - Y, and may have others with derivatives of
their own. Every loss is computed from Z[L], never from log(A[L]). So it and its derivative are finite where |Z| is
below the root of the dtype's largest number, 1.8e19 in float32. (The Gaussian loss divides by a variance, at least
epsilon: there below the root of epsilon times that number.) Beyond, up to the largest number, the derivative of classes
stays right. A loss beyond the dtype's range is infinite or the largest number, never NaN, but for the Gaussian one.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any, TypeVar

from nnx.array.namespace import Array
from nnx.errors import InputError, above_zero, between, shown, unknown
from nnx.model.activations.functions import identity, sigmoid
from nnx.model.custom import function_name, has_name, not_named
from nnx.model.outputs import losses
from nnx.model.outputs.base import Output
from nnx.model.outputs.custom import OWN, check_own, with_own
from nnx.model.outputs.links import exp, log, logit, softmax
from nnx.model.outputs.loss import Loss
from nnx.model.outputs.losses import Function
from nnx.support.spec import find, split


def _canonical(
    name: str,
    loss_name: str,
    link: Callable[[Array], Array],
    inverse: Callable[[Array], Array],
    loss: Function,
    **rest: Any,
) -> Output:
    return Output(name, loss_name, link, loss, lambda Z, Y: link(Z) - Y, inverse, **rest)


def _with(
    output: Output, spec: str, loss_name: str, loss: Function, derivative: Function, **rest: Any
) -> Output:
    return replace(output, spec=spec, loss_name=loss_name, loss=loss, derivative=derivative, **rest)


_labels: dict[str, Any] = {"classes": True, "lowest": 0, "highest": 1}
_sure = {**_labels, "probabilities": True}
_sigmoid = _canonical(
    "sigmoid", "binary cross-entropy", sigmoid.g, logit, losses.binary_cross_entropy, **_sure
)
_softmax = _canonical("softmax", "cross-entropy", softmax, log, losses.cross_entropy, exclusive=True, **_sure)
_identity = _canonical("identity", "half squared error", identity.g, identity.g, losses.half_squared_error)
_exp = _canonical("exp", "half Poisson deviance", exp, log, losses.half_poisson_deviance, lowest=0)

_absolute_error = _with(
    _identity, "absolute_error", "absolute error", losses.absolute_error, losses.absolute_error_derivative
)
_hinge = _with(_identity, "hinge", "hinge", losses.hinge, losses.hinge_derivative, soft=False, **_labels)


def _huber(delta: float = 1.0) -> Output:
    delta = above_zero("delta", delta)
    spec = "huber" if delta == 1 else f"huber({delta!r})"
    return _with(_identity, spec, f"Huber, delta {delta:g}", *losses.huber(delta))


def _quantile(q: float | str = 0.5) -> Output:
    found = tuple(_one_quantile(one) for one in str(q).split(","))
    if any(a >= b for a, b in pairwise(found)):
        raise InputError(f"several quantiles must ascend, as in quantile(0.1,0.5,0.9); given {q}")
    text = ",".join(map(repr, found))
    name = f"pinball, {'quantiles' if len(found) > 1 else 'quantile'} {text.replace(',', ', ')}"
    middle = min(range(len(found)), key=lambda i: abs(found[i] - 0.5))
    return _with(
        _identity, f"quantile({text})", name, *losses.quantile(found), per_target=len(found), point=middle
    )


def _one_quantile(q: str) -> float:
    try:
        found = float(q)
    except ValueError:
        found = math.nan
    if not 0 < found < 1:
        raise InputError(f"a quantile must be a number between 0 and 1, such as 0.9, not {q or repr(q)}")
    return found


def _gaussian(epsilon: float = 1e-6) -> Output:
    epsilon = above_zero("epsilon, added to the variance,", epsilon)
    spec = "gaussian" if epsilon == 1e-6 else f"gaussian({epsilon!r})"
    return _with(_identity, spec, "Gaussian", *losses.gaussian(epsilon), per_target=2, epsilon=epsilon)


def _binary_focal(gamma: float = 2.0) -> Output:
    return _focal(_sigmoid, losses.binary_focal, gamma)


def _softmax_focal(gamma: float = 2.0) -> Output:
    return _focal(_softmax, losses.focal, gamma)


def _focal(output: Output, make: Callable[[float], tuple[Function, Function]], gamma: float) -> Output:
    gamma = between("gamma", gamma, 0)
    spec = "focal" if gamma == 2 else f"focal({gamma!r})"
    return _with(output, spec, f"focal, gamma {gamma:g}", *make(gamma))


LOSSES: dict[str, dict[str, Output | Callable[..., Output]]] = {
    "sigmoid": {"binary_cross_entropy": _sigmoid, "focal": _binary_focal},
    "softmax": {"cross_entropy": _softmax, "focal": _softmax_focal},
    "identity": {
        "half_squared_error": _identity,
        "huber": _huber,
        "absolute_error": _absolute_error,
        "hinge": _hinge,
        "quantile": _quantile,
        "gaussian": _gaussian,
    },
    "exp": {"half_poisson_deviance": _exp},
}
"""Every loss by its name, under the link that it goes with, the canonical first; one with a parameter is a function."""

OF_ESTIMATORS = frozenset(("squared_error", "poisson", "log_loss"))
"""scikit-learn's names of canonical losses, which the estimators of `nnx.sklearn` take."""

OUTPUTS: dict[str, Output] = {output.name: output for output in (_sigmoid, _softmax, _identity, _exp)}
"""Every output with its canonical loss, by the name of its link."""


def output(name: str, loss: str | Loss | Function | None = None) -> Output:
    """Return the output with this link and loss.

    Parameters
    ----------
    name : {"sigmoid", "softmax", "identity", "exp"}
        The link.
    loss : str, Loss, function or None
        A name, where the loss has a parameter with or without it; or one of your own. None: the canonical loss.

        ============ ============================ ===========================================================
        link         loss                         of a sample, summed over the outputs
        ============ ============================ ===========================================================
        sigmoid      binary_cross_entropy         -y log a - (1-y) log(1-a)
        sigmoid      focal(gamma=2)               -y (1-a)^gamma log a - (1-y) a^gamma log(1-a)
        softmax      cross_entropy                -sum_k y_k log a_k
        softmax      focal(gamma=2)               -sum_k y_k (1-a_k)^gamma log a_k
        identity     half_squared_error           1/2 (a - y)^2
        identity     huber(delta=1)               1/2 r^2 where r = |a - y| <= delta, else delta (r - delta/2)
        identity     absolute_error               |a - y|
        identity     hinge                        max(0, 1 - s a), s = 2y - 1: classes, y 0 or 1
        identity     quantile(q=0.5)              max(q r, (q - 1) r), r = y - a; quantile(0.1,0.9): several outputs
        identity     gaussian(epsilon=1e-6)       1/2 (log v + (y - a)^2 / v), v = e^s + epsilon: outputs a, s
        exp          half_poisson_deviance        y log(y/a) - (y - a)
        ============ ============================ ===========================================================

    Raises
    ------
    InputError
        For an unknown name (with the nearest known ones), a loss that does not go with the link (with those that
        do), an impossible parameter, or a Loss that has the name of one of nnx's.

    Examples
    --------
    >>> output("softmax").loss_name
    'cross-entropy'
    >>> output("identity", "huber(0.5)").spec
    'huber(0.5)'
    """
    if not isinstance(name, str) or name not in OUTPUTS:
        raise unknown("output", name, OUTPUTS)
    if loss is None:
        return OUTPUTS[name]
    if isinstance(loss, str):
        loss = OWN.get(loss, loss)
    if callable(loss):
        loss = own(loss)
    if isinstance(loss, Loss):
        _refuse_ours(loss)
        return with_own(OUTPUTS[name], loss)
    known = LOSSES[name]
    label = split(loss)[0] if isinstance(loss, str) else ""
    others = [link for link, its in LOSSES.items() if label in its]
    if others and label not in known:
        raise InputError(
            f"the loss {shown(loss)} goes with the output {' or '.join(map(repr, others))}, not with {name!r}, whose "
            f"losses are {', '.join(known)}"
        )
    if label not in known:
        raise unknown("loss", loss, known, register="register_loss")
    found: Output = find("loss", loss, known)
    return found


def check_outputs(output: Output, n: int) -> None:
    """Raise an InputError unless the last layer may have n units."""
    if output.exclusive and n == 1:
        raise InputError(f"a single {output.name} output is always 1; use 'sigmoid', or two outputs")
    if n % (k := output.per_target):
        raise InputError(
            f"the output {output} has {k} outputs for each target; the last layer's units must be a multiple of {k}, "
            f"not {n}"
        )
    if output.own is not None:
        check_own(output, output.own, n)


Given = TypeVar("Given", bound=Loss | Function)


def own(loss: Loss | Function) -> Loss:
    """Return a loss of one's own: a function becomes one with the function's name, whose derivative nnx derives.

    A function without a name, such as a lambda, may train. It has no name in a model file, see `check_saved`.
    """
    return loss if isinstance(loss, Loss) else Loss(function_name("loss", loss), loss)


def register_loss(loss: Given) -> Given:
    """Make a loss of your own, an `nnx.Loss` or a function, known by its name, to `nnx.mlp` and `nnx.Trainer.load`.

    Model files name their losses and have no code. So register one of your own before you load a model that uses it.
    Registering another one under the same name replaces it.

    Raises
    ------
    InputError
        When nnx has a loss of that name itself.
    """
    if not callable(loss) and not isinstance(loss, Loss):
        raise InputError(f"expected an nnx.Loss or a function, not {shown(loss)}")
    found = own(loss)
    if not has_name(found.name):
        raise not_named("loss", found.loss)
    _refuse_ours(found)
    OWN[found.name] = found
    return loss


def _refuse_ours(loss: Loss) -> None:
    """Raise an InputError if a loss has the name of one of nnx's: a model file or an estimator would confuse them."""
    name = loss.name.partition("(")[0]
    if name in OF_ESTIMATORS or any(name in losses for losses in LOSSES.values()):
        raise InputError(f"nnx has a loss named {name!r} itself; choose another name")
