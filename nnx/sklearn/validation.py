"""Samples that are not trained on: those held out of the training, and a `validation_set`; their score and loss."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import joblib
import numpy as np
from scipy import sparse
from sklearn.model_selection import train_test_split

from nnx.array import host
from nnx.batches.sample_weights import in_range
from nnx.errors import InputError, shown
from nnx.model.outputs.host_targets import checked_targets
from nnx.port.base import Backend
from nnx.sklearn import samples
from nnx.sklearn.class_weights import weights_name
from nnx.train.trainer import Trainer

EXPECTED = "(X, y) or (X, y, sample_weight), samples as rows as those of fit"


@dataclass(frozen=True)
class HeldOut:
    """Samples that a fit does not train on.

    Parameters
    ----------
    X, Y : arrays (m, n) and (m, 1), (m,) or (m, n[L])
    targets : array (n[L], m) or (m,)
        Y, as the loss takes it.
    weights : array (m,) or None
    digest : str or None
        Tells a `validation_set` from others; None: samples of the training that `early_stopping` holds out.
    """

    X: Any
    Y: Any
    targets: Any
    weights: Any
    digest: str | None = None
    _moved: dict[Any, Any] = field(default_factory=dict)

    def pieces(self, backend: Backend, dtype: str, size: int) -> Any:
        """Return (X, Y, weights) as columns on the backend, `size` samples at a time, and the weight of each piece."""
        Y, w = self.targets, self.weights

        def piece(start: int, X: Any) -> Any:
            place = slice(start, start + X.shape[-1])
            own = None if w is None else w[place]
            return (
                backend.asarray(X, dtype),
                backend.asarray(Y[..., place], "int32" if Y.ndim == 1 else dtype),
                None if own is None else backend.asarray(own, dtype),
                float(X.shape[-1] if own is None else own.sum()),
            )

        return (piece(i * size, X) for i, X in enumerate(samples.pieces(self.X, size)))

    def on(self, backend: Backend, dtype: str, size: int) -> Any:
        """Return `pieces`; those of a dense `validation_set` stay on the backend, once for all members."""
        if self.digest is None or sparse.issparse(self.X):
            return self.pieces(backend, dtype, size)
        key = backend, dtype, size
        if key not in self._moved:
            self._moved[key] = [*self.pieces(backend, dtype, size)]
        return self._moved[key]


def given_set(
    validation_set: Any, X_val: Any = None, y_val: Any = None, sample_weight_val: Any = None
) -> tuple[Any, Any, Any] | None:
    """Return X, y and the weights of a validation, or raise an InputError unless it has such parts.

    It is given as one, or as three, by the names that `HistGradientBoostingClassifier.fit` has for them.
    """
    three = {"X_val": X_val, "y_val": y_val, "sample_weight_val": sample_weight_val}
    if any(x is not None for x in three.values()):
        if validation_set is not None:
            raise InputError("validation_set is given beside X_val and its like; give one of them")
        for name in ("X_val", "y_val"):
            if three[name] is None:
                others = " and ".join(other for other, x in three.items() if x is not None)
                raise InputError(f"{others} is provided, but {name} was not provided.")
        return X_val, y_val, sample_weight_val
    if validation_set is None:
        return None
    is_sequence = isinstance(validation_set, tuple | list)
    if not is_sequence or len(validation_set) not in (2, 3):
        given = f"{len(validation_set)} values" if is_sequence else shown(validation_set)
        raise InputError(f"validation_set must be {EXPECTED}, or None; given {given}")
    X, y, *weights = validation_set
    if X is None or y is None:
        raise InputError(f"validation_set must be {EXPECTED}; its {'X' if X is None else 'y'} is None")
    return X, y, weights[0] if weights else None


def checked_set(estimator: Any, given: tuple[Any, Any, Any] | None, dtype: str) -> HeldOut | None:
    """Return a `validation_set` for an estimator whose training samples have been validated.

    Raises
    ------
    InputError
        When scikit-learn refuses its X for a prediction, y has classes or outputs that the training does not have,
        weights are below 0, or X or y holds a number that the training would refuse.
    """
    if given is None:
        return None
    try:
        X, y, weights = given
        X = samples.validated(estimator, X, reset=False)
        m = X.shape[0]
        Y = estimator._targets(y, m)
        weights = None if weights is None else in_range(samples.weights(weights, m), dtype)[0]
        targets = _checked(estimator, X, Y, dtype)
    except ValueError as error:
        raise InputError(f"validation_set: {error}") from error
    parts = [host.as_host(X) if samples.home(X) else X, Y, weights]
    return HeldOut(X, Y, targets, weights, joblib.hash(parts))


def _checked(estimator: Any, X: Any, Y: Any, dtype: str) -> Any:
    """Return the targets as the loss takes them; hold X and Y against the dtype, as a training does with its own."""
    name, numbers, place = "X", X, "feature {0}, sample {1}"
    if sparse.issparse(X):
        name, numbers, place = "X.data", X.data, ""
    host.check_finite(name, numbers.T, dtype, place, ". Replace them, or leave out the samples")
    return checked_targets("y", Y.T, estimator._output, estimator.n_outputs_, X.shape[0], dtype)


def hold_out(estimator: Any, m: int, Y: Any) -> tuple[Any, Any]:
    """Return the numbers of the samples that are trained on, and of those held out."""
    kept, held_out = train_test_split(
        np.arange(m),
        random_state=estimator._random_state,
        test_size=estimator.validation_fraction,
        stratify=estimator._strata(Y),
    )
    if len(held_out) < 2:
        raise ValueError(
            "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
        )
    return kept, held_out


def of_training(estimator: Any, given: Any, rows: Any) -> HeldOut:
    """Return these samples of a training, a `Given`, which `early_stopping` holds out."""
    X, Y = samples.take(given.X, rows), given.Y[rows]
    weights = None if given.weights is None else given.weights[rows]
    if weights is not None and not weights.any():
        raise InputError(
            f"{weights_name(estimator)} is 0 for all of the {len(Y)} samples that early_stopping holds out: they have "
            "no score. Raise validation_fraction, or leave out the samples without weight"
        )
    try:
        return HeldOut(X, Y, _checked(estimator, X, Y, given.dtype), weights)
    except InputError as error:
        raise InputError(f"the {len(Y)} samples that early_stopping holds out: {error}") from error


def judge(
    estimator: Any, backend: Backend, program: Any, held: HeldOut, dtype: str
) -> Callable[[Trainer], tuple[float, float]]:
    """Return the function trainer -> (score, loss) of samples that are not trained on.

    The score is NaN if an output is not finite. The loss is their mean loss, without the penalty.
    `program` is the compiled `Network.forward_and_loss`.
    """
    network = estimator.network_
    size = samples.at_once(backend, network.widest)
    if samples.home(held.X) not in (None, (backend.name, backend.device)):
        held = replace(held, X=host.as_host(held.X))

    def judged(trainer: Trainer) -> tuple[float, float]:
        theta = trainer.session.read("theta")["theta"]
        found, total, weight = [], 0.0, 0.0
        for X, Y, w, own in held.on(backend, dtype, size):
            A, J = program(theta, X, Y, w)
            found.append(backend.to_numpy(A).T)
            total, weight = total + own * float(backend.to_numpy(J)), weight + own
        A = found[0] if len(found) == 1 else np.concatenate(found)
        score = estimator._score(A, held.Y, held.weights) if np.isfinite(A).all() else float("nan")
        return score, total / weight

    return judged
