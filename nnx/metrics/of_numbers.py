"""Metrics of numbers: R2, mean absolute, mean squared and root mean squared error."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from nnx.array.namespace import Array, array_namespace
from nnx.metrics.measure import NUMBERS, Mean, Measure, Partial, ToNumpy, ratio, totals, weights_of, wide
from nnx.model.outputs.base import Output


@dataclass(frozen=True)
class MeanAbsoluteError(Mean):
    """The mean of |y - a| over samples and outputs."""

    kind: ClassVar[str] = "mean_absolute_error"
    tasks: ClassVar[tuple[str, ...]] = (NUMBERS,)

    def each(self, output: Output, A: Array, Y: Array) -> Array:
        """Return each sample's mean over the outputs."""
        xp = array_namespace(A, Y)
        return xp.mean(xp.abs(_residuals(A, Y)), axis=0)


@dataclass(frozen=True)
class MeanSquaredError(Mean):
    """The mean of (y - a)^2 over samples and outputs."""

    kind: ClassVar[str] = "mean_squared_error"
    tasks: ClassVar[tuple[str, ...]] = (NUMBERS,)

    def each(self, output: Output, A: Array, Y: Array) -> Array:
        """Return each sample's mean over the outputs."""
        return array_namespace(A, Y).mean(_residuals(A, Y) ** 2, axis=0)


@dataclass(frozen=True)
class RootMeanSquaredError(Measure):
    """The root of the mean of (y - a)^2 over the samples; the mean of it over the outputs, as in scikit-learn."""

    kind: ClassVar[str] = "root_mean_squared_error"
    tasks: ClassVar[tuple[str, ...]] = (NUMBERS,)

    def _partial(self, output: Output, A: Array, Y: Array, w: Array | None) -> Partial:
        xp, w = array_namespace(A, Y), weights_of(A, w)
        return xp.sum(w * _residuals(A, Y) ** 2, axis=-1), xp.sum(w)

    def result(self, partials: Sequence[Partial], to_numpy: ToNumpy) -> float:
        """Return the mean of the outputs' roots."""
        squares, weight = totals(partials, to_numpy)
        xp = array_namespace(squares)
        return float(xp.mean(xp.sqrt(squares / weight)))


def _residuals(A: Array, Y: Array) -> Array:
    return wide(array_namespace(A, Y).reshape(Y, A.shape)) - wide(A)


@dataclass(frozen=True)
class R2(Measure):
    """1 - sum (y - a)^2 / sum (y - mean y)^2, its mean over the outputs.

    As scikit-learn's `r2_score`: if an output's targets are all equal it is 1 where A equals them, else 0. The parts
    are each batch's mean and the squares about it, which `result` merges (T. F. Chan, G. H. Golub, R. J. LeVeque,
    Algorithms for computing the sample variance, The American Statistician 37 (1983), 242-247,
    https://doi.org/10.1080/00031305.1983.10483115). So a large mean costs no digits.
    """

    kind: ClassVar[str] = "r2"
    tasks: ClassVar[tuple[str, ...]] = (NUMBERS,)

    def _partial(self, output: Output, A: Array, Y: Array, w: Array | None) -> Partial:
        xp, w = array_namespace(A, Y), weights_of(A, w)
        residual = xp.sum(w * _residuals(A, Y) ** 2, axis=-1)
        Y = wide(xp.reshape(Y, A.shape))
        weight, first = xp.sum(w), Y[:, 0]
        # About the first target: exactly 0 where all are equal, and small numbers have more digits.
        D = Y - first[:, None]
        shift = xp.sum(w * D, axis=-1) / xp.where(weight > 0, weight, 1.0)
        squares = xp.sum(w * (D - shift[:, None]) ** 2, axis=-1)
        return weight, first, shift, squares, residual

    def result(self, partials: Sequence[Partial], to_numpy: ToNumpy) -> float:
        """Return R2."""
        host = [[wide(to_numpy(part)) for part in parts] for parts in partials]
        origin = host[0][1]
        means = [(first - origin) + shift for _, first, shift, _, _ in host]  # of the batches, from there
        weights, squares, residuals = ([parts[i] for parts in host] for i in (0, 3, 4))
        mean = sum(w * x for w, x in zip(weights, means, strict=True)) / sum(weights)
        total = sum(s + w * (x - mean) ** 2 for w, x, s in zip(weights, means, squares, strict=True))
        residual = sum(residuals)
        xp = array_namespace(residual)
        share = xp.where(total > 0, ratio(residual, total), wide(residual > 0))
        return float(xp.mean(1 - share))
