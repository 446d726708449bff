"""The regressor."""

from typing import Any

import numpy as np
from scipy import sparse
from sklearn.base import RegressorMixin, _fit_context
from sklearn.metrics import r2_score
from sklearn.utils import check_array, column_or_1d
from sklearn.utils.metaestimators import available_if

from nnx.array import host
from nnx.errors import InputError
from nnx.sklearn import samples
from nnx.sklearn.available import can_partial_fit
from nnx.sklearn.base import BaseMLP
from nnx.sklearn.labels import refuse_text
from nnx.sklearn.losses import (
    LOSS_OF_NUMBERS,
    as_rows,
    check_has_std,
    in_order,
    is_gaussian,
    of_numbers,
    std_of_members,
    variance,
)
from nnx.sklearn.members import outputs
from nnx.sklearn.validation import given_set


class MLPRegressor(RegressorMixin, BaseMLP):  # type: ignore[misc]  # scikit-learn has no types
    """scikit-learn's `MLPRegressor`, trained by nnx: the same parameters, attributes, random numbers and results.

    Parameters
    ----------
    loss : str, Loss or function
        "squared_error": half the squared error. "poisson": half the Poisson deviance, with e^z as the output's
        activation, for y >= 0. Or a loss of nnx for numbers (`nnx.LOSSES`): "absolute_error", "huber(0.5)",
        "quantile(0.9)"; "quantile(0.1,0.5,0.9)" for several quantiles at once; "gaussian" for a mean and a variance. Or
        one of your own: an `nnx.Loss`, or a function of the predictions and the targets, both (outputs, m).
    hidden_layer_sizes, activation, solver, alpha, batch_size, learning_rate, learning_rate_init, power_t, max_iter, \
shuffle, random_state, tol, verbose, warm_start, momentum, nesterovs_momentum, early_stopping, \
validation_fraction, beta_1, beta_2, epsilon, n_iter_no_change, max_fun
        As in scikit-learn, https://scikit-learn.org/stable/modules/generated/sklearn.neural_network.MLPRegressor.html
    backend, device, precision, dtype, dropout, normalization, optimizer, schedule, regularization, callbacks, \
numerical_embeddings, n_members, member_params, selection
        As in `MLPClassifier`.

    Attributes
    ----------
    loss_, best_loss_, loss_curve_, best_validation_score_, t_, coefs_, intercepts_, \
n_features_in_, feature_names_in_, n_iter_, n_layers_, n_outputs_, out_activation_
        As in scikit-learn. coefs_ and intercepts_ are views of the network's parameters.
    validation_scores_, validation_loss_curve_ : list of float or None
        As in `MLPClassifier`; the scores are R2.
    network_ : Network
        The trained network.
    members_, member_weights_
        As in `MLPClassifier`.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> X, y = load_diabetes(return_X_y=True)
    >>> MLPRegressor(solver="lbfgs", tol=5, random_state=0).fit(X, y).score(X, y) > 0.4
    True
    """

    _parameter_constraints = {  # noqa: RUF012  # scikit-learn's own way
        **BaseMLP._parameter_constraints,
        "loss": LOSS_OF_NUMBERS,
    }

    def __init__(
        self,
        loss: Any = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        backend: str | None = None,
        device: str | None = None,
        precision: str | None = None,
        dtype: str | None = None,
        dropout: float = 0.0,
        normalization: str | None = None,
        optimizer: Any = None,
        schedule: Any = None,
        regularization: Any = None,
        callbacks: Any = (),
        numerical_embeddings: Any = None,
        n_members: int | None = None,
        member_params: Any = None,
        selection: str = "all",
    ) -> None:
        given = dict(locals())
        del given["self"]
        self.__dict__.update(given)

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        validation_set: Any = None,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> "MLPRegressor":
        """Train on X and y.

        Parameters
        ----------
        X : array-like or sparse matrix (m, n)
            Samples as rows: of NumPy, CuPy, PyTorch or JAX, a pandas or polars frame, a SciPy sparse matrix.
        y : array-like (m,) or (m, outputs)
        sample_weight : array-like (m,) or None
            At least 0.
        validation_set : (X, y) or (X, y, sample_weight), or None
            Samples that are not trained on, see `MLPClassifier.fit`.
        X_val, y_val, sample_weight_val : array-like
            The same, apart.
        """
        validation = given_set(validation_set, X_val, y_val, sample_weight_val)
        self._fit(X, y, sample_weight, validation=validation)
        return self

    @available_if(can_partial_fit)  # type: ignore[untyped-decorator]
    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def partial_fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, validation_set: Any = None
    ) -> "MLPRegressor":
        """Train one epoch on X and y, going on from where it is; see `fit`."""
        self._fit(X, y, sample_weight, incremental=True, validation=given_set(validation_set))
        return self

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Return the predicted numbers (m,) or (m, outputs): of X's library and device.

        Of several quantiles they are (m, quantiles) or (m, outputs, quantiles), ascending; of a Gaussian the means.
        With `return_std` a pair of them and of `predict_std`.
        """
        A, backend, checked = self._rows(X)
        A = self._output.predicted(A) if is_gaussian(self._output) else in_order(self._output, A)
        found = samples.given_back(as_rows(self._output, A), backend, checked)
        return (found, self.predict_std(X)) if return_std else found

    @available_if(check_has_std)  # type: ignore[untyped-decorator]
    def predict_std(self, X: Any) -> Any:
        """Return the standard deviation of each prediction, of the shape of `predict`.

        It is that of the members' predictions around their mean, or of the distribution that loss="gaussian" has
        learned; of members with this loss that of the mixture of theirs.
        """
        if "members_" in vars(self):
            A, backend, X = outputs(self, X, std_of_members)
        else:
            A, backend, X = self._rows(X)
            A = variance(self._output, A) ** 0.5
        return samples.given_back(as_rows(self._output, A), backend, X)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return R2, of several outputs their mean; of several quantiles that of the one nearest to the median."""
        found = self.predict(X)
        if self._output.per_target > 1 and not is_gaussian(self._output):
            found = found[..., self._output.point]
        found, y = (host.as_host(x) if samples.home(x) else x for x in (found, y))
        return float(r2_score(y, found, sample_weight=sample_weight))

    def _validate(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Any]:
        """Return X (m, n) and Y (m, outputs)."""
        y = host.as_host(y) if samples.home(y) else y
        refuse_text(y, "MLPRegressor", "MLPClassifier")
        if samples.home(X) is None:
            X, y = samples.checked(
                self,
                X,
                y,
                accept_sparse=["csr", "csc"],
                multi_output=True,
                y_numeric=True,
                dtype=(np.float64, np.float32),
                reset=reset,
            )
            X = X.tocsr() if sparse.issparse(X) else X
        else:
            X, y = samples.on_device(self, X, reset), samples.with_length(y, X.shape[0])
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        Y = y.reshape(-1, 1) if y.ndim == 1 else y
        self._set_outputs(Y.shape[1], of_numbers(self.loss), reset)
        return X, Y

    def _targets(self, y: Any, m: int) -> Any:
        """Return Y (m, outputs) of samples that are not trained on."""
        y = host.as_host(y) if samples.home(y) else y
        refuse_text(y, "MLPRegressor", "MLPClassifier")
        y = check_array(y, ensure_2d=False, dtype="numeric", input_name="y")
        y = samples.with_length(y, m)
        Y = y.reshape(-1, 1) if y.ndim == 1 else y
        if Y.shape[1] != (n := self.n_outputs_ // self._output.per_target):
            raise InputError(f"y has {Y.shape[1]} outputs, that of the training {n}")
        return Y

    def _score(self, found: Any, Y: Any, weights: Any) -> float:
        output = self._output
        return r2(Y, output.predicted(in_order(output, found.T)).T, weights)


def r2(Y: Any, A: Any, w: Any) -> float:
    """Return the mean R2 of the outputs (m, n), to the bit that of scikit-learn, which checks its arguments for longer.

    R2 = 1 - sum w (y - a)^2 / sum w (y - mean)^2. Where a sum is 0, R2 is 1 for no error, else 0.

    Examples
    --------
    >>> r2(np.array([[1.0], [2.0], [4.0]]), np.array([[1.0], [2.0], [3.0]]), None)
    0.7857142857142857
    """
    dtype = np.result_type(*(x for x in (Y, A, w) if x is not None))
    Y, A = Y.astype(dtype, copy=False), A.astype(dtype, copy=False)
    w = None if w is None else w.astype(dtype, copy=False)
    mean, weights = np.average(Y, axis=0, weights=w), 1.0 if w is None else w[:, None]
    error, total = (np.sum(weights * (Y - x) ** 2, axis=0) for x in (A, mean))
    share = np.divide(error, total, out=(error != 0).astype(dtype), where=(error != 0) & (total != 0))
    return float(np.average(1 - share))
