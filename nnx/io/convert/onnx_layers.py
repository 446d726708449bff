"""The layers and the output of a network as nodes of ONNX.

Samples are rows: A[l] is (m, n[l]); of members (K, m, n[l]). Random layers do nothing, and BatchNorm uses its running
statistics, as in every prediction.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import sqrt
from typing import Any

from nnx.array.namespace import Array
from nnx.errors import InputError
from nnx.io.convert.onnx_activations import activated, sigmoid, traced
from nnx.model.layers import Activate, BatchNorm, Context, Dense, Layer, LayerNorm, PReLU, Residual
from nnx.model.layers.scaled import FeatureScale, NTKDense
from nnx.model.network import Network

Named = Iterator[tuple[str, Any]]
"""The parameters that are left, by their names: NumPy arrays (rows, columns), of members (K, rows, columns)."""


def outputs(network: Network, arrays: Mapping[str, Any], X: Array) -> Array:
    """Return A[L] (..., m, n[L]) of X (m, n[0]).

    Raises
    ------
    InputError
        For a layer, an activation or an output of your own that does something that ONNX does not have.
    """
    named = iter(arrays.items())
    return _linked(network, _through(network.layers, named, X, network.n_features))


def _through(layers: Sequence[Layer], named: Named, A: Array, n: int) -> Array:
    for layer in layers:
        if isinstance(layer, Residual):
            A = A + _through(layer.layers, named, A, n)
        elif layer.layers:
            raise InputError(
                f"the layer {layer!r} has layers inside; of these only Residual can be exported to ONNX"
            )
        else:
            own = {
                key: A.graph.constant(x, name) for key, (name, x) in zip(layer.shapes(n), named, strict=False)
            }
            A = _layer(layer, own, A)
        n = layer.units(n)
    return A


def _layer(layer: Layer, own: Mapping[str, Array], A: Array) -> Array:
    """Return A[l] of A[l-1]; a layer's parameters (n, 1) become rows (n,) or (..., 1, n)."""
    xp = A.graph.xp
    kind = type(layer)
    of_members = any(x.ndim > 2 for x in own.values())
    row = {key: xp.matrix_transpose(x) for key, x in own.items()}
    if kind is Dense:
        assert isinstance(layer, Dense)
        return activated(layer.g, _product(own, row, A, of_members))
    if kind is NTKDense:
        assert isinstance(layer, NTKDense)
        scaled = {"W": own["W"] / sqrt(own["W"].shape[-1]), "b": layer.bias_rate * own["b"]}
        rows = {key: xp.matrix_transpose(x) for key, x in scaled.items()}
        return activated(layer.g, _product(scaled, rows, A, of_members))
    if kind is FeatureScale:
        assert isinstance(layer, FeatureScale)
        return layer.rate * row["s"] * A
    if kind is Activate:
        assert isinstance(layer, Activate)
        return activated(layer.g, A)
    if kind is PReLU:
        if of_members or A.ndim > 2 or A.dtype != "float32":
            return xp.maximum(A, 0.0) + row["a"] * xp.minimum(A, 0.0)
        return A.graph.node("PRelu", [A, row["a"]], A.dtype, A.shape)
    if kind is LayerNorm:
        assert isinstance(layer, LayerNorm)
        centred = A - xp.mean(A, axis=-1, keepdims=True)
        variance = xp.mean(centred * centred, axis=-1, keepdims=True)
        return row["gamma"] * (centred / xp.sqrt(variance + layer.epsilon)) + row["beta"]
    if kind is BatchNorm:  # not the operation of that name: its epsilon is a float32
        assert isinstance(layer, BatchNorm)
        scale = row["gamma"] / xp.sqrt(row["variance"] + layer.epsilon)
        return scale * (A - row["mean"]) + row["beta"]
    return _by_its_forward(layer, own, A)


def _product(own: Mapping[str, Array], row: Mapping[str, Array], A: Array, of_members: bool) -> Array:
    """Return Z[l] = A[l-1] W[l]^T + b[l]."""
    if of_members or A.ndim > 2:
        return A @ row["W"] + row["b"]
    b = A.graph.xp.reshape(own["b"], (-1,))
    return A.graph.node("Gemm", [A, own["W"], b], A.dtype, (A.shape[0], own["W"].shape[0]), transB=1)


def _by_its_forward(layer: Layer, own: Mapping[str, Array], A: Array) -> Array:
    """Return A[l] as the layer's own forward computes it, with samples as columns."""
    xp = A.graph.xp

    def forward() -> Any:
        return xp.matrix_transpose(layer.forward(dict(own), xp.matrix_transpose(A), Context())[0])

    return traced(f"the layer {type(layer).__name__}", forward, A.dtype)


def _linked(network: Network, Z: Array) -> Array:
    """Return A[L] = g[L](Z[L])."""
    link, xp = network.output, Z.graph.xp
    match link.name:
        case "identity":
            return Z
        case "sigmoid":
            return sigmoid(Z)
        case "softmax":
            return Z.graph.node("Softmax", [Z], Z.dtype, Z.shape, axis=-1)
        case "exp":
            return traced("the output 'exp'", lambda: link.link(Z), Z.dtype)
    columns = xp.matrix_transpose
    return traced(f"the output {link.name!r}", lambda: columns(link.link(columns(Z))), Z.dtype)
