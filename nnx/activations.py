"""The activations g of hidden layers, each with its derivative g'.

g' is computed from the activations A = g(Z) wherever that can be done, so that Z need not be kept from the
forward to the backward pass.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from numbers import Real
from typing import Literal

from nnx.arrays import Array, array_namespace
from nnx.errors import InputError, unknown


@dataclass(frozen=True)
class Activation:
    """An elementwise function g and its derivative.

    Parameters
    ----------
    name : str
        What `activation` finds it by, and what a model file says.
    g : callable
        Z -> A, arrays of one shape and dtype, written with the standard's functions.
    dg : callable
        What was kept (see `keep`) -> g'(Z), of the same shape and dtype.
    keep : {"A", "Z"}
        What `dg` takes: the activations A = g(Z), or the pre-activations Z.
    init : str
        The initializer (`nnx.initializers`) for the weights of a layer that uses it.

    Examples
    --------
    >>> import numpy as np
    >>> square = Activation("square", g=lambda Z: Z * Z, dg=lambda Z: 2 * Z, keep="Z")
    >>> square.g(np.array([3.0])), square.dg(np.array([3.0]))
    (array([9.]), array([6.]))
    """

    name: str
    g: Callable[[Array], Array] = field(repr=False)
    dg: Callable[[Array], Array] = field(repr=False)
    keep: Literal["A", "Z"] = "A"
    init: str = "glorot"

    def __post_init__(self) -> None:
        if self.keep not in ("A", "Z"):
            raise InputError(f"keep, what dg takes, must be 'A' or 'Z'; given {self.keep!r}")


def _sigmoid(Z: Array) -> Array:
    # 1/(1 + e^-z). e^-|z| <= 1 cannot overflow: for z < 0 both parts are multiplied by e^z.
    xp = array_namespace(Z)
    e = xp.exp(-xp.abs(Z))
    return xp.where(Z >= 0, 1.0, e) / (1 + e)


def _tanh(Z: Array) -> Array:
    return array_namespace(Z).tanh(Z)


def _relu(Z: Array) -> Array:
    return array_namespace(Z).maximum(Z, 0.0)


def _relu_derivative(A: Array) -> Array:
    return array_namespace(A).astype(A > 0, A.dtype)


def _identity_derivative(A: Array) -> Array:
    return array_namespace(A).ones_like(A)


sigmoid = Activation("sigmoid", g=_sigmoid, dg=lambda A: A * (1 - A))
"""1/(1 + e^-z), in (0, 1); g' = a(1 - a). For outputs: in hidden layers it saturates, prefer tanh."""

tanh = Activation("tanh", g=_tanh, dg=lambda A: 1 - A * A)
"""(e^z - e^-z)/(e^z + e^-z), in (-1, 1); g' = 1 - a^2. Centred, so nearly always better than sigmoid."""

relu = Activation("relu", g=_relu, dg=_relu_derivative, init="he")
"""max(0, z); g' = 1 where z > 0, else 0 (at 0: 0, by convention). The usual choice."""

identity = Activation("identity", g=lambda Z: Z, dg=_identity_derivative)
"""z; g' = 1. Only useful at the output: a chain of linear layers is one linear layer."""


@lru_cache
def leaky_relu(alpha: float = 0.01) -> Activation:
    """Return max(alpha z, z); g' = 1 where z > 0, else alpha.

    Parameters
    ----------
    alpha : float
        The slope for z <= 0, in [0, 1), usually well below 1.

    Raises
    ------
    InputError
        When alpha is outside [0, 1): max(alpha z, z) would not be the leaky ReLU.
    """
    if not isinstance(alpha, Real) or not 0 <= alpha < 1:
        raise InputError(f"leaky_relu's alpha must be in [0, 1), not {alpha!r}")
    alpha = float(alpha)

    def g(Z: Array) -> Array:
        return array_namespace(Z).maximum(alpha * Z, Z)

    def dg(A: Array) -> Array:  # a and z have one sign, since alpha >= 0
        return alpha + (1 - alpha) * _relu_derivative(A)

    name = "leaky_relu" if alpha == 0.01 else f"leaky_relu({alpha!r})"
    return Activation(name, g, dg, init="he")


ACTIVATIONS: dict[str, Activation | Callable[[float], Activation]] = {
    "sigmoid": sigmoid,
    "tanh": tanh,
    "relu": relu,
    "leaky_relu": leaky_relu,
    "identity": identity,
}
"""Every activation by its name; one with a parameter is a function of it."""


_OURS = frozenset(ACTIVATIONS)


def register(activation: Activation) -> Activation:
    """Make an activation of your own known by its name, to `nnx.Dense` and `nnx.Trainer.load`.

    Model files name their activations and hold no code, so one of your own must be registered before a
    model that uses it is loaded. Registering another under the same name replaces it.

    Raises
    ------
    InputError
        When nnx has an activation of that name itself.
    """
    if not isinstance(activation, Activation):
        raise InputError(f"expected an nnx.Activation, not {activation!r}")
    _refuse_ours(activation)
    ACTIVATIONS[activation.name] = activation
    return activation


def _refuse_ours(own: Activation) -> None:
    """Raise an InputError if it is not nnx's, but has the name of one: a model file would confuse them."""
    name = own.name.partition("(")[0]
    if name in _OURS and own is not _known(own.name):
        raise InputError(f"nnx has an activation named {name!r} itself; choose another name")


def activation(spec: str | Activation) -> Activation:
    """Return the activation that a name stands for; one that is an Activation already stays what it is.

    Parameters
    ----------
    spec : str or Activation
        A name, where the activation has a parameter with or without it: "leaky_relu", "leaky_relu(0.2)".

    Raises
    ------
    InputError
        For an unknown name (with the nearest known ones), an impossible parameter, or an Activation that
        has the name of one of nnx's, which a model file would confuse.

    Examples
    --------
    >>> activation("leaky_relu(0.2)").name
    'leaky_relu(0.2)'
    """
    if isinstance(spec, Activation):
        _refuse_ours(spec)
        return spec
    found = _known(spec) if isinstance(spec, str) else None
    if found is None:
        message = str(unknown("activation", spec, ACTIVATIONS))
        if "did you mean" not in message:
            message += ". One of your own must be registered first: nnx.register_activation"
        raise InputError(message)
    return found


def _known(spec: str) -> Activation | None:
    """Return the activation of this name, or None."""
    if isinstance(found := ACTIVATIONS.get(spec), Activation):
        return found
    match = re.fullmatch(r"(\w+)(?:\(([-+.\deE]+)\))?", spec)
    known = ACTIVATIONS.get(match[1]) if match else None
    if match is None or known is None:
        return None
    name, parameter = match.groups()
    if isinstance(known, Activation):
        raise InputError(f"activation {name!r} takes no parameter; given {spec!r}")
    try:
        return known() if parameter is None else known(float(parameter))  # type: ignore[call-arg]
    except ValueError as error:
        raise InputError(f"activation {spec!r}: {error}") from None
