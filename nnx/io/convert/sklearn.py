"""Networks from and to scikit-learn's MLPs."""

from collections.abc import Sequence
from typing import Any

from nnx.errors import InputError, items, one_of, shown
from nnx.io.convert.parameters import as_floats, checked_parameters, contiguous_copy
from nnx.model.layers import Dense, Dropout
from nnx.model.mlp import mlp
from nnx.model.network import Network

SKLEARN_NAMES = {
    "identity": "identity",
    "logistic": "sigmoid",
    "tanh": "tanh",
    "relu": "relu",
    "softmax": "softmax",
    "exp": "exp",
}
"""Our names of scikit-learn's activations and outputs."""


def to_sklearn(network: Network, params: Any) -> tuple[list[Any], list[Any]]:
    """Return the parameters as scikit-learn's MLPClassifier and MLPRegressor have them: coefs_ and intercepts_.

    Parameters
    ----------
    network : Network
        Of Dense alone, whose hidden ones have one activation: identity, sigmoid ("logistic" there), tanh or relu.
        Dropout is left out: it does nothing in prediction.
    params : dict of arrays, or array (P,)
        The parameters by name, or theta, of any library.

    Returns
    -------
    coefs : list of NumPy arrays (n[l-1], n[l])
        W[l].T.
    intercepts : list of NumPy arrays (n[l],)

    Raises
    ------
    InputError
        When a parameter does not fit, or scikit-learn cannot compute the network.

    Examples
    --------
    >>> import nnx
    >>> net = nnx.mlp([4, 8, 3])
    >>> coefs, intercepts = nnx.convert.to_sklearn(net, net.init())
    >>> [W.shape for W in coefs], [b.shape for b in intercepts]
    ([(4, 8), (8, 3)], [(8,), (3,)])
    """
    arrays = checked_parameters(network, params)
    for layer in network.layers:
        if not isinstance(layer, Dense | Dropout):
            raise InputError(f"scikit-learn's MLP has no counterpart of the layer {layer!r}")
    hidden = {layer.g.name for layer in network.layers[:-1] if isinstance(layer, Dense)}
    if len(hidden) > 1 or not hidden <= {"identity", "sigmoid", "tanh", "relu"}:
        raise InputError(
            "scikit-learn's MLP has one activation in all its hidden layers: identity, sigmoid, tanh or relu; "
            f"given {', '.join(sorted(hidden))}"
        )
    layers = range(1, network.L + 1)
    coefs = [contiguous_copy(arrays[f"W{l}"].T) for l in layers]
    return coefs, [contiguous_copy(arrays[f"b{l}"][:, 0]) for l in layers]


def from_sklearn(
    fitted: Any, hidden: str | None = None, output: str | None = None
) -> tuple[Network, dict[str, Any]]:
    """Return the network, and its parameters, of scikit-learn's MLPClassifier or MLPRegressor.

    Parameters
    ----------
    fitted : MLPClassifier, MLPRegressor, or pair (coefs, intercepts)
        A fitted estimator, or the two lists that `to_sklearn` returns.
    hidden : str or None
        Of a pair: the activation of the hidden layers, by our name or scikit-learn's. An estimator says it itself.
    output : {"sigmoid", "softmax", "identity", "exp"} or None
        Of a pair: the link.

    Returns
    -------
    network : Network
        Class k is the estimator's classes_[k]; of two classes, A[L] is the probability of classes_[1].
    params : dict of NumPy arrays
        In the notes' shapes, for `Trainer.parameters` or `Network.flatten`.

    Raises
    ------
    InputError
        When it is not fitted, or shapes do not fit: which ones.

    Examples
    --------
    >>> import numpy as np
    >>> import nnx
    >>> pair = [np.ones((4, 8)), np.ones((8, 1))], [np.zeros(8), np.zeros(1)]
    >>> net, params = nnx.convert.from_sklearn(pair, hidden="logistic", output="identity")
    >>> net
    Network(4, [Dense(8, sigmoid), Dense(1, identity)], output='identity')
    """
    if isinstance(fitted, tuple | list):
        coefs, intercepts = _pair(fitted, hidden, output)
    else:
        coefs, intercepts = _of_estimator(fitted, hidden, output)
        hidden, output = fitted.activation, fitted.out_activation_
        for name in (hidden, output):
            one_of("activation of scikit-learn", name, SKLEARN_NAMES)
    if len(coefs) != len(intercepts) or not len(coefs):
        raise InputError(f"{len(coefs)} coefs and {len(intercepts)} intercepts; expected one of each a layer")
    params: dict[str, Any] = {}
    n: list[int] = []
    for i, (W, b) in enumerate(zip(coefs, intercepts, strict=True)):
        W, b = as_floats(f"coefs[{i}]", W), as_floats(f"intercepts[{i}]", b)
        n = n or list(W.shape[:1])
        if W.ndim != 2 or W.shape[0] != n[-1] or b.shape != W.shape[1:]:
            raise InputError(
                f"coefs[{i}] has shape {W.shape}, intercepts[{i}] {b.shape}; expected "
                f"({', '.join(map(str, n[-1:]))}, units) and (units,)"
            )
        n.append(W.shape[1])
        params |= {f"W{i + 1}": contiguous_copy(W.T), f"b{i + 1}": contiguous_copy(b[:, None])}
    g, link = (SKLEARN_NAMES.get(x, x) if isinstance(x, str) else x for x in (hidden, output))
    return mlp(n, g, link), params  # type: ignore[arg-type]  # None is refused by both functions above


def _pair(pair: Sequence[Any], hidden: str | None, output: str | None) -> tuple[list[Any], list[Any]]:
    """Return coefs and intercepts as they were handed in."""
    if len(pair) != 2 or hidden is None or output is None:
        raise InputError(
            "of a pair (coefs, intercepts) give hidden and output, too: hidden='relu', output='softmax'"
        )
    coefs, intercepts = pair
    return items("coefs", coefs, "a list of arrays"), items("intercepts", intercepts, "a list of arrays")


def _of_estimator(fitted: Any, hidden: str | None, output: str | None) -> tuple[list[Any], list[Any]]:
    """Return coefs_ and intercepts_ of a fitted estimator."""
    kind, members = type(fitted).__name__, getattr(fitted, "members_", ())
    if members:
        raise InputError(f"this {kind} has {len(members)} networks; convert one of them: its members_[0]")
    if not hasattr(fitted, "coefs_") or not hasattr(fitted, "out_activation_"):
        raise InputError(
            f"expected a fitted MLPClassifier or MLPRegressor, or a pair (coefs, intercepts); given {shown(fitted)}"
        )
    if hidden is not None or output is not None:
        raise InputError(f"{kind} says itself what hidden and output are; leave them out")
    network = getattr(fitted, "network_", None)  # nnx's estimators have more layers than scikit-learn's
    if network is not None and any(
        layer.shapes(1) and not isinstance(layer, Dense) for layer in network.layers
    ):
        raise InputError(
            f"{kind} was fitted with normalization, whose parameters are not among its coefs_ and intercepts_; fit one "
            "with normalization=None"
        )
    coefs, intercepts = (getattr(fitted, name, None) for name in ("coefs_", "intercepts_"))
    return items("coefs_", coefs, "a list of arrays"), items("intercepts_", intercepts, "a list of arrays")
