"""Models as ONNX files."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nnx.array import host
from nnx.array.namespace import Array
from nnx.errors import InputError, as_path, flag
from nnx.io.atomic_write import written_aside
from nnx.io.convert.onnx_functions import Functions
from nnx.io.convert.onnx_graph import Graph
from nnx.io.convert.onnx_layers import outputs
from nnx.port.base import require

if TYPE_CHECKING:
    from nnx.convert.models import Model


def to_onnx(
    model: Any, path: str | Path, params: Any = None, dtype: str | None = None, *, members: bool = False
) -> None:
    """Write a model to an ONNX file: its network, and its table's preparation and labels, if it has them.

    Samples are rows; m is their number, another in each call.

    ==================================== ============================ =========================================
    model                                inputs                       outputs
    ==================================== ============================ =========================================
    a network, or a trainer of arrays    "X" (m, n[0])                "A" (m, n[L])
    a table's: `nnx.Tabular`, nnx train  one a column (m, 1)          "label" (m,) and "probabilities"
                                                                      (m, classes); or "prediction" (m,)
    MLPClassifier, MLPRegressor          "X" (m, features)            the same
    ==================================== ============================ =========================================

    Parameters
    ----------
    model : Network, Trainer, Tabular, MLPClassifier or MLPRegressor
        Fitted. Of members the mean predicts.
    path : path
        The file, which is replaced if it exists.
    params : dict of arrays, array (P,), or None
        The parameters of a network. All others have their own.
    dtype : {"float32", "float64"} or None
        In which the graph computes; None: that of the parameters.
    members : bool
        Whether the graph has one more output, "members", with K as its first axis: "A", "probabilities" or
        "prediction" of each member.

    Raises
    ------
    InputError
        For a layer, an activation or a column that cannot be exported: which, before anything is written.
    BackendError
        When the package onnx is missing.
    OSError
        When the file cannot be written.

    Notes
    -----
    The file needs ONNX's operations of version 13 (ONNX 1.8, 2020), and version 2 of ai.onnx.ml for text. A column of
    numbers is a float64 (NaN: missing), booleans are 1 and 0 there, dates are seconds since 1970-01-01 in UTC. Text is
    a string (empty: missing).

    Examples
    --------
    >>> import nnx
    >>> net = nnx.mlp([4, 8, 3], output="softmax")
    >>> nnx.convert.to_onnx(net, "iris.onnx", net.init())  # doctest: +SKIP
    """
    from nnx.convert.models import model_of  # which needs all that reads tables

    file = as_path("path", path)
    onnx = require("onnx", "onnx")
    found = _as(model_of(model, params), dtype)
    graph = written(found, flag("members", members))
    made = graph.model(onnx, repr(found.network), found.properties)
    with written_aside(file) as aside:
        aside.write_bytes(made.SerializeToString())


def ends_of(path: Path) -> tuple[list[tuple[str, ...]], ...]:
    """Return the inputs and the outputs of an ONNX file: name, type, shape, and the meaning of the values, as texts."""
    onnx = require("onnx", "onnx")
    graph = onnx.load(path).graph

    def described(end: Any) -> tuple[str, ...]:
        tensor = end.type.tensor_type
        axes = [str(axis.dim_param or axis.dim_value) for axis in tensor.shape.dim]
        shape = f"({', '.join(axes)}{',' * (len(axes) == 1)})"
        return end.name, onnx.TensorProto.DataType.Name(tensor.elem_type).lower(), shape, end.doc_string

    return [described(end) for end in graph.input], [described(end) for end in graph.output]


def _as(model: "Model", dtype: str | None) -> "Model":
    """Return the model with parameters of this dtype, without members that have no share."""
    given = next(iter(model.arrays.values())).dtype
    wanted = host.dtype_name(given if dtype is None else dtype)
    model.network.check_options(wanted)
    with np.errstate(over="ignore"):
        arrays = {name: np.asarray(x, wanted) for name, x in model.arrays.items()}
    if model.shares is not None and not any(model.shares):
        raise InputError("no member predicts: all have diverged; train again")
    used = ... if model.shares is None else np.flatnonzero(model.shares)
    for name, x in model.arrays.items():
        if host.is_finite(x[used]) and not host.is_finite(arrays[name][used]):
            raise InputError(
                f"the parameter {name} has numbers that are too large for {wanted}; leave dtype out, or give float64"
            )
    return replace(model, arrays=arrays)


def written(model: "Model", members: bool) -> Graph:
    """Return the graph of a model."""
    graph: Graph = Functions().graph
    shares, arrays = model.shares, model.arrays
    if members and shares is None:
        raise InputError("the model is one network, and no members; leave members=True out")
    chosen = [k for k, share in enumerate(shares or ()) if share]
    if shares is not None and not members:  # the others are not in the graph
        shares = [shares[k] for k in chosen]
        arrays = {name: x[chosen] if len(chosen) > 1 else x[chosen[0]] for name, x in arrays.items()}
    _check_finite(arrays if not members else {name: x[chosen] for name, x in arrays.items()})
    dtype = str(next(iter(arrays.values())).dtype)
    Z = outputs(model.network, arrays, model.X(graph, dtype))
    A = model.averaged(Z)
    if Z.ndim < 3:  # one network
        found = model.predictions(A)
    else:
        assert shares is not None
        own = A if len(shares) == len(chosen) else graph.xp.gather(A, graph.constant(np.array(chosen)))
        found = model.predictions(_mean(own, [share for share in shares if share]))
    for name, value in found.items():
        graph.output(name, value)
    if members:
        each = model.predictions(A)
        graph.output("members", each[[*each][-1]])
    return graph


def _mean(A: Array, shares: Any) -> Array:
    """Return the mean (m, ...) of A (K, m, ...), by the members' shares."""
    weights = A.graph.constant(np.asarray(shares, A.dtype).reshape(-1, *[1] * (A.ndim - 1)))
    return A.graph.xp.sum(weights * A, axis=0)


def _check_finite(arrays: Mapping[str, Any]) -> None:
    for name, x in arrays.items():
        if not host.is_finite(x):
            raise InputError(
                f"the parameter {name} has numbers that are not finite; train again, with a lower rate"
            )
