"""L-BFGS: SciPy's minimizer, with the cost and gradient over all samples (edge)."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnx.array.namespace import Array
from nnx.errors import InputError, positive_int
from nnx.optimizers.updates import State
from nnx.port.base import require
from nnx.support.registry import numbers

Objective = Callable[[Any], tuple[Any, Any]]
"""theta, float64 NumPy (P,) -> (J, dtheta): the cost over all samples and its gradient."""

Report = Callable[[int, Any, float], None]
"""(k, theta, J) after the k-th iteration, from 1."""


FLAT = "no element of the gradient is above gradient_tolerance="
LEVEL = "the cost falls by no more than cost_tolerance="
CONVERGED = FLAT, LEVEL
"""The beginnings of the reasons of a minimization that converged."""


@dataclass(frozen=True)
class LBFGS:
    """L-BFGS (Liu and Nocedal, 1989, https://doi.org/10.1007/BF01589116), by SciPy's L-BFGS-B without bounds.

    The last `memory` changes of theta and dtheta approximate the inverse of the Hessian, and give the direction of an
    iteration. A line search finds its length. It needs J over all samples, always the same: no mini-batches, no
    dropout. It suits few samples and small networks. SciPy computes on the host, in float64. With J in float32 the
    line search soon finds no lower cost, so give the trainer dtype="float64".

    Parameters
    ----------
    memory : int
        Changes that are remembered, 2 P numbers each. 10, as SciPy; PyTorch keeps 100.
    gradient_tolerance : float
        Ends when no element of the gradient is larger than this. 1e-5, as SciPy; PyTorch has 1e-7, scikit-learn 1e-4.
    cost_tolerance : float
        Ends when the cost falls by no more than this in an iteration, relative to the cost where that is above 1.
        2.2e-9, as SciPy and scikit-learn.
    evaluations : int
        Ends after the iteration with this evaluation of the cost; each iteration has one or more. 0: no limit.
        (SciPy and scikit-learn: 15,000.)
    """

    memory: int = 10
    gradient_tolerance: float = 1e-5
    cost_tolerance: float = 2.2204460492503131e-09
    evaluations: int = 0

    def __post_init__(self) -> None:
        numbers(self, "gradient_tolerance", "cost_tolerance", "evaluations")

    @property
    def learning_rate(self) -> float:
        """1: the line search finds the length of each step, and tries the direction's own first."""
        return 1.0

    def init(self, theta: Array) -> State:
        """Return nothing: SciPy's memory ends with the fit."""
        return {}

    def update(self, state: State, dtheta: Array) -> State:
        """Raise an InputError: there is no single step."""
        raise InputError(
            "L-BFGS needs the cost of all samples, again and again, not the gradient of one batch; train with "
            "Trainer.fit and batch_size=None"
        )

    def minimize(self, objective: Objective, theta: Any, iterations: int, report: Report) -> tuple[Any, str]:
        """Return the theta found and why it ended there.

        Parameters
        ----------
        objective : callable
            theta (P,) -> (J, dtheta (P,)), on the host; it is given float64.
        theta : array-like (P,)
            Where to start.
        iterations : int
            At most; each calls the objective once or more.
        report : callable
            Called with (k, theta, J) after the k-th iteration, from 1. An error in it ends the minimization and
            reaches the caller.

        Raises
        ------
        InputError
            When `iterations` is no positive integer.
        BackendError
            When SciPy is missing.

        Examples
        --------
        >>> theta, why = LBFGS().minimize(
        ...     lambda x: ((x - 1) @ (x - 1), 2 * (x - 1)), [3.0, -2.0], 100, lambda k, theta, J: None
        ... )
        >>> theta, why
        (array([1., 1.]), 'no element of the gradient is above gradient_tolerance=1e-05')
        """
        optimize = require("scipy.optimize", "lbfgs")
        iterations = positive_int("iterations", iterations)
        done = 0
        stop: list[StopIteration] = []  # SciPy would not pass it on

        def value_and_gradient(theta: Any) -> tuple[float, Any]:
            J, dtheta = objective(theta)
            J = float(J)
            # The line search recovers from an infinite cost, but would take NaN for a low one.
            return math.inf if math.isnan(J) else J, np.asarray(dtheta, dtype=np.float64)

        def callback(intermediate_result: Any) -> None:  # SciPy looks at this name
            nonlocal done
            done += 1
            try:
                report(done, np.array(intermediate_result.x), float(intermediate_result.fun))
            except StopIteration as error:
                stop.append(error)
                raise

        found = optimize.minimize(
            value_and_gradient,
            np.array(theta, dtype=np.float64),
            jac=True,
            method="L-BFGS-B",
            callback=callback,
            options={
                "maxcor": self.memory,
                "gtol": self.gradient_tolerance,
                "ftol": self.cost_tolerance,
                "maxiter": iterations,
                "maxfun": self.evaluations or math.inf,
            },
        )
        if stop:
            raise stop[0]
        return found.x, self._reason(found, iterations)

    def _reason(self, found: Any, iterations: int) -> str:
        """Return SciPy's status in words."""
        if not math.isfinite(found.fun):
            return "the cost is infinite or NaN where it starts"
        if np.max(np.abs(found.jac)) <= self.gradient_tolerance:
            return f"{FLAT}{self.gradient_tolerance:g}"
        if found.success:
            return f"{LEVEL}{self.cost_tolerance:g}"
        if found.nit >= iterations:
            return f"all {iterations} iterations are done"
        if 0 < self.evaluations <= found.nfev:
            return f"the cost was looked at {found.nfev} times, of {self.evaluations} evaluations"
        return "the line search finds no lower cost"
