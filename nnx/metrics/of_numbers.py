"""Metrics of numbers: R2, mean absolute, mean squared and root mean squared error."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from nnx.array.namespace import Array, array_namespace
from nnx.metrics.measure import (
    NUMBERS,
    Mean,
    Measure,
    Partial,
    ToNumpy,
    as_number,
    ratio,
    row,
    totals,
    weights_of,
    wide,
)
from nnx.model.outputs.base import Output


@dataclass(frozen=True)
class MeanAbsoluteError(Mean):
    """The mean of |y - a| over samples and outputs."""

    kind: ClassVar[str] = "mean_absolute_error"
    tasks: ClassVar[tuple[str, ...]] = (NUMBERS,)

    def each(self, output: Output, A: Array, Y: Array) -> Array:
        """Return each sample's mean over the outputs."""
        xp = array_namespace(A, Y)
        return xp.mean(xp.abs(_residuals(A, Y)), axis=-2)


@dataclass(frozen=True)
class MeanSquaredError(Mean):
    """The mean of (y - a)^2 over samples and outputs."""

    kind: ClassVar[str] = "mean_squared_error"
    tasks: ClassVar[tuple[str, ...]] = (NUMBERS,)

    def each(self, output: Output, A: Array, Y: Array) -> Array:
        """Return each sample's mean over the outputs."""
        return array_namespace(A, Y).mean(_residuals(A, Y) ** 2, axis=-2)


@dataclass(frozen=True)
class RootMeanSquaredError(Measure):
    """The root of the mean of (y - a)^2 over the samples; the mean of it over the outputs, as in scikit-learn."""

    kind: ClassVar[str] = "root_mean_squared_error"
    stacks: ClassVar[bool] = True
    tasks: ClassVar[tuple[str, ...]] = (NUMBERS,)

    def _partial(self, output: Output, A: Array, Y: Array, w: Array | None) -> Partial:
        xp, w = array_namespace(A, Y), weights_of(A, w)
        return xp.sum(row(w) * _residuals(A, Y) ** 2, axis=-1), xp.sum(w, axis=-1)

    def result(self, partials: Sequence[Partial], to_numpy: ToNumpy) -> Any:
        """Return the mean of the outputs' roots."""
        squares, weight = totals(partials, to_numpy)
        xp = array_namespace(squares)
        return as_number(xp.mean(xp.sqrt(squares / weight[..., None]), axis=-1))


def _residuals(A: Array, Y: Array) -> Array:
    return wide(_matrix(Y)) - wide(A)


def _matrix(Y: Array) -> Array:
    """Return targets (..., n[L], m); of one output they may be (m,)."""
    return row(Y) if Y.ndim == 1 else Y


@dataclass(frozen=True)
class R2(Measure):
    """1 - sum (y - a)^2 / sum (y - mean y)^2, its mean over the outputs.

    As scikit-learn's `r2_score`: if an output's targets are all equal it is 1 where A equals them, else 0. The parts
    are each batch's mean and the squares about it, which `result` merges (T. F. Chan, G. H. Golub, R. J. LeVeque,
    Algorithms for computing the sample variance, The American Statistician 37 (1983), 242-247,
    https://doi.org/10.1080/00031305.1983.10483115). So a large mean costs no digits.
    """

    kind: ClassVar[str] = "r2"
    stacks: ClassVar[bool] = True
    tasks: ClassVar[tuple[str, ...]] = (NUMBERS,)

    def _partial(self, output: Output, A: Array, Y: Array, w: Array | None) -> Partial:
        xp, w = array_namespace(A, Y), weights_of(A, w)
        residual = xp.sum(row(w) * _residuals(A, Y) ** 2, axis=-1)
        Y = wide(_matrix(Y))
        weight, first = xp.sum(w, axis=-1), Y[..., 0]
        # About the first target: exactly 0 where all are equal, and small numbers have more digits.
        D = Y - first[..., None]
        shift = xp.sum(row(w) * D, axis=-1) / xp.where(weight > 0, weight, 1.0)[..., None]
        squares = xp.sum(row(w) * (D - shift[..., None]) ** 2, axis=-1)
        return weight, first, shift, squares, residual

    def result(self, partials: Sequence[Partial], to_numpy: ToNumpy) -> Any:
        """Return R2."""
        host = [[wide(to_numpy(part)) for part in parts] for parts in partials]
        origin = host[0][1]
        means = [(first - origin) + shift for _, first, shift, _, _ in host]  # of the batches, from there
        squares, residuals = ([parts[i] for parts in host] for i in (3, 4))
        weights = [parts[0][..., None] for parts in host]
        mean = sum(w * x for w, x in zip(weights, means, strict=True)) / sum(weights)
        total = sum(s + w * (x - mean) ** 2 for w, x, s in zip(weights, means, squares, strict=True))
        residual = sum(residuals)
        xp = array_namespace(residual)
        share = xp.where(total > 0, ratio(residual, total), wide(residual > 0))
        return as_number(xp.mean(1 - share, axis=-1))
