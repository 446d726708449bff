"""The activations by their names, nnx's and your own."""

from collections.abc import Callable

from nnx.errors import InputError, shown, unknown
from nnx.model.activations.base import Activation
from nnx.model.activations.functions import (
    elu,
    gelu,
    gelu_sigmoid,
    gelu_tanh,
    hard_tanh,
    identity,
    leaky_relu,
    mish,
    relu,
    selu,
    sigmoid,
    silu,
    softplus,
    softsign,
    tanh,
)
from nnx.support.spec import argument, split

ACTIVATIONS: dict[str, Activation | Callable[[float], Activation]] = {
    "sigmoid": sigmoid,
    "tanh": tanh,
    "relu": relu,
    "leaky_relu": leaky_relu,
    "identity": identity,
    "elu": elu,
    "selu": selu,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "gelu_sigmoid": gelu_sigmoid,
    "silu": silu,
    "softplus": softplus,
    "softsign": softsign,
    "mish": mish,
    "hard_tanh": hard_tanh,
}
"""Every activation by its name; one with a parameter is a function."""


_OURS = frozenset(ACTIVATIONS)


def register(activation: Activation) -> Activation:
    """Make an activation of your own known by its name, to `nnx.Dense` and `nnx.Trainer.load`.

    Model files name their activations and have no code. So register one of your own before you load a model that uses
    it. Registering another one under the same name replaces it.

    Raises
    ------
    InputError
        When nnx has an activation of that name itself, or the derivative is wrong.
    """
    if not isinstance(activation, Activation):
        raise InputError(f"expected an nnx.Activation, not {shown(activation)}")
    _check(activation)
    ACTIVATIONS[activation.name] = activation
    return activation


def _check(given: Activation) -> None:
    """Raise an InputError if an activation of a user has the name of one of nnx's, or a wrong derivative."""
    name = given.name.partition("(")[0]
    if name in _OURS:
        if given is not _known(given.name):
            raise InputError(f"nnx has an activation named {name!r} itself; choose another name")
    elif given.check and "_checked" not in vars(given):
        given.check_derivative()
        object.__setattr__(given, "_checked", True)  # no field: it is no part of the activation


def activation(spec: str | Activation) -> Activation:
    """Return the activation of this name; an Activation is returned as it is.

    Parameters
    ----------
    spec : str or Activation
        A name, with or without the activation's parameter: "leaky_relu", "leaky_relu(0.2)".

    Raises
    ------
    InputError
        For an unknown name (with the nearest known ones), an impossible parameter, or an Activation with the name of
        one of nnx's or a wrong derivative.

    Examples
    --------
    >>> activation("leaky_relu(0.2)").name
    'leaky_relu(0.2)'
    """
    if isinstance(spec, Activation):
        _check(spec)
        return spec
    found = _known(spec) if isinstance(spec, str) else None
    if found is None:
        if isinstance(spec, str) and spec == "prelu":
            raise InputError(
                "prelu has a slope that is learned, so it is a layer: nnx.PReLU() after nnx.Dense(n, init='he')"
            )
        if callable(spec):
            raise InputError(
                "an activation of your own needs its derivative, too: nnx.Activation(name, g, dg); "
                f"given {shown(spec)}"
            )
        if isinstance(spec, str) and spec == "softmax":
            raise InputError(
                "softmax is an output, not a hidden layer's activation: nnx.Network(..., output='softmax'), "
                "whose last layer is a Dense without an activation"
            )
        raise unknown("activation", spec, ACTIVATIONS, register="register_activation")
    return found


def _known(spec: str) -> Activation | None:
    """Return the activation of this name, or None."""
    if isinstance(found := ACTIVATIONS.get(spec), Activation):
        return found
    name, parameter = split(spec)
    known = ACTIVATIONS.get(name)
    if known is None:
        return None
    if isinstance(known, Activation):
        raise InputError(f"activation {name!r} takes no parameter; given {spec!r}")
    try:
        return known() if parameter is None else known(argument(known, parameter))  # type: ignore[call-arg, arg-type]
    except ValueError as error:
        raise InputError(f"activation {spec!r}: {error}") from None
