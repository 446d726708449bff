"""scikit-learn: `MLPClassifier.partial_fit`, which goes once over the samples, a step for every batch."""

from typing import Any

import numpy as np

from nnx.bench.case import Case, Data
from nnx.bench.clocks import wall
from nnx.bench.contestant import Absent, Contestant, library, only


def begin(case: Case) -> Any:
    """Return scikit-learn, or raise Absent where it cannot train the case."""
    only(case, "gradient_descent", "adam")
    if case.sizes[-1] == 2:
        raise Absent("scikit-learn gives two classes one unit, not two")
    return library("sklearn", "cli")


def classifier(case: Case, data: Data, k: int = 0) -> Any:
    """Return the network of member k, with its first parameters."""
    from sklearn.neural_network import MLPClassifier

    model = MLPClassifier(
        case.sizes[1:-1],
        solver="adam" if case.optimizer == "adam" else "sgd",
        alpha=0.0,  # its name for the penalty
        batch_size=case.m,
        learning_rate_init=case.learning_rate,
        momentum=0.0,
        nesterovs_momentum=False,
        shuffle=case.shuffled,
        random_state=case.seed + k,
    )
    classes = np.arange(case.classes)
    model.partial_fit(data.X[: case.m], data.y[: case.m], classes=classes)  # makes its arrays
    start = case.start(k)
    for l, (W, b) in enumerate(zip(model.coefs_, model.intercepts_, strict=True), 1):
        W[...], b[...] = start[f"W{l}"].T, start[f"b{l}"][:, 0]
    del model._optimizer  # so that it starts anew from these
    return model


def named(model: Any) -> dict[str, Any]:
    """Return the parameters by the notes' names, in their shapes."""
    found: dict[str, Any] = {}
    for l, (W, b) in enumerate(zip(model.coefs_, model.intercepts_, strict=True), 1):
        found |= {f"W{l}": W.T, f"b{l}": b[:, None]}
    return found


def contestant(case: Case, data: Data) -> Contestant:
    """Return the contestant."""
    sklearn = begin(case)
    model = classifier(case, data)

    def epoch() -> float:
        model.partial_fit(data.X, data.y)
        return float(model.loss_)

    return Contestant(epoch, wall(), lambda: named(model), f"scikit-learn {sklearn.__version__}")
