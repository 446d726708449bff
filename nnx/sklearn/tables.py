"""The table that an estimator of tables takes: checked against the fit, and without the rows of weight 0."""

from typing import Any

import numpy as np
from sklearn.utils.validation import validate_data

from nnx.array import host
from nnx.batches import frames
from nnx.sklearn import samples


def checked(estimator: Any, X: Any, reset: bool, y: Any = "no_validation") -> Any:
    """Return X as a data frame or a NumPy array, of as many columns, and of the same names, as in the fit."""
    if isinstance(X, list | tuple):
        X = np.array(X, dtype=object)  # without it numbers beside text would become text
    X = host.as_host(X) if samples.home(X) else samples.table(estimator, X, reset)
    found = None if isinstance(X, np.ndarray) else frames.frame(X)
    if y is None:
        validate_data(estimator, X, y, reset=reset, skip_check_array=True)  # raises
    if found is None:
        return validate_data(estimator, X, reset=reset, dtype=None, ensure_all_finite="allow-nan")
    validate_data(estimator, X, reset=reset, skip_check_array=True)
    if not found.m * len(found.names):
        what = "feature(s)" if found.m else "sample(s)"
        raise ValueError(f"Found array with 0 {what} while a minimum of 1 is required.")
    return X


def counted(X: Any, y: Any, sample_weight: Any) -> tuple[Any, Any, Any]:
    """Return the rows, the targets and the weights (m,) or None, without the rows of weight 0.

    The weights are checked by `samples.weights`.
    """
    if sample_weight is None:
        return X, y, None
    weights = samples.weights(sample_weight, len(y))
    rows = np.flatnonzero(weights)
    return (X, y, weights) if len(rows) == len(y) else (_take(X, rows), y[rows], weights[rows])


def _take(X: Any, rows: Any) -> Any:
    """Return some rows of a data frame or an array."""
    if hasattr(X, "iloc"):
        return X.iloc[rows]
    return X.take(rows) if hasattr(X, "schema") and hasattr(X, "take") else X[rows]
