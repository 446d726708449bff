"""Metrics of classes: accuracy, precision and recall, the confusion matrix, the area under the ROC curve, log loss."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from typing import Any, ClassVar

from nnx.array.namespace import Array, array_namespace, device
from nnx.errors import InputError, positive_int, shown
from nnx.metrics.measure import (
    LABELS,
    ONE_OF,
    TWO,
    Mean,
    Measure,
    Partial,
    ToNumpy,
    of_samples,
    ratio,
    row,
    task,
    totals,
    weights_of,
    wide,
)
from nnx.model.outputs.base import Output
from nnx.model.outputs.targets import are_indices, targets

AVERAGES = ("auto", "macro", "micro", "weighted", None)


def decide(A: Array, threshold: float = 0.5) -> Array:
    """Return the predicted class of each sample, int32: A (..., n[L], m) -> argmax, or a > threshold when n[L] = 1."""
    xp = array_namespace(A)
    return xp.astype(A[..., 0, :] > threshold if A.shape[-2] == 1 else xp.argmax(A, axis=-2), xp.int32)


def classes(output: Output, A: Array, Y: Array) -> tuple[Array, Array]:
    """Return the predicted and the true class of each sample (..., m), int32; for labels yes or no (..., n, m)."""
    xp, n = array_namespace(A, Y), A.shape[-2]
    what = task(output, n, Y)
    if what == LABELS:
        return A > output.threshold, wide(Y) > 0.5
    if what == TWO:
        true = wide(of_samples(Y)) > 0.5
    elif are_indices(output, n, Y):
        true = of_samples(Y)
    else:
        true = xp.argmax(Y, axis=-2)
    return decide(A, output.threshold), xp.astype(true, xp.int32)


def is_class(labels: Array, K: int) -> Array:
    """Return whether each sample is of each class, (..., K, m); labels (..., n, m) are returned as they are."""
    return labels if _are_labels(labels) else column(K, labels) == row(labels)


def column(n: int, like: Array) -> Array:
    """Return the classes 0, 1, ..., n - 1 as a column (n, 1)."""
    xp = array_namespace(like)
    return xp.arange(n, dtype=xp.int32, device=device(like))[:, None]


def _are_labels(found: Array) -> bool:
    """Whether `classes` found labels, yes or no, and no classes."""
    return bool(found.dtype == array_namespace(found).bool)


@dataclass(frozen=True)
class Accuracy(Mean):
    """The share of samples that are right; a sample with labels must be right in every one.

    A class is right if it has the largest output (the first of equals). A label is right if it and its output are on
    the same side of the threshold: 1/2 for probabilities, 0 for a hinge.

    Examples
    --------
    >>> import numpy as np
    >>> from nnx.model.outputs import output
    >>> A, Y = np.array([[0.9, 0.4, 0.2]]), np.array([1, 1, 0])
    >>> Accuracy().result([Accuracy().partial(output("sigmoid"), A, Y, None)], to_numpy=np.asarray)
    0.6666666666666666
    """

    kind: ClassVar[str] = "accuracy"

    def each(self, output: Output, A: Array, Y: Array) -> Array:
        """Return whether each sample is right."""
        predicted, true = classes(output, A, Y)
        right = predicted == true
        return array_namespace(right).all(right, axis=-2) if _are_labels(true) else right


@dataclass(frozen=True)
class TopK(Mean):
    """The share of samples whose class is among the k largest outputs.

    The first of equal outputs counts as larger, so that k = 1 is the accuracy. (scikit-learn's
    `top_k_accuracy_score` takes the last of equals, and 2 for k; Keras takes 5.)

    Raises
    ------
    InputError
        When k is no positive integer; in use, when there are no more than k classes.
    """

    k: int = 5
    kind: ClassVar[str] = "top_k"
    tasks: ClassVar[tuple[str, ...]] = (ONE_OF,)

    def __post_init__(self) -> None:
        object.__setattr__(self, "k", positive_int("k", self.k))

    @property
    def name(self) -> str:
        """The name, with k."""
        return f"{self.kind}({self.k})"

    def check(self, output: Output, n: int, Y: Array) -> None:
        """Raise an InputError unless there are more than k classes."""
        super().check(output, n, Y)
        if n <= self.k:
            raise InputError(
                f"{self.name} of {n} classes is always 1; k must be less than the number of classes"
            )

    def each(self, output: Output, A: Array, Y: Array) -> Array:
        """Return whether fewer than k outputs stand before that of the true class."""
        xp, n = array_namespace(A, Y), A.shape[-2]
        _, true = classes(output, A, Y)
        score = xp.sum(xp.where(is_class(true, n), A, 0.0), axis=-2, keepdims=True)
        before = (A > score) | ((A == score) & (column(n, true) < row(true)))
        return xp.sum(xp.astype(before, xp.int32), axis=-2) < self.k


@dataclass(frozen=True)
class LogLoss(Mean):
    """The mean of -log(the predicted probability of the true class).

    For a softmax -sum_k y_k log a_k; for a sigmoid -y log a - (1-y) log(1-a), its mean over the outputs. As in
    scikit-learn's `log_loss` the probabilities stay 1 ulp of 1 away from 0 and 1. The cost J is computed from Z: it is
    exact there, and a sum over the outputs.
    """

    kind: ClassVar[str] = "log_loss"
    needs_probabilities: ClassVar[bool] = True

    def each(self, output: Output, A: Array, Y: Array) -> Array:
        """Return the log loss of each sample."""
        xp = array_namespace(A, Y)
        eps = float(xp.finfo(A.dtype).eps)
        Y, A = wide(targets(output, A, Y)), wide(A)
        A = xp.minimum(xp.maximum(A, eps), 1 - eps)
        if output.exclusive:
            return -xp.sum(Y * xp.log(A), axis=-2)
        return -xp.mean(Y * xp.log(A) + (1 - Y) * xp.log1p(-A), axis=-2)


@dataclass(frozen=True)
class _ByClass(Measure):
    """A ratio of counts of each class, and a mean of these."""

    average: str | None = "auto"
    kind: ClassVar[str]

    def __post_init__(self) -> None:
        if isinstance(self.average, str) and self.average == "none":  # the parameter of a name
            object.__setattr__(self, "average", None)
        if not (self.average is None or isinstance(self.average, str)) or self.average not in AVERAGES:
            raise InputError(
                f"average must be {', '.join(map(repr, AVERAGES[:-1]))} or None, not {shown(self.average)}"
            )

    @property
    def name(self) -> str:
        """The name, with the average unless it is the default."""
        return self.kind if self.average == "auto" else f"{self.kind}({self.average or 'none'})"

    @staticmethod
    @abstractmethod
    def parts(right: Any, predicted: Any, true: Any) -> tuple[Any, Any]:
        """Return numerator and denominator from the counts: predicted and right, predicted, true."""

    def _partial(self, output: Output, A: Array, Y: Array, w: Array | None) -> Partial:
        xp, n, w = array_namespace(A, Y), A.shape[-2], row(weights_of(A, w))
        P, T = (wide(is_class(labels, max(n, 2))) for labels in classes(output, A, Y))
        two_classes = n == 1 or (n == 2 and task(output, n, Y) != LABELS)
        if two_classes and self.average == "auto":
            P, T = P[..., 1:, :], T[..., 1:, :]
        right, predicted, true = (xp.sum(w * x, axis=-1) for x in (P * T, P, T))
        counted = xp.ones_like(true) if task(output, n, Y) == LABELS else predicted + true
        return right, predicted, true, counted

    def result(self, partials: Sequence[Partial], to_numpy: ToNumpy) -> Any:
        """Return the mean, or the values of the classes (K,) when average is None."""
        right, predicted, true, counted = totals(partials, to_numpy)
        above, below = self.parts(right, predicted, true)
        xp = array_namespace(above)
        if self.average == "micro":
            return float(ratio(xp.sum(above), xp.sum(below)))
        values = ratio(above, below)
        if self.average is None:
            return values
        if values.shape == (1,):
            return float(values[0])
        share = true if self.average == "weighted" else wide(counted > 0)
        return float(ratio(xp.sum(share * values), xp.sum(share)))


@dataclass(frozen=True)
class Precision(_ByClass):
    """Of the samples predicted to be of a class, the share that is.

    Parameters
    ----------
    average : {"auto", "macro", "micro", "weighted"} or None
        "auto": with two classes the value of class 1, else "macro". "macro": the mean over the classes that occur
        among the targets or the predictions, or over all labels. "micro": from the counts summed over the classes.
        "weighted": the mean weighted by the number of true samples of each class. None: the value of each class, a
        NumPy array (K,); one output has the two classes 0 and 1. All are as in scikit-learn with ``zero_division=0``:
        0/0 is 0.
    """

    kind: ClassVar[str] = "precision"

    @staticmethod
    def parts(right: Any, predicted: Any, true: Any) -> tuple[Any, Any]:
        """Return right / predicted."""
        return right, predicted


@dataclass(frozen=True)
class Recall(_ByClass):
    """Of the samples of a class, the share predicted to be: see `Precision` for average."""

    kind: ClassVar[str] = "recall"

    @staticmethod
    def parts(right: Any, predicted: Any, true: Any) -> tuple[Any, Any]:
        """Return right / true."""
        return right, true


@dataclass(frozen=True)
class F1(_ByClass):
    """The harmonic mean of precision and recall: see `Precision` for average.

    Examples
    --------
    >>> import numpy as np
    >>> from nnx.model.outputs import output
    >>> A, Y = np.array([[0.9, 0.4, 0.2, 0.6]]), np.array([1, 1, 0, 0])
    >>> for f1 in F1(), F1(None):
    ...     f1.result([f1.partial(output("sigmoid"), A, Y, None)], to_numpy=np.asarray)
    0.5
    array([0.5, 0.5])
    """

    kind: ClassVar[str] = "f1"

    @staticmethod
    def parts(right: Any, predicted: Any, true: Any) -> tuple[Any, Any]:
        """Return 2 right / (predicted + true)."""
        return 2 * right, predicted + true


@dataclass(frozen=True)
class ConfusionMatrix(Measure):
    """The number of samples of class i (row) that are predicted to be of class j (column), a NumPy array (K, K).

    Counts are integers; sums of weights are float64. One output has the two classes 0 and 1.
    """

    kind: ClassVar[str] = "confusion_matrix"
    tasks: ClassVar[tuple[str, ...]] = (TWO, ONE_OF)
    sums: ClassVar[bool] = True

    def _partial(self, output: Output, A: Array, Y: Array, w: Array | None) -> Partial:
        xp = array_namespace(A, Y)
        P, T = (wide(is_class(labels, max(A.shape[-2], 2))) for labels in classes(output, A, Y))
        matrix = (T if w is None else T * row(wide(w))) @ xp.matrix_transpose(P)
        return (xp.astype(matrix, xp.int32) if w is None else matrix,)

    def result(self, partials: Sequence[Partial], to_numpy: ToNumpy) -> Any:
        """Return the matrix."""
        (matrix,) = totals(partials, to_numpy)
        xp = array_namespace(matrix)
        counts = xp.isdtype(to_numpy(partials[0][0]).dtype, "integral")
        return xp.astype(matrix, xp.int64) if counts else matrix


@dataclass(frozen=True)
class RocAuc(Measure):
    """The area under the ROC curve: the share of pairs in which the sample of the class scores higher, ties half.

    Exact, as scikit-learn's `roc_auc_score`. With several classes or labels it is the mean over them, each class
    against the rest. It is NaN if a class (or a label) has samples of one side only, since there is no pair to
    compare. It is no sum over batches: the device keeps the outputs of all samples.

    J. A. Hanley, B. J. McNeil, The meaning and use of the area under a receiver operating characteristic (ROC) curve,
    Radiology 143 (1982), 29-36, https://doi.org/10.1148/radiology.143.1.7063747.
    """

    kind: ClassVar[str] = "roc_auc"

    def _partial(self, output: Output, A: Array, Y: Array, w: Array | None) -> Partial:
        _, true = classes(output, A, Y)
        return A, true, weights_of(A, w)

    def result(self, partials: Sequence[Partial], to_numpy: ToNumpy) -> float:
        """Return the area, computed on the device."""
        xp = array_namespace(partials[0][0])
        A, true, w = (xp.concat(list(parts), axis=-1) for parts in zip(*partials, strict=True))
        n = A.shape[0]
        areas = []
        for k in range(n):
            positive = true[k, :] if true.ndim == 2 else true == (k if n > 1 else 1)
            areas.append(totals([_pairs(A[k, :], positive, w)], to_numpy))
        return float(sum(won / of if of > 0 else nan for won, of in areas) / n)


def _pairs(score: Array, positive: Array, w: Array) -> Partial:
    """Return the weight of the pairs (positive, negative) in which the positive scores higher, and of all pairs."""
    xp = array_namespace(score)
    p, q = w * wide(positive), w * wide(~positive)
    negatives_first = xp.argsort(xp.astype(positive, xp.int32))
    won = 0.0
    # A stable sort leaves equal scores in order: with negatives before positives a tie is won, reversed it is lost.
    for order in (negatives_first, xp.flip(negatives_first)):
        by_score = xp.take(order, xp.argsort(xp.take(score, order)))
        won += xp.sum(xp.take(p, by_score) * xp.cumulative_sum(xp.take(q, by_score)))
    return won / 2, xp.sum(p) * xp.sum(q)
