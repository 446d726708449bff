"""Networks from and to Keras's lists of weights."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from nnx.errors import InputError, shown
from nnx.io.convert.parameters import (
    as_floats,
    check_network,
    checked_parameters,
    contiguous_copy,
    each_layer,
)
from nnx.model.layers import BatchNorm, Dense, LayerNorm, PReLU
from nnx.model.network import Network


def to_keras(network: Network, params: Any) -> list[Any]:
    """Return the parameters as a Keras model of the same layers has them, for its `set_weights`.

    Parameters
    ----------
    network : Network
    params : dict of arrays, or array (P,)
        The parameters by name, or theta, of any library.

    Returns
    -------
    list of NumPy arrays
        Layer by layer: of a Dense the kernel (n[l-1], n[l]), which is W[l].T, and the bias (n[l],); of a
        BatchNormalization gamma, beta, moving_mean and moving_variance, of a LayerNormalization gamma and beta, of
        a PReLU alpha, each (n[l],). A Residual has those of its block.

    Raises
    ------
    InputError
        When a parameter does not fit, or belongs to a layer of your own.

    Notes
    -----
    Keras's norms have an epsilon of 1e-3 by default, nnx's 1e-5; and its BatchNormalization's momentum is
    the share of the old statistics, 1 less ours. Give both to the layers there.

    Examples
    --------
    >>> import nnx
    >>> net = nnx.mlp([4, 8, 3])
    >>> [x.shape for x in nnx.convert.to_keras(net, net.init())]
    [(4, 8), (8,), (8, 3), (3,)]
    """
    arrays = checked_parameters(network, params)
    _keras_layout(network)  # refuses layers that Keras lacks
    return [
        contiguous_copy(x.T if key == "W" else x[:, 0])
        for _, _, p in each_layer(network, arrays)
        for key, x in p.items()
    ]


def from_keras(weights: Sequence[Any], network: Network) -> dict[str, Any]:
    """Return a network's parameters from the weights of a Keras model of the same layers, its `get_weights()`.

    Parameters
    ----------
    weights : list of arrays
        In Keras's order and shapes, see `to_keras`.
    network : Network
        The model's structure, which the weights do not say: its activations, the epsilon of its norms (`BatchNorm(
        momentum=0.01, epsilon=1e-3)` is Keras's default).

    Returns
    -------
    dict of NumPy arrays
        In the notes' shapes, for `Trainer.parameters` or `Network.flatten`.

    Raises
    ------
    InputError
        When their number or a shape does not fit: which one.

    Examples
    --------
    >>> import numpy as np
    >>> import nnx
    >>> params = nnx.convert.from_keras([np.ones((4, 3)), np.zeros(3)], nnx.mlp([4, 3]))
    >>> params["W1"].shape, params["b1"].shape
    ((3, 4), (3, 1))
    """
    check_network(network)
    layout = _keras_layout(network)
    if (
        isinstance(weights, np.ndarray)
        or not isinstance(weights, Sequence)
        or isinstance(weights, str | bytes)
    ):
        raise InputError(
            f"weights must be a list of arrays, as get_weights() returns; given {shown(weights)}"
        )
    if len(weights) != len(layout):
        expected = ", ".join(f"{word} {shape}" for word, shape in layout.values())
        raise InputError(
            f"weights has {len(weights)} arrays; expected {len(layout)} for {network!r}: {expected}. (A Keras layer "
            "with use_bias=False, scale=False or center=False lacks one: put zeros, or ones for the scale)"
        )
    params = {}
    for i, (x, (name, (word, shape))) in enumerate(zip(weights, layout.items(), strict=True)):
        x = as_floats(f"weights[{i}]", x)
        if x.shape != shape:
            hint = "; its transpose would fit" if x.shape == shape[::-1] else ""
            raise InputError(f"weights[{i}] has shape {x.shape}; expected the {word} {shape} of {name}{hint}")
        params[name] = contiguous_copy(x.T if word == "kernel" else x[:, None])
    return params


KERAS_NAMES = {
    "W": "kernel",
    "b": "bias",
    "gamma": "gamma",
    "beta": "beta",
    "mean": "moving_mean",
    "variance": "moving_variance",
    "a": "alpha",
}
"""Keras's names of a layer's parameters."""


def _keras_layout(network: Network) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return Keras's name and shape of every parameter, in its order, which is ours."""
    layout = {}
    shapes = iter(network.shapes.items())
    for layer, n_prev, _ in each_layer(network, None):
        for key in layer.shapes(n_prev):
            name, shape = next(shapes)
            if not isinstance(layer, Dense | BatchNorm | LayerNorm | PReLU):
                raise InputError(f"Keras has no counterpart of the layer {layer!r}, which has parameters")
            layout[name] = KERAS_NAMES[key], (shape[::-1] if key == "W" else shape[:1])
    return layout
