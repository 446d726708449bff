"""A fit as scikit-learn runs it: epochs, samples held out, warnings, and the state that is left."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning

from nnx.batches.source import Rows
from nnx.callbacks.base import Callbacks
from nnx.errors import DivergenceError
from nnx.optimizers import lbfgs
from nnx.sklearn import samples
from nnx.sklearn.convergence import Convergence
from nnx.sklearn.fit_tasks import FitTask
from nnx.sklearn.validation import HeldOut
from nnx.support.warned import warn
from nnx.train.trainer import Trainer

TOO_LARGE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and need to be "
    "preprocessed."
)


@dataclass
class Given:
    """Samples that were given to `fit` or `partial_fit`, as it takes them.

    Parameters
    ----------
    X, Y : arrays (m, n) and (m, 1), (m,) or (m, n[L])
    weights : array (m,) or None
    exponent : int
        The weights were multiplied by 2^exponent.
    dtype : str
        Of the training.
    first : bool
        Whether the fit begins, or goes on from the last one.
    incremental : bool
        Whether `partial_fit` was called: one epoch.
    validation : HeldOut or None
        A `validation_set`.
    task : FitTask or None
        The fit as scikit-learn's callbacks see it; None: there are none.
    forward : callable or None
        `Network.forward_and_loss`, compiled for the samples that are not trained on; one for all members.
    """

    X: Any
    Y: Any
    weights: Any
    exponent: int
    dtype: str
    first: bool
    incremental: bool
    validation: HeldOut | None = None
    forward: Any = None
    task: FitTask | None = None


@dataclass(frozen=True)
class Fit:
    """A fit of an estimator that is ready to run.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
    trainer : Trainer
        At the first parameters of the fit.
    X, Y : arrays (m, n) and (m, 1), (m,) or (m, n[L])
        The samples, as rows.
    weights : array (m,) or None
    rows : array of int or None
        The numbers of the samples that it trains on; None: all.
    batch_size : int or None
        None: L-BFGS, which takes all samples.
    epochs : int
    callbacks : list of callbacks
        `Convergence`, and those of the estimator.
    incremental : bool
        Whether `partial_fit` was called: one epoch.
    judged : callable or None
        See `nnx.sklearn.validation.judge`; None: all samples are trained on.
    stops : bool
        Whether its scores end the fit, which leaves the best parameters.
    """

    estimator: Any
    trainer: Trainer
    X: Any
    Y: Any
    weights: Any
    rows: Any
    batch_size: int | None
    epochs: int
    callbacks: list[Any]
    incremental: bool
    judged: Any
    stops: bool

    @property
    def samples(self) -> tuple[Any, Any, Any]:
        """X and Y of the samples that it trains on, as columns, and their weights."""
        X, Y, weights, rows = self.X, self.Y, self.weights, self.rows
        if rows is not None:
            X, Y, weights = samples.take(X, rows), Y[rows], None if weights is None else weights[rows]
        return Rows(X) if sparse.issparse(X) else X.T, Y.T, weights


def ready(estimator: Any, trainer: Trainer, given: Given, rows: Any, judged: Any, stops: bool) -> Fit:
    """Return the fit of a trainer to samples, see `Fit`."""
    X, stochastic, incremental = given.X, estimator._stochastic, given.incremental
    m = X.shape[0] if rows is None else len(rows)
    batch_size = _batch_size(estimator, m) if stochastic else None
    epochs = 1 if incremental else estimator.max_iter
    estimator.n_iter_ = 0
    alone = stochastic and estimator.shuffle and batch_size == m
    callbacks = [Convergence(estimator, m, judged, stops, alone), *Callbacks(estimator.callbacks).all]
    if given.task is not None:
        callbacks.append(given.task.callback(estimator, rows))
    return Fit(
        estimator,
        trainer,
        X,
        given.Y,
        given.weights,
        rows,
        batch_size,
        epochs,
        callbacks,
        incremental,
        judged,
        stops,
    )


def run(fit: Fit) -> None:
    """Train, and leave the attributes and warnings that scikit-learn leaves."""
    warning = finish(fit, train(fit))
    if warning is not None:
        warn(warning)


def train(fit: Fit) -> BaseException | None:
    """Train one network; return the divergence or the interrupt that ended it, if one did."""
    estimator, (X, Y, weights) = fit.estimator, fit.samples
    few = max(1, 2**24 // fit.X.shape[1])  # of a sparse matrix no more is made dense at once
    whole = not estimator._stochastic and few < fit.X.shape[0]
    pieces = {"micro_batch": few} if sparse.issparse(fit.X) and whole else {}
    try:
        fit.trainer.fit(
            X,
            Y,
            epochs=fit.epochs,
            batch_size=fit.batch_size,
            shuffle=estimator.shuffle,
            callbacks=fit.callbacks,
            sample_weight=weights,
            progress=False,  # as scikit-learn's: a search fits many
            **pieces,
        )
    except (DivergenceError, KeyboardInterrupt) as error:
        return error
    return None


def finish(fit: Fit, error: BaseException | None) -> Warning | None:
    """Leave the attributes of a fit that has run: to its end, or to an interrupt or a divergence.

    Returns
    -------
    Warning or None
        That of scikit-learn.

    Raises
    ------
    ValueError
        When it has diverged without samples held out: there are no best parameters to go back to.
    """
    estimator, trainer = fit.estimator, fit.trainer
    warning: Warning | None = None
    if isinstance(error, DivergenceError):
        if not fit.stops:
            raise ValueError(TOO_LARGE) from error
        # The best weights are kept; what came after has no score.
        estimator.n_iter_ += 1
        estimator.loss_ = np.nan
        estimator.loss_curve_.append(estimator.loss_)
        estimator.validation_scores_.append(float("nan"))
        estimator.validation_loss_curve_.append(float("nan"))
        warning = ConvergenceWarning(f"Stochastic Optimizer: {error}")
    elif error is not None:
        warning = UserWarning("Training interrupted by user.")
    elif not fit.incremental:
        warning = _unless_converged(estimator, trainer)
    if not estimator._stochastic and not trainer.records:  # it began where it would have ended
        estimator.loss_ = _cost(estimator, trainer, *fit.samples)
    if fit.stops and hasattr(estimator, "_best"):
        best = trainer.backend.asarray(estimator._best, trainer.dtype)
        trainer.session.load({"theta": best})
    return warning


def _unless_converged(estimator: Any, trainer: Trainer) -> Warning | None:
    text = None
    if estimator._stochastic:
        if trainer.stopped is None:
            text = (
                f"Stochastic Optimizer: Maximum iterations ({estimator.max_iter}) reached and the optimization hasn't "
                "converged yet."
            )
    elif not (trainer.stopped or "").startswith(lbfgs.CONVERGED):
        text = (
            f"lbfgs failed to converge after {estimator.n_iter_} iteration(s): "
            f"{trainer.stopped or 'the iterations of max_iter are done'}.\n\n"
            "Increase the number of iterations (max_iter) or scale the data as shown in:\n"
            "    https://scikit-learn.org/stable/modules/preprocessing.html"
        )
    found: Warning | None = None if text is None else ConvergenceWarning(text)
    return found


def _batch_size(estimator: Any, m: int) -> int:
    if estimator.batch_size == "auto":
        return min(200, m)
    if estimator.batch_size > m:
        warn("Got `batch_size` less than 1 or larger than sample size. It is going to be clipped")
    return int(min(estimator.batch_size, m))


def _cost(estimator: Any, trainer: Trainer, X: Any, Y: Any, weights: Any) -> float:
    """Return J at the trainer's parameters, with the penalty."""
    loss = trainer.evaluate(X, Y, sample_weight=weights)["loss"]
    total = Y.shape[-1] if weights is None else weights.sum()
    parameters, own = trainer.parameters, trainer.regularization
    decayed = [parameters[name] for name in own.names(trainer.network)]
    penalty = sum(0.5 * own.l2 * float((W**2).sum()) + own.l1 * float(np.abs(W).sum()) for W in decayed)
    return float(loss + penalty / (total if own.per_sample else 1))
