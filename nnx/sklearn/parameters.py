"""The parameters of an estimator: their check, and the network, optimizer and regularization that they mean."""

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils._param_validation import Interval, Options, StrOptions

from nnx import optimizers
from nnx.callbacks.base import Callbacks
from nnx.callbacks.checkpoints import Checkpoints
from nnx.errors import (
    LARGEST,
    InputError,
    between,
    integer,
    items,
    number,
    scalar,
    shown,
)
from nnx.model import layers
from nnx.model.activations import ACTIVATIONS, activation
from nnx.model.network import Network
from nnx.model.regularization import Regularization
from nnx.optimizers import lbfgs
from nnx.optimizers.schedules import Schedule
from nnx.port.precision import PRECISIONS
from nnx.sklearn import embeddings
from nnx.sklearn.class_weights import check_class_weight, weights_name
from nnx.sklearn.losses import SKLEARN_LOSSES
from nnx.sklearn.member_params import check_members
from nnx.sklearn.names import Names
from nnx.sklearn.optimizers import SGD, Adam

HIDDEN = {"logistic", "prelu", *ACTIVATIONS}
NORMS: dict[str, type[layers.Layer]] = {"batch": layers.BatchNorm, "layer": layers.LayerNorm}


def _at_least(kind: type, low: float, closed: str = "left") -> Any:
    return Interval(kind, low, None, closed=closed)


CONSTRAINTS: dict[str, Any] = {
    "hidden_layer_sizes": ["array-like", _at_least(Integral, 1)],
    "activation": [Names(HIDDEN, ACTIVATIONS)],
    "solver": [StrOptions({"lbfgs", "sgd", "adam"})],
    "alpha": [_at_least(Real, 0)],
    "batch_size": [StrOptions({"auto"}), _at_least(Integral, 1)],
    "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
    "learning_rate_init": [_at_least(Real, 0, "neither")],
    "power_t": [_at_least(Real, 0)],
    "max_iter": [_at_least(Integral, 1)],
    "shuffle": ["boolean"],
    "random_state": ["random_state"],
    "tol": [_at_least(Real, 0)],
    "verbose": ["verbose"],
    "warm_start": ["boolean"],
    "momentum": [Interval(Real, 0, 1, closed="both")],
    "nesterovs_momentum": ["boolean"],
    "early_stopping": ["boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="left")],
    "beta_1": [Interval(Real, 0, 1, closed="left")],
    "beta_2": [Interval(Real, 0, 1, closed="left")],
    "epsilon": [_at_least(Real, 0, "neither")],
    "n_iter_no_change": [_at_least(Integral, 1), Options(Real, {np.inf})],
    "max_fun": [_at_least(Integral, 1)],
    # beyond scikit-learn's
    "backend": [str, None],
    "device": [str, None],
    "precision": [StrOptions(set(PRECISIONS)), None],
    "dtype": [StrOptions({"float32", "float64"}), None],
    "dropout": [Interval(Real, 0, 1, closed="left")],
    "normalization": [StrOptions(set(NORMS)), None],
    "optimizer": "no_validation",
    "schedule": "no_validation",
    "regularization": "no_validation",
    "callbacks": "no_validation",
    "numerical_embeddings": "no_validation",
    "n_members": [_at_least(Integral, 1), None],
    "member_params": [dict, None],
    "selection": [StrOptions({"all", "greedy"})],
}

"""scikit-learn's checks of each parameter."""


def hidden_sizes(estimator: Any) -> list[int]:
    """Return the units of the hidden layers, or raise a ValueError unless they are whole numbers above 0."""
    name, expected = (
        "hidden_layer_sizes",
        "the units of each hidden layer, such as (100, 50), or one such number",
    )
    given = scalar(estimator.hidden_layer_sizes)
    sizes = [
        integer(name, size, -LARGEST, expected="whole numbers of units")
        for size in ([given] if isinstance(given, Real) else items(name, given, expected))
    ]
    if any(size <= 0 for size in sizes):
        raise InputError(f"hidden_layer_sizes must be > 0, got {sizes}.")
    return sizes


def _hidden(name: str) -> str:
    """Return our name of a hidden activation."""
    return "sigmoid" if name == "logistic" else name


def layer_sizes(estimator: Any, n_features: int) -> list[int]:
    """Return n[0], ..., n[L], of an embedding its units for n[0]."""
    return [embeddings.units(estimator, n_features), *hidden_sizes(estimator), estimator.n_outputs_]


def count_parameters(estimator: Any, n_features: int) -> int:
    """Return the number of weights and biases of the layers of a network, and of its embedding."""
    sizes = layer_sizes(estimator, n_features)
    return embeddings.parameters(estimator, n_features) + sum(
        (n_prev + 1) * n for n_prev, n in pairwise(sizes)
    )


def check_parameters(estimator: Any, incremental: bool) -> None:
    """Raise a ValueError unless the parameters have a meaning, alone and together.

    scikit-learn does not look at its constraints in a `partial_fit` after another: here it is done when a parameter
    has been set.
    """
    given = [getattr(estimator, name) for name in estimator._parameter_constraints]
    known = estimator.__dict__.get("_looked_at", ())
    if len(known) != len(given) or not all(map(operator.is_, known, given)):
        estimator._validate_params()
        for name, value in zip(estimator._parameter_constraints, given, strict=True):
            if isinstance(value, Integral) and not isinstance(value, bool):
                number(name, value, "a number that floats hold", math.isfinite)
        estimator._looked_at = given
    hidden_sizes(estimator)
    if estimator.activation != "prelu":
        activation(_hidden(estimator.activation))
    check_members(estimator)
    embeddings.check_embeddings(estimator)
    check_class_weight(getattr(estimator, "class_weight", None), incremental)
    if estimator.early_stopping and incremental:
        raise ValueError("partial_fit does not support early_stopping=True")
    if estimator.optimizer is not None:
        optimizers.optimizer(estimator.optimizer)
    if estimator.schedule is not None:
        if isinstance(estimator.schedule, type) or not isinstance(estimator.schedule, Schedule):
            raise InputError(
                "schedule must be an instance of nnx.schedules, such as nnx.schedules.Cosine(0.01, steps=1000), "
                f"or None; given {shown(estimator.schedule)}"
            )
        if not estimator._stochastic:
            raise InputError(
                "schedule changes the learning rate, which L-BFGS does not have; leave out schedule, or choose "
                "solver='adam' or 'sgd'"
            )
    if estimator.regularization is not None and not isinstance(estimator.regularization, Regularization):
        raise InputError(
            "regularization must be an nnx.Regularization, such as nnx.Regularization(l2=1e-4), or None; given "
            f"{shown(estimator.regularization)}"
        )
    if any(isinstance(one, Checkpoints) for one in Callbacks(estimator.callbacks).all):
        raise InputError(
            "callbacks has Checkpoints, from which no estimator goes on: a model file holds neither scikit-learn's "
            "optimizers nor its random numbers. Pickle the estimator between calls of partial_fit, or use nnx.Trainer"
        )


def design_of(estimator: Any) -> dict[str, Any]:
    """Return the parameters that determine the network."""
    return {
        "hidden_layer_sizes": hidden_sizes(estimator),
        "activation": estimator.activation,
        "normalization": estimator.normalization,
        "dropout": estimator.dropout,
        "numerical_embeddings": estimator.numerical_embeddings,
        "numerical_embeddings.edges": getattr(estimator.numerical_embeddings, "edges", None),
    }


def check_design(estimator: Any) -> None:
    """Raise a ValueError unless the network that is there can go on under the parameters as they are now."""
    now = design_of(estimator)
    embeds = "numerical_embeddings.edges", "numerical_embeddings"  # the layer's text has no edges
    for name in ("hidden_layer_sizes", "normalization", *embeds):
        before = estimator._designed.get(name)  # nothing, of an older pickle
        if now[name] != before:
            raise InputError(
                f"{name} is {now[name]!r}, but the network that goes on was made with {before!r}; "
                "set it back, or begin anew with fit and warm_start=False"
            )


@dataclass(frozen=True)
class _MeanLoss:
    """The mean of a loss over the outputs, whose sum is given. Two of the same are equal."""

    loss: Any
    n: int

    def __call__(self, Z: Any, Y: Any) -> Any:
        return self.loss(Z, Y) / self.n


def network_of(estimator: Any, n_features: int, design: Mapping[str, Any]) -> Network:
    """Return the network of a design, see `design_of`."""
    embedding = vars(estimator).get("_embedding")
    made: list[layers.Layer] = [] if embedding is None else [embedding]
    hidden = _hidden(design["activation"])
    after = layers.PReLU() if hidden == "prelu" else layers.Activate(hidden)
    for n in design["hidden_layer_sizes"]:
        if design["normalization"] is None and hidden != "prelu":
            made.append(layers.Dense(n, hidden))
        else:
            norm = design["normalization"]
            made += [layers.Dense(n), *([] if norm is None else [NORMS[norm]()]), after]
        if design["dropout"]:
            made.append(layers.Dropout(design["dropout"]))
    made.append(layers.Dense(estimator.n_outputs_))
    network = Network(n_features, made, *estimator._link)
    if (
        estimator.n_outputs_ > 1
        and estimator._link == SKLEARN_LOSSES["squared_error"]
        and estimator._stochastic
    ):
        # The loss that scikit-learn shows is the mean over the outputs; it follows the derivative of their sum.
        output, n = network.output, estimator.n_outputs_
        network.output = replace(output, loss=_MeanLoss(output.loss, n))
    return network


def _new_optimizer(estimator: Any) -> Any:
    rate = estimator.learning_rate_init if estimator.schedule is None else estimator.schedule
    if estimator.optimizer is not None:
        found = optimizers.optimizer(estimator.optimizer)
        return found if estimator.schedule is None else replace(found, learning_rate=rate)  # type: ignore[type-var]
    if estimator.solver == "lbfgs":
        return lbfgs.LBFGS(gradient_tolerance=estimator.tol, evaluations=estimator.max_fun)
    if estimator.solver == "sgd":
        return SGD(rate, estimator.momentum, estimator.nesterovs_momentum)
    return Adam(rate, estimator.beta_1, estimator.beta_2, estimator.epsilon)


def choose_optimizer(estimator: Any, incremental: bool) -> Any:
    """Return the optimizer of this fit.

    As in scikit-learn `partial_fit` goes on with the optimizer of the fit before, whatever was set since: the
    solver, its rate and momentum count from the next `fit` on. `optimizer` and `schedule`, which scikit-learn does
    not have, count at once.
    """
    if not estimator._stochastic:
        return _new_optimizer(estimator)  # what a later partial_fit goes on with stays
    asked = estimator.optimizer, estimator.schedule
    known = estimator.__dict__.get("_asked")
    if not incremental or known is None or not all(map(_same, known, asked)):
        estimator._optimizer, estimator._asked = _new_optimizer(estimator), asked
        estimator._policy = None
        if estimator.solver == "sgd" and asked == (None, None):
            estimator._policy = estimator.learning_rate, estimator.learning_rate_init, estimator.power_t
        estimator._memory = {}
    return estimator._optimizer


def regularization_of(estimator: Any, exponent: int, dtype: str) -> Regularization:
    """Return alpha/2 sum W^2 / m, m the samples (or their weights) of a batch; or what is given instead.

    The weights were multiplied by 2^exponent. So must be the number that is divided by their sum.
    """
    alpha = estimator.regularization is None
    own: Regularization = estimator.regularization
    if alpha:
        own = Regularization(l2=between("alpha", estimator.alpha, 0), per_sample=True)
    if not exponent or not own.per_sample:
        return own
    limits, scaled = np.finfo(dtype), []
    for x in (own.l1, own.l2):
        try:
            scaled.append(math.ldexp(x, exponent))
        except OverflowError:
            scaled.append(math.inf)
        if x and not limits.smallest_normal <= scaled[-1] <= limits.max:
            size, change = ("small", "Multiply") if exponent > 0 else ("large", "Divide")
            name = "alpha" if alpha else "regularization"
            raise InputError(
                f"{name} divided by the sum of {weights_name(estimator)} has no number in {dtype}: the weights are "
                f"too {size} for it. {change} the weights, or give {name}={0.0 if alpha else None}"
            )
    return replace(own, l1=scaled[0], l2=scaled[1])


def _same(a: Any, b: Any) -> bool:
    return a is b or (type(a) is type(b) and bool(a == b))
