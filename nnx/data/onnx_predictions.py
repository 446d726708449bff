"""The outputs of a network as predictions in ONNX: a label and probabilities, or a number in the target's unit."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from nnx.array.namespace import Array
from nnx.data import labels as label
from nnx.data.prepare import Preparation


def predictions(preparation: Preparation, A: Array) -> dict[str, Array]:
    """Return the outputs by their names, from A (..., m, n[L]).

    "label" (..., m) and "probabilities" (..., m, classes), or "prediction" (..., m) in float64.
    """
    if preparation.labels is None:
        return {"prediction": in_units(preparation, A)}
    return {"label": labelled(as_array(preparation.labels), A), "probabilities": probabilities(A)}


def in_units(preparation: Preparation, A: Array) -> Array:
    """Return numbers (..., m), float64, in the target's unit."""
    xp = A.graph.xp
    a = xp.squeeze(xp.astype(A, "float64"), -1)
    return a * preparation.y_scale + preparation.y_mean


def as_array(labels: Sequence[Any]) -> Any:
    """Return the labels as `Preparation.predicted` gives them; integers beyond 64 bits as text."""
    dtype = label.dtype_of(labels)
    return np.array([label.text(one) for one in labels] if dtype is None else labels, dtype or object)


def labelled(classes: Any, A: Array, limit: float = 0.5) -> Array:
    """Return the class (..., m) of A (..., m, n[L]): the most probable one; of two with one output, a > limit."""
    graph, xp = A.graph, A.graph.xp
    if len(classes) == 1:
        places = xp.astype(xp.squeeze(A, -1) > float("inf"), "int64")  # always 0
    elif A.shape[-1] == 1:
        places = xp.astype(xp.squeeze(A, -1) > limit, "int64")
    else:
        places = graph.node("ArgMax", [A], "int64", A.shape[:-1], axis=-1, keepdims=0)
    return xp.gather(graph.constant(classes, "classes"), places)


def probabilities(A: Array) -> Array:
    """Return the probability of each class (..., m, classes)."""
    if A.shape[-1] != 1:
        return A
    both: Array = A.graph.xp.concat([1.0 - A, A], axis=-1)
    return both
