"""The derivatives of an estimator's predictions with respect to X."""

from typing import Any

from scipy import sparse
from sklearn.utils.validation import check_is_fitted

from nnx.array import host
from nnx.batches.source import Rows
from nnx.errors import InputError, shown
from nnx.sklearn import samples
from nnx.sklearn.fitted import Fitted
from nnx.sklearn.losses import in_place, is_gaussian
from nnx.train.trainer import Trainer


class InputGradients(Fitted):
    """The part of the estimators that differentiates with respect to X."""

    def input_gradient(self, X: Any, output: Any = None) -> Any:
        """Return the derivative of a prediction by each feature: (m, n), of X's library.

        It is that of the network's outputs: of `predict` of a regressor, and of `predict_proba` of a classifier. Of
        loss="gaussian" the means come first, then the logarithms s of the variances. Of members it is that of their
        mean, with the shares that these use. Quantiles that cross are sorted, as in `predict`.

        Parameters
        ----------
        X : array-like or sparse matrix (m, n)
        output : int, array of int (m,), or None
            The column of the prediction, from 0: of a classifier the number of a class in `classes_`, or one for each
            sample. None: the only column, and of two classes the second. Of several quantiles the number q n + t is
            quantile q of target t, of n targets.

        Examples
        --------
        >>> import numpy as np
        >>> from nnx.sklearn import MLPRegressor
        >>> X = np.random.default_rng(0).standard_normal((40, 2))
        >>> line = MLPRegressor(hidden_layer_sizes=(), solver="lbfgs", alpha=0, backend="numpy").fit(
        ...     X, X @ [3, -1]
        ... )
        >>> line.input_gradient(X[:1]).round(2)
        array([[ 3., -1.]])
        """
        estimator: Any = self
        check_is_fitted(estimator)
        _refuse_labels(output)
        X = samples.validated(estimator, X, reset=False)
        members, shares = [estimator], [1.0]
        if "members_" in vars(estimator):
            members, shares = estimator.members_, estimator.member_weights_
        sign: Any = 1
        if len(getattr(estimator, "classes_", ())) == 2 and estimator.n_outputs_ == 1 and output is not None:
            # the network has the second class alone, and the first has the opposite slope
            asked = host.class_indices("output", output)
            if ((asked != 0) & (asked != 1)).any():
                raise InputError(
                    f"output is {shown(output)}; expected 0 or 1, the number of a class in classes_"
                )
            sign, output = (2 * asked - 1).reshape(-1, 1), asked * 0
        gaussian = is_gaussian(estimator._output)
        several = estimator._output.per_target > 1 and not gaussian
        if gaussian and output is None and estimator.n_outputs_ == 2:
            output = 0  # the mean of the only target
        found: Any = 0.0
        for member, share in zip(members, shares, strict=True):
            if share > 0:
                k = _crossed(member, X, output) if several and output is not None else output
                found = found + share * member._own_gradient(X, k)
        return samples.given_back(found * sign, samples.backend("numpy"), X)

    def _own_gradient(self, X: Any, output: Any) -> Any:
        """Return the derivative (m, n), a NumPy array, of one network's outputs by X, as it is validated."""
        estimator: Any = self
        theta = estimator._theta(estimator.network_)
        backend = samples.backend_for(X, estimator.backend, estimator.device, estimator.precision, 0.0)
        dtype = samples.dtype_of(theta)
        trainer = Trainer(estimator.network_, None, backend, None, dtype, theta=host.as_host(theta))
        if sparse.issparse(X):
            return trainer.input_gradient(Rows(X), output=output).T
        return trainer.input_gradient(X, output=output, rows=True)


def _refuse_labels(output: Any) -> None:
    """Raise an InputError for labels in the place of their numbers."""
    first = output[0] if isinstance(output, list | tuple) and output else output
    kind = getattr(getattr(output, "dtype", None), "kind", "")
    if isinstance(first, str | bytes) or kind in {"U", "S", "O"}:
        raise InputError(
            f"output is {shown(output)}; expected the number of a column of the prediction, from 0, or one for each "
            "sample; of a classifier the number of a class in classes_"
        )


def _crossed(estimator: Any, X: Any, output: Any) -> Any:
    """Return the network's outputs (m,) that the predicted quantiles are; what is no output as it is."""
    k, n = host.class_indices("output", output), estimator.n_outputs_
    if k.shape not in ((), (X.shape[0],)) or ((k < 0) | (k >= n)).any():
        return output  # the trainer says what it expects
    A, backend, _ = estimator._rows(X)
    return in_place(estimator._output, backend.to_numpy(A), k)
