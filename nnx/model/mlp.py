"""Fully connected networks by the sizes of their layers."""

from collections.abc import Sequence

from nnx.errors import InputError, items, positive_int, shown
from nnx.model.activations import activation
from nnx.model.activations.base import Activation
from nnx.model.layers import Activate, Dense, Layer, PReLU
from nnx.model.network import Network
from nnx.model.outputs.loss import OwnLoss


def mlp(
    sizes: Sequence[int],
    hidden: str | Activation | Layer = "relu",
    output: str | None = None,
    init: str | None = None,
    loss: str | OwnLoss | None = None,
) -> Network:
    """Return the fully connected network with layers of these sizes.

    Parameters
    ----------
    sizes : sequence of int
        n[0], ..., n[L]; at least two.
    hidden : str, Activation or Layer
        The activation of the layers 1..L-1; "prelu", or a layer such as `nnx.PReLU()`, stands after each.
    output : {"sigmoid", "softmax", "identity", "exp"} or None
        The link of layer L, with its loss: sigmoid for two classes, or for several labels at once; softmax for
        one class of several; identity for real numbers; exp for counts. None: sigmoid when n[L] = 1, else
        softmax.
    init : str or None
        The initializer of all layers; None: the one that suits the activation.
    loss : str, Loss or None
        Another loss of the output, such as "huber" with "identity", see `nnx.LOSSES`; or one of your own.

    Raises
    ------
    InputError
        When a size is not a positive integer, or a name is not known.

    Examples
    --------
    >>> mlp([12288, 20, 7, 5, 1])
    Network(12288, [Dense(20, relu), Dense(7, relu), Dense(5, relu), Dense(1, identity)], output='sigmoid')
    """
    given = items("sizes", sizes, "a list of n[0], ..., n[L]")
    if len(given) < 2:
        raise InputError(f"sizes must list n[0], ..., n[L], at least two; given {shown(sizes)}")
    n = [positive_int(f"sizes[{l}]", size) for l, size in enumerate(given)]
    if isinstance(hidden, Layer) and not isinstance(hidden, PReLU | Activate):
        raise InputError(
            f"hidden must be an activation; {hidden!r} is a layer of another kind: use nnx.Network"
        )
    after: Layer | None = hidden if isinstance(hidden, Layer) else None
    if after is None and isinstance(hidden, str) and hidden == "prelu":
        after = PReLU()
    g = "identity" if after is not None else activation(hidden)  # type: ignore[arg-type]
    first = "he" if after is not None and init is None else init
    layers: list[Layer] = []
    for units in n[1:-1]:
        layers += [Dense(units, g, first)] + ([] if after is None else [after])
    layers.append(Dense(n[-1], "identity", init))
    if output is None:
        output = "sigmoid" if n[-1] == 1 else "softmax"
    return Network(n[0], layers, output, loss)
