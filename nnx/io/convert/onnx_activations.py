"""Activations as nodes of ONNX.

The operation of that name, where ONNX has one and onnxruntime computes it in the dtype. Every other activation, one of
your own too, is written by its own formula g, function by function of the standard.
"""

from collections.abc import Callable
from math import pi, sqrt
from typing import Any

from nnx.array.namespace import Array
from nnx.errors import Error, InputError, first_line
from nnx.io.convert.onnx_functions import ELEMENT_BY_ELEMENT
from nnx.io.convert.onnx_graph import Value
from nnx.model.activations.base import Activation
from nnx.support.spec import split

_IN_FLOAT32: dict[str, tuple[str, dict[str, Any]]] = {
    "elu": ("Elu", {"alpha": 1.0}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.01}),
    "selu": ("Selu", {"alpha": 1.6732632423543772848, "gamma": 1.0507009873554804934}),
    "softplus": ("Softplus", {}),
    "softsign": ("Softsign", {}),
}
"""Operations that onnxruntime has in float32 alone; alpha is the activation's parameter, if it has one."""


def _gelu(Z: Array) -> Array:
    # z (1 + erf(z/sqrt(2)))/2: onnxruntime has Erf in float32 alone
    erf = Z.graph.node("Erf", [Z * sqrt(0.5)], Z.dtype, Z.shape)
    product: Array = Z * (0.5 * (1.0 + erf))
    return product


def _gelu_tanh(Z: Array) -> Array:
    # z sigmoid(2u), 2u = sqrt(8/pi) (z + 0.044715 z^3)
    c = sqrt(8 / pi)
    product: Array = Z * sigmoid(Z * (c + c * 0.044715 * (Z * Z)))
    return product


def sigmoid(Z: Array) -> Array:
    """Return 1/(1 + e^-z)."""
    return Z.graph.node("Sigmoid", [Z], Z.dtype, Z.shape)


_OF_NODES: dict[str, Callable[[Array], Any]] = {
    "identity": lambda Z: Z,
    "relu": lambda Z: Z.graph.node("Relu", [Z], Z.dtype, Z.shape),
    "sigmoid": sigmoid,
    "gelu_tanh": _gelu_tanh,
}
_OF_NODES_IN_FLOAT32: dict[str, Callable[[Array], Any]] = {
    "gelu": _gelu,
    "silu": lambda Z: (
        Z * sigmoid(Z)
    ),  # onnxruntime makes these two one operation, in float64 too, which it then lacks
    "gelu_sigmoid": lambda Z: Z * sigmoid(1.702 * Z),
    "mish": lambda Z: Z * Z.graph.xp.tanh(Z.graph.node("Softplus", [Z], Z.dtype, Z.shape)),
}
"""Activations that are a few nodes. Their formulas in nnx are longer, as their derivatives must not overflow."""


def activated(g: Activation, Z: Array) -> Array:
    """Return A = g(Z), of Z's shape.

    Raises
    ------
    InputError
        When the function g of an activation of your own does something that ONNX does not have, or returns another
        shape.
    """
    name, slope = split(g.name)
    if name in _OF_NODES:
        return _OF_NODES[name](Z)
    if Z.dtype == "float32" and name in _OF_NODES_IN_FLOAT32:
        return _OF_NODES_IN_FLOAT32[name](Z)
    if Z.dtype == "float32" and name in _IN_FLOAT32:
        op, attributes = _IN_FLOAT32[name]
        attributes = attributes if slope is None else {**attributes, "alpha": slope}
        return Z.graph.node(op, [Z], Z.dtype, Z.shape, **attributes)
    return _by_its_formula(g, Z)


def _by_its_formula(g: Activation, Z: Array) -> Array:
    """Return g(Z) as its own function computes it, with samples as columns.

    Without the two transposes if it works element by element.
    """
    graph, what = Z.graph, f"the activation {g.name!r}"
    columns = graph.xp.matrix_transpose(Z)
    first = len(graph.nodes)
    found = traced(what, lambda: g.g(columns), Z.dtype)
    if found.shape != columns.shape:
        raise InputError(
            f"{what} cannot be exported to ONNX: it returns the shape {found.shape}; expected {columns.shape}, its "
            "argument's"
        )
    on_rows = {columns: Z}
    for node in graph.nodes[first:]:
        numbers = all(x in on_rows or (x.constant is not None and x.shape == ()) for x in node.args)
        if node.op not in ELEMENT_BY_ELEMENT or not numbers:
            return graph.xp.matrix_transpose(found)
        args = [on_rows.get(x, x) for x in node.args]
        on_rows[node.out] = graph.node(node.op, args, node.out.dtype, Z.shape, **node.attributes)
    return on_rows[found] if found in on_rows else graph.xp.matrix_transpose(found)


def traced(what: str, function: Callable[[], Any], dtype: str) -> Array:
    """Return the value that a function of values makes; `what` begins the error if it makes none of this dtype."""
    try:
        found = function()
    except Exception as error:  # a function of a user may raise anything
        why = (
            first_line(error) if isinstance(error, Error) else f"{type(error).__name__}: {first_line(error)}"
        )
        raise InputError(f"{what} cannot be exported to ONNX: {why}") from error
    if not isinstance(found, Value) or found.dtype != dtype:
        given = found.dtype if isinstance(found, Value) else type(found).__name__
        raise InputError(f"{what} cannot be exported to ONNX: it returns {given}; expected {dtype}")
    return found
