"""The start of a fit with loss="gaussian": outputs of the size of y, whatever its units are."""

from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from nnx import optimizers
from nnx.array import host
from nnx.sklearn.losses import is_gaussian
from nnx.support.warned import warn

SMALLEST, LARGEST = 0.02, 500.0
"""The deviations of y that a fit reaches from the usual weights, in as many steps as is usual."""


def begin(estimator: Any, Y: Any, rows: Any, weights: Any, incremental: bool = False) -> None:
    """Put the mean of y, and the logarithm of its variance, into the biases of a Gaussian's outputs a and s.

    From a = 0 and s = 0 a step of a is small beside y. The loss falls sooner where the variance e^s grows. Then it
    hides the error of the mean, whose derivative (a - y) / e^s vanishes. From the moments of y neither is far away.

    A small variance divides every derivative, so that the first steps are too long. s is 0 where the deviation is
    below `SMALLEST`, as that of a constant is. In two cases s is 0 up to a deviation of 1: the first batch of
    `partial_fit` may vary less than others do, and gradient descent takes steps as long as the derivative is.

    Parameters
    ----------
    estimator : MLPRegressor
        With first parameters.
    Y : array (m, targets)
    rows : array of int or None
        The samples that are trained on; None: all.
    weights : array (m,) or None
        Those of the samples.
    incremental : bool
        Whether `partial_fit` gives Y, its first batch.
    """
    found = estimator._output
    if not is_gaussian(found):
        return
    Y = np.asarray(Y if rows is None else Y[rows], np.float64)
    w = weights if weights is None or rows is None else weights[rows]
    if w is not None and not np.any(w):
        return
    with host.quiet():
        mean = np.average(Y, axis=0, weights=w)
        variance = np.average((Y - mean) ** 2, axis=0, weights=w)
        least = 1.0 if incremental or _descends(estimator) else SMALLEST
        s = np.log(np.where(variance < least**2, 1.0, variance))
        biases = np.concatenate([mean, s])
        if np.isfinite(biases.astype(np.float32)).all():
            estimator.intercepts_[-1] = biases
    std = np.sqrt(variance)
    _warn(std[std > 1e-12 * np.abs(mean)])  # else a constant, rounded


def _descends(estimator: Any) -> bool:
    """Whether a step is as long as the derivative is."""
    if estimator.optimizer is None:
        return bool(estimator.solver == "sgd")
    found = optimizers.optimizer(estimator.optimizer)
    return isinstance(found, optimizers.GradientDescent | optimizers.Momentum)


def _warn(std: Any) -> None:
    """Warn of targets whose deviations (targets,) a fit does not reach."""
    far = [s for s in std.tolist() if s > LARGEST or s < SMALLEST]
    if far:
        warn(
            f"y has a standard deviation of {far[0]:.3g}, which loss='gaussian' may not reach in a fit. Scale y: "
            "sklearn.compose.TransformedTargetRegressor(MLPRegressor('gaussian'), transformer=StandardScaler()); or "
            "divide it by its deviation, and multiply predict and predict_std by that",
            ConvergenceWarning,
        )
