"""When a fit ends, and at which rate it goes on, by scikit-learn's rules."""

from collections.abc import Callable
from typing import Any

from nnx.callbacks.base import Callback
from nnx.callbacks.progress import Progress
from nnx.train.trainer import Trainer


class Convergence(Callback):
    """Keeps an estimator's loss_curve_ and its like, and ends the fit when they get no better.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
    m : int
        Samples in an epoch.
    judged : callable or None
        trainer -> the score and the loss of the samples that are not trained on.
    stops : bool
        Whether that score ends the fit: early stopping.
    draws : bool
        Whether an order is drawn for each epoch though one batch has all samples, which the trainer does not order:
        scikit-learn draws it, and the random_state must be left where scikit-learn leaves it.

    Attributes
    ----------
    prefix : str
        Stands before all that it prints.
    """

    prefix = ""

    def __init__(
        self,
        estimator: Any,
        m: int,
        judged: Callable[[Trainer], tuple[float, float]] | None,
        stops: bool = False,
        draws: bool = False,
    ) -> None:
        self._estimator, self._m, self._judged, self._stops, self._draws = estimator, m, judged, stops, draws

    def on_fit_start(self, trainer: Trainer, epochs: int) -> None:
        """Name what is measured beside the loss."""
        if self._judged is not None:
            trainer.session.measures += ("validation_loss", "validation_score")

    def on_epoch(self, trainer: Trainer, progress: Progress) -> None:
        """Take up an epoch's loss; end the fit, or lower the rate, where the time has come."""
        estimator = self._estimator
        assert progress.measured is not None
        self._note(progress.measured["loss"])
        if self._judged is not None:
            score, loss = self._judged(trainer)
            estimator.validation_scores_.append(score)
            estimator.validation_loss_curve_.append(loss)
            found = {"validation_loss": float(loss), "validation_score": float(score)}
            trainer.session.records[-1].update(
                found
            )  # progress.measured is this record: other callbacks see it
            self._say(f"Validation score: {score:f}")
        if not estimator._stochastic:
            return
        if self._draws:
            trainer.rng.permutation(self._m)
        estimator.t_ += self._m
        worse = self._held_out_is_worse(trainer) if self._stops else self._loss_is_worse()
        estimator._no_improvement_count = estimator._no_improvement_count + 1 if worse else 0
        policy, rate, power = estimator._policy or ("constant", 0.0, 0.0)
        if policy == "invscaling":  # learning_rate_init / (t + 1)^power_t, t the samples seen
            trainer.learning_rate = rate / (estimator.t_ + 1) ** power
        if estimator._no_improvement_count > estimator.n_iter_no_change:
            self._no_better(trainer, policy)

    def _note(self, loss: float) -> None:
        estimator = self._estimator
        estimator.n_iter_ += 1
        estimator.loss_ = loss
        if estimator._stochastic:
            estimator.loss_curve_.append(loss)
        self._say(f"Iteration {estimator.n_iter_}, loss = {loss:.8f}")

    def _loss_is_worse(self) -> bool:
        estimator = self._estimator
        worse: bool = estimator.loss_ > estimator.best_loss_ - estimator.tol
        estimator.best_loss_ = min(estimator.best_loss_, estimator.loss_)
        return worse

    def _held_out_is_worse(self, trainer: Trainer) -> bool:
        estimator = self._estimator
        score: float = estimator.validation_scores_[-1]
        worse: bool = score < estimator.best_validation_score_ + estimator.tol
        if score > estimator.best_validation_score_:
            estimator.best_validation_score_ = score
            estimator._best = trainer.session.own_theta
        return worse

    def _no_better(self, trainer: Trainer, policy: str) -> None:
        estimator = self._estimator
        what = "Validation score" if self._stops else "Training loss"
        reason = (
            f"{what} did not improve more than tol={estimator.tol:f} for {estimator.n_iter_no_change} consecutive "
            "epochs."
        )
        rate = trainer.learning_rate if policy == "adaptive" else 0.0
        if rate > 1e-6:
            trainer.learning_rate = rate / 5
            estimator._no_improvement_count = 0
            self._say(f"{reason} Setting learning rate to {rate / 5:f}")
        else:
            small = " Learning rate too small." if policy == "adaptive" else ""
            self._say(f"{reason}{small} Stopping.")
            trainer.stop(reason)

    def _say(self, line: str) -> None:
        if self._estimator.verbose:
            print(self.prefix + line)
