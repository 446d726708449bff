"""scikit-learn: `MLPClassifier.partial_fit`, which goes once over the samples, a step for every batch."""

from typing import Any

import numpy as np

from nnx.bench.case import Case, Data
from nnx.bench.clocks import wall
from nnx.bench.contestant import Absent, Contestant, library, only


def contestant(case: Case, data: Data) -> Contestant:
    """Return the contestant."""
    only(case, "gradient_descent", "adam")
    if case.sizes[-1] == 2:
        raise Absent("scikit-learn gives two classes one unit, not two")
    library("sklearn", "cli")
    import sklearn
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
        random_state=case.seed,
    )
    classes = np.arange(case.classes)
    model.partial_fit(data.X[: case.m], data.y[: case.m], classes=classes)  # makes its arrays
    start = case.start()
    for l, (W, b) in enumerate(zip(model.coefs_, model.intercepts_, strict=True), 1):
        W[...], b[...] = start[f"W{l}"].T, start[f"b{l}"][:, 0]
    del model._optimizer  # so that it starts anew from these

    def epoch() -> float:
        model.partial_fit(data.X, data.y)
        return float(model.loss_)

    def parameters() -> dict[str, Any]:
        found: dict[str, Any] = {}
        for l, (W, b) in enumerate(zip(model.coefs_, model.intercepts_, strict=True), 1):
            found |= {f"W{l}": W.T, f"b{l}": b[:, None]}
        return found

    return Contestant(epoch, wall(), parameters, f"scikit-learn {sklearn.__version__}")
