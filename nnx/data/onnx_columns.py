"""A preparation's columns as nodes of ONNX: from one input a column to the inputs X of the network.

All is computed in float64, and rounded to the network's dtype at the end, as `Preparation.X` does it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from nnx.array.namespace import Array
from nnx.data.encoding import Column
from nnx.data.onnx_dates import date_inputs
from nnx.data.prepare import Preparation
from nnx.data.scaling import first_inputs
from nnx.errors import InputError
from nnx.io.convert.onnx_graph import Graph

ABOUT = {
    "numbers": "a number; NaN: missing",
    "boolean": "1 for true, 0 for false; NaN: missing",
    "categories": "text; empty: missing",
}
"""The values of an input, by the column's kind; dates have their own."""


def inputs(graph: Graph, preparation: Preparation, dtype: str) -> Array:
    """Add an input for each column, and return X (m, n[0]).

    Columns of arrays, which have no names, are one input "X" (m, features).

    Raises
    ------
    InputError
        When a column has no name, or has both missing values and the empty text as a category.
    """
    mean, scale = np.asarray(preparation.mean), np.asarray(preparation.scale)
    columns = preparation.columns
    if columns is None:
        X = graph.input("X", "float64", (None, len(mean)), "samples as rows")
        return finite(_scaled(X, mean[None, :], scale[None, :]), dtype)
    names, firsts = preparation.features, first_inputs(preparation.features, columns)
    for name, column in zip(names, columns, strict=True):
        _check(name, column)
    values = [
        graph.input(name, "string" if column.kind == "categories" else "float64", (None, 1), _about(column))
        for name, column in zip(names, columns, strict=True)
    ]
    blocks: list[tuple[Array, Sequence[int]]] = []
    numeric = [j for j, column in enumerate(columns) if column.kind in ("numbers", "boolean")]
    if numeric:
        own = [(values[j], columns[j], firsts[j]) for j in numeric]
        blocks += _numbers(graph, own, mean, scale, dtype)
    for value, column, at in zip(values, columns, firsts, strict=True):
        if column.kind == "categories" and (width := len(column.inputs(""))):
            blocks.append((_one_hot(graph, value, column, width, dtype), range(at, at + width)))
        elif column.dates is not None:
            for part in date_inputs(value, column, mean[at:], scale[at:], dtype):
                width = part.shape[1] or 0
                blocks.append((finite(part, dtype), range(at, at + width)))
                at += width
    return _in_order(graph, blocks)


def _about(column: Column) -> str:
    if column.dates is None:
        return ABOUT[column.kind]
    since = "midnight" if column.dates.order == "time" else "1970-01-01 in UTC"
    return f"seconds since {since}; NaN: missing"


def _check(name: str, column: Column) -> None:
    if not name:
        raise InputError(
            "a column has no name, which every input of ONNX needs; give it one, and train again"
        )
    known = [*column.categories, *column.rare]
    if column.kind == "categories" and "" in known and None in known:
        raise InputError(
            f"the column {name!r} cannot be exported to ONNX: the empty text is one of its categories, and it has "
            "missing values, too, which ONNX's text cannot tell apart; write another word for one, and train again"
        )


def _scaled(x: Array, mean: Any, scale: Any) -> Array:
    constant = x.graph.constant
    found: Array = (x - constant(mean)) / constant(scale)
    return found


def finite(x: Array, dtype: str) -> Array:
    """Return x in the network's dtype, NaN where it is infinite there: the outputs of such a row are NaN, too."""
    xp = x.graph.xp
    x = xp.astype(x, dtype)
    return xp.where(xp.isinf(x), float("nan"), x)


def _numbers(
    graph: Graph, own: Sequence[tuple[Array, Column, int]], mean: Any, scale: Any, dtype: str
) -> list[tuple[Array, Sequence[int]]]:
    """Return the scaled numbers (m, columns) of all columns of numbers, where they are missing, and the places."""
    xp = graph.xp
    values, columns, places = zip(*own, strict=True)
    at = list(places)
    raw = xp.concat(values, axis=1)
    missing = xp.isnan(raw)
    filled = xp.where(missing, graph.constant(np.array([[column.fill for column in columns]])), raw)
    found: list[tuple[Array, Sequence[int]]] = [
        (finite(_scaled(filled, mean[None, at], scale[None, at]), dtype), at)
    ]
    flagged = [k for k, column in enumerate(columns) if column.missing]
    if flagged:
        chosen = xp.gather(xp.astype(missing, dtype), graph.constant(np.array(flagged, "int64")), 1)
        found.append((chosen, [at[k] + 1 for k in flagged]))
    return found


def _one_hot(graph: Graph, text: Array, column: Column, width: int, dtype: str) -> Array:
    """Return the inputs (m, width) of categories: as `Column._codes`, -1 for text without an input."""
    rest = len(column.categories) if column.rare else -1
    places: dict[str | None, int] = dict.fromkeys(column.rare, rest)
    places |= {one: k for k, one in enumerate(column.categories)}
    of_missing = places.pop(None, rest)
    places.setdefault("", of_missing)
    keys: dict[str, Any] = {
        "keys_strings": [str(one).encode() for one in places],
        "values_int64s": list(places.values()),
    }
    codes = graph.node("LabelEncoder", [text], "int64", text.shape, "ai.onnx.ml", default_int64=rest, **keys)
    own = graph.constant(np.arange(width, dtype="int64")[None, :])
    return graph.xp.astype(graph.xp.equal(codes, own), dtype)


def _in_order(graph: Graph, blocks: Sequence[tuple[Array, Sequence[int]]]) -> Array:
    """Return X (m, n[0]): the blocks beside each other, each input at its place."""
    X: Array = graph.xp.concat([block for block, _ in blocks], axis=1)
    places = np.concatenate([list(at) for _, at in blocks])
    if (places == np.arange(len(places))).all():
        return X
    return graph.xp.gather(X, graph.constant(np.argsort(places).astype("int64")), 1)
