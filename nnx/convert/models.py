"""The parts of a model that its export needs, of each kind of object that has one (edge)."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nnx.array import host
from nnx.array.namespace import Array
from nnx.data.onnx_columns import inputs
from nnx.data.onnx_predictions import labelled, predictions, probabilities
from nnx.data.prepare import Preparation
from nnx.errors import InputError, shown
from nnx.io.convert.onnx_graph import Graph
from nnx.io.convert.parameters import checked_parameters
from nnx.model.network import Network
from nnx.model.outputs.base import Output
from nnx.train.trainer import Trainer


@dataclass(frozen=True)
class Model:
    """A network with its parameters, and the use of its inputs and outputs.

    Attributes
    ----------
    network : Network
    arrays : dict of NumPy arrays
        The parameters by name; of members each has K as its first axis.
    shares : sequence of float, or None
        The share of each member in the mean; None: it is one network.
    inputs : callable
        Graph, dtype -> X (m, n[0]); None: X itself is the input.
    predictions : callable
        A (..., m, n[L]), after `averaged`, -> the outputs by their names.
    properties : dict of str
        What the graph itself does not tell.
    averaged : callable
        A (..., m, n[L]) -> the numbers (..., m, ...) whose mean over the members is predicted.
    """

    network: Network
    arrays: Mapping[str, Any]
    shares: Sequence[float] | None = None
    inputs: Callable[[Graph, str], Array] | None = None
    predictions: Callable[[Array], dict[str, Array]] = field(default=lambda A: {"A": A})
    properties: Mapping[str, str] = field(default_factory=dict)
    averaged: Callable[[Array], Array] = field(default=lambda A: A)

    def X(self, graph: Graph, dtype: str) -> Array:
        """Add the inputs to a graph, and return X (m, n[0])."""
        if self.inputs is not None:
            return self.inputs(graph, dtype)
        return graph.input("X", dtype, (None, self.network.n_features), "samples as rows")


def model_of(given: Any, params: Any) -> Model:
    """Return the parts of a network with `params`, a trainer, an `nnx.Tabular` or a fitted estimator.

    Raises
    ------
    InputError
        When it is none of these, or not fitted.
    """
    if isinstance(given, Network):
        if params is None:
            raise InputError(
                "a network has no parameters of its own; give them, too: to_onnx(network, path, params)"
            )
        return Model(given, checked_parameters(given, params))
    if params is not None:
        raise InputError(f"params are those of a network; {shown(given)} has its own: leave them out")
    if isinstance(given, Trainer):
        return _of_trainer(given)
    if (tabular := sys.modules.get("nnx.data.tabular")) is not None and isinstance(given, tabular.Tabular):
        return _of_trainer(given.trainer)
    if (base := sys.modules.get("nnx.sklearn.base")) is not None and isinstance(given, base.BaseMLP):
        return _of_estimator(given)
    if type(given).__name__ in ("TabularClassifier", "TabularRegressor"):
        raise InputError(
            f"a {type(given).__name__} cannot be exported to ONNX; an nnx.Tabular, which takes tables, too, can be"
        )
    raise InputError(
        "expected an nnx.Network with its parameters, an nnx.Trainer, an nnx.Tabular, or a fitted "
        f"MLPClassifier or MLPRegressor of nnx.sklearn; given {shown(given)}"
    )


def _of_trainer(trainer: Trainer) -> Model:
    shares = trainer.ensemble.weights if trainer.each else None
    parts = trainer.network, trainer.parameters, shares
    if "preparation" not in trainer.metadata:
        return Model(*parts)
    preparation = Preparation.of(trainer.metadata)
    properties = {"target": preparation.target}
    if preparation.labels is not None:
        properties["classes"] = json.dumps(preparation.labels)
    return Model(
        *parts,
        lambda graph, dtype: inputs(graph, preparation, dtype),
        lambda A: predictions(preparation, A),
        properties,
    )


def _of_estimator(estimator: Any) -> Model:
    """Return the parts of a fitted MLPClassifier or MLPRegressor."""
    kind: Any = type(estimator)
    members = vars(estimator).get("members_")
    own = next((one for one in kind.__mro__ if one.__module__.startswith("nnx.sklearn.")), kind)
    if kind.predict is not own.predict or own.__name__ not in ("MLPClassifier", "MLPRegressor"):
        raise InputError(f"{kind.__name__} predicts in a way of its own, which cannot be exported to ONNX")
    if members is None and "network_" not in vars(estimator):
        raise InputError(f"this {kind.__name__} is not fitted yet; call fit first")
    networks = [one.network_ for one in members or [estimator]]
    parameters = [
        network.unflatten(host.as_host(one._theta(one.network_)))
        for network, one in zip(networks, members or [estimator], strict=True)
    ]
    arrays, shares = parameters[0], None
    if members:
        arrays = {name: np.stack([one[name] for one in parameters]) for name in parameters[0]}
        shares = np.asarray(estimator.member_weights_).tolist()
    network, parts = networks[0], (networks[0], arrays, shares)
    if own.__name__ == "MLPClassifier":
        properties = {"classes": json.dumps(host.as_host(estimator.classes_).tolist())}
        return Model(*parts, predictions=_of_classifier(estimator, network.output), properties=properties)
    targets, several = network.n_targets, network.output.per_target > 1 and network.output.epsilon is None
    axis = -2 if several else -1  # that of the targets

    def predictions(A: Array) -> dict[str, Array]:
        return {"prediction": A.graph.xp.squeeze(A, axis) if targets == 1 else A}

    return Model(*parts, predictions=predictions, averaged=_of_regressor(network.output, targets))


def _of_regressor(output: Output, targets: int) -> Callable[[Array], Array]:
    """Return the numbers of each network: of a Gaussian the means, of several quantiles these in order."""
    if output.epsilon is not None:
        return lambda A: A[..., :targets]
    if output.per_target == 1:
        return lambda A: A

    def in_order(A: Array) -> Array:
        xp, lead = A.graph.xp, A.shape[:-2]
        each = xp.reshape(A, (*lead, None, output.per_target, targets))
        return xp.sort(xp.matrix_transpose(each))

    return in_order


def _of_classifier(estimator: Any, output: Output) -> Callable[[Array], dict[str, Array]]:
    """Return the labels, and their probabilities; of the hinge, which has none, the scores of `decision_function`."""
    limit = output.threshold

    def shares(A: Array) -> dict[str, Array]:
        if output.probabilities:
            return {"probabilities": A if several else probabilities(A)}
        return {"scores": A.graph.xp.squeeze(A, -1) if A.shape[-1] == 1 else A}

    if several := estimator._kind == "multilabel-indicator":
        return lambda A: {"label": A.graph.xp.astype(A > limit, "int64"), **shares(A)}
    classes = host.as_host(estimator.classes_)
    if classes.dtype.kind == "O" and not all(isinstance(one, str) for one in classes.tolist()):
        classes = np.array(classes.tolist())
    if classes.dtype.kind not in "bifuUO":
        raise InputError(
            f"classes of the dtype {classes.dtype} cannot be exported to ONNX; fit with text, numbers or booleans"
        )
    return lambda A: {"label": labelled(classes, A, limit), **shares(A)}
