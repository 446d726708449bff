"""Embeddings of numbers by their names, as the estimators, `nnx.Tabular` and the command line take them."""

from collections.abc import Callable
from typing import Any

from nnx.errors import InputError, shown, unknown
from nnx.model.layers import Layer, Periodic, PiecewiseLinear
from nnx.model.layers.embedding import Embedding
from nnx.support import spec
from nnx.support.registry import make

EMBEDDINGS: dict[str, Callable[..., Embedding]] = {"piecewise_linear": PiecewiseLinear, "periodic": Periodic}
"""The layers by their names."""


def embedding(given: Any) -> Embedding | None:
    """Return the layer of a name, "piecewise_linear" or "periodic(sigma=1)", with its arguments; or a layer as it is.

    Its edges are learned later: `layer.learned(X)`.

    Raises
    ------
    InputError
        For an unknown name (the nearest), an argument that the layer does not take, and what is no embedding.

    Examples
    --------
    >>> embedding("piecewise_linear(bins=16, width=4)")
    PiecewiseLinear(bins=16, width=4, activation=Activation('relu'), columns=None)
    """
    if given is None or isinstance(given, Embedding):
        return given
    if not isinstance(given, str):
        raise InputError(
            "expected 'piecewise_linear', 'periodic', one of them with arguments, such as 'periodic(sigma=1)', an "
            f"nnx.PiecewiseLinear, an nnx.Periodic, or None; given {shown(given)}"
        )
    if "[" in given:
        raise InputError(
            f"{given!r}: a text can name neither columns nor edges; in Python give the layer, such as "
            "nnx.Periodic(columns=[0, 2])"
        )
    name, arguments = spec.call(given)
    name = name.replace("-", "_")
    if name not in EMBEDDINGS:
        raise unknown("embedding", name, EMBEDDINGS)
    constants = {"True": True, "False": False, "None": None}
    values = {key: constants.get(str(value), value) for key, value in arguments.items()}
    return make("embedding", EMBEDDINGS, name, values)


def embedded(given: Any, X: Any) -> list[Layer]:
    """Return the layers that embed samples X (n, m), those to train on: one, or none where `given` is None or "none".

    Raises
    ------
    InputError
        As `embedding`; and where X has no column to embed.

    Examples
    --------
    >>> import numpy as np
    >>> [layer.edges for layer in embedded("piecewise_linear(bins=2)", np.array([[1.0, 0.0, 2.0]]))]
    [((0.0, 1.0, 2.0),)]
    """
    layer = None if given == "none" else embedding(given)
    return [] if layer is None else [layer.learned(X)]
