"""A search over hyperparameters that trains the candidates of one architecture, in all folds, in one stack."""

from collections.abc import Callable
from contextlib import ExitStack
from numbers import Integral
from typing import Any

import numpy as np
from joblib import parallel_config
from sklearn.model_selection import ParameterGrid, ParameterSampler
from sklearn.model_selection._search import BaseSearchCV
from sklearn.utils._param_validation import Interval

from nnx.errors import InputError
from nnx.sklearn.search_tasks import Stacks
from nnx.support.limits import available
from nnx.train.stack_memory import Need, check_room

CANDIDATE_BYTES = 8_000
"""Bytes that scikit-learn's search takes for a candidate in two folds, beside its fits (CPython 3.11, 64 bits)."""


class StackedSearchCV(BaseSearchCV):  # type: ignore[misc]  # scikit-learn has no types
    """scikit-learn's `GridSearchCV` or `RandomizedSearchCV`; fits of one architecture are trained together.

    All candidates with the same layers, batch size, number of epochs and solver, in all folds of one size, are the
    members of one stack: one program does their steps. Where the estimator has a `random_state`, the
    scores are those of scikit-learn's searches, to rounding.
    Candidates that no stack can train are fitted one by one: L-BFGS, sparse X, other libraries' estimators.

    Parameters
    ----------
    estimator : MLPClassifier, MLPRegressor, or any other estimator
        Or a `Pipeline` that ends with one of them, or a `TransformedTargetRegressor` around one.
    param_grid : dict or list of dict
        All combinations are tried, as in `GridSearchCV`.
    param_distributions : dict or list of dict
        In place of `param_grid`: `n_iter` combinations are drawn, as in `RandomizedSearchCV`.
    n_iter : int or None
        The number of candidates drawn from `param_distributions`; None: 10. A grid takes none.
    random_state : int, RandomState or None
        Of that draw.
    n_jobs : int or None
        Processes for candidates that are fitted one by one. A stack uses all cores by itself.
    scoring, refit, cv, verbose, error_score, return_train_score
        As in scikit-learn,
        https://scikit-learn.org/stable/modules/generated/sklearn.model_selection.GridSearchCV.html

    Attributes
    ----------
    cv_results_, best_estimator_, best_score_, best_params_, best_index_, scorer_, n_splits_, refit_time_, \
multimetric_, classes_, n_features_in_, feature_names_in_
        As in scikit-learn. A candidate's fit_time is its share of the time of its stack.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from nnx.sklearn import MLPClassifier, StackedSearchCV
    >>> X, y = load_iris(return_X_y=True)
    >>> estimator = MLPClassifier((20,), tol=0.01, n_iter_no_change=2, random_state=0)
    >>> search = StackedSearchCV(estimator, {"learning_rate_init": [1e-5, 0.03]}, cv=3).fit(X, y)
    >>> search.best_params_
    {'learning_rate_init': 0.03}
    """

    _parameter_constraints = {  # noqa: RUF012  # scikit-learn's own way
        **{k: v for k, v in BaseSearchCV._parameter_constraints.items() if k != "pre_dispatch"},
        "param_grid": [dict, list, None],
        "param_distributions": [dict, list, None],
        "n_iter": [Interval(Integral, 1, None, closed="left"), None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        estimator: Any,
        param_grid: Any = None,
        *,
        param_distributions: Any = None,
        n_iter: int | None = None,
        random_state: Any = None,
        scoring: Any = None,
        n_jobs: int | None = None,
        refit: Any = True,
        cv: Any = None,
        verbose: int = 0,
        error_score: Any = np.nan,
        return_train_score: bool = False,
    ) -> None:
        self.estimator = estimator
        self.param_grid = param_grid
        self.param_distributions = param_distributions
        self.n_iter = n_iter
        self.random_state = random_state
        self.scoring = scoring
        self.n_jobs = n_jobs
        self.refit = refit
        self.cv = cv
        self.verbose = verbose
        self.error_score = error_score
        self.return_train_score = return_train_score

    pre_dispatch = "all"
    """All fits wait for each other."""

    def fit(self, X: Any, y: Any = None, **params: Any) -> "StackedSearchCV":
        """Try all candidates, and fit the best one to all samples.

        Parameters
        ----------
        X, y
            As of the estimator.
        **params
            As in scikit-learn: of the estimator's `fit`, such as `sample_weight`, and `groups` for `cv`.
        """
        candidates = self._candidates()  # an error comes before any fit
        advice = "Give fewer values, or a smaller n_iter"
        check_room(len(candidates), Need(CANDIDATE_BYTES, 0), available, advice, "candidates")
        with ExitStack() as context:
            context.enter_context(parallel_config(backend=Stacks(self.n_jobs, context.close)))
            super().fit(X, y, **params)
        return self

    def _candidates(self) -> Any:
        """Return the combinations of parameters, an iterable of dict."""
        if (self.param_grid is None) == (self.param_distributions is None):
            given = "neither is" if self.param_grid is None else "both are"
            raise InputError(
                f"{given} given of param_grid and param_distributions; give one of them: a grid, of which all "
                "combinations are tried, or distributions, from which n_iter candidates are drawn"
            )
        if self.param_grid is None:
            n_iter = 10 if self.n_iter is None else self.n_iter
            return ParameterSampler(self.param_distributions, n_iter, random_state=self.random_state)
        if self.n_iter is not None:
            raise InputError(
                f"n_iter={self.n_iter} is of param_distributions; all combinations of param_grid are tried. Leave it "
                "out, or give the values as param_distributions"
            )
        return ParameterGrid(self.param_grid)

    def _run_search(self, evaluate_candidates: Callable[..., Any]) -> None:
        evaluate_candidates(self._candidates())
