"""Weights of samples, given one by one or by class, multiplied: what each counts in the cost and the metrics.

J = sum_i w_i loss_i / sum_i w_i, so all weights times a number are the same weights.

Weights of classes are first made a table of numbers, then looked up for the targets of a batch: a stream whose Y is
never seen as a whole does the first once (`class_table`), the second for every batch (`batch_weights`).
"""

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, TypeAlias

import numpy as np

from nnx.array.host import as_host, as_numbers, check_finite, quiet
from nnx.array.namespace import Array
from nnx.errors import InputError, shown
from nnx.model.outputs.base import Output
from nnx.model.outputs.targets import are_indices

BALANCED = "balanced"
ClassWeight: TypeAlias = Mapping[int, float] | Sequence[float] | Sequence[Mapping[int, float]] | str | None


def sample_weights(
    sample_weight: Any, class_weight: ClassWeight, Y: Any, output: Output, n: int, m: int
) -> Any:
    """Return the weights of m samples as a NumPy array (m,), float64; None where no weights are given.

    Parameters
    ----------
    sample_weight : array-like (m,) or None
        Finite numbers >= 0, not all 0; or one number for all samples.
    class_weight : dict, sequence, "balanced" or None
        {class: weight}, 1 for a class that is not named; or a weight for each class in order (two for one output); or
        "balanced": m / (K count of the class), K the number of classes that occur. For several labels at once a dict
        {0: weight, 1: weight} for each output, or "balanced"; the weights of a sample's labels are multiplied. All as
        in scikit-learn's `compute_sample_weight`, which has no sequence of weights.
    Y : NumPy array (n, m), or class indices (m,)
        Targets, as `nnx.model.outputs.host_targets.checked_targets` checked them.
    output : Output
    n, m : int
        Outputs and samples.

    Raises
    ------
    InputError
        For numbers that are no weights, unknown classes, a wrong length, or class_weight where there are no classes.

    Examples
    --------
    >>> from nnx.model.outputs import output
    >>> sample_weights(None, "balanced", np.array([[0.0, 0, 0, 1]]), output("sigmoid"), 1, 4)
    array([0.66666667, 0.66666667, 0.66666667, 2.        ])
    >>> sample_weights([1, 2, 1], {2: 10}, np.array([0, 1, 2]), output("softmax"), 3, 3)
    array([ 1.,  2., 10.])
    """
    weights = batch_weights(sample_weight, class_table(class_weight, output, n, Y), Y, output, n, m)
    if weights is not None and not weights.any():
        names = [
            name
            for name, x in (("sample_weight", sample_weight), ("class_weight", class_weight))
            if x is not None
        ]
        raise InputError(f"{' times '.join(names)} is 0 for all of the {m} samples; expected some above 0")
    return weights


def held_out_weights(sample_weight: Any, class_weight: ClassWeight, Y: Any, output: Output, n: int) -> Any:
    """Return the weights that samples held out would have in training (m,), float64; None where no weights are given.

    A validation has these weights. Without them early stopping would undo the weights of the training.

    Parameters
    ----------
    sample_weight, class_weight, output, n
        See `sample_weights`. "balanced" counts the classes of the samples held out.
    Y : NumPy array (n, m), or (m,)
        Their targets: class indices where n > 1, else the targets of the one output.
    """
    if sample_weight is None and class_weight is None:
        return None
    targets = Y[None, :] if n == 1 and Y.ndim == 1 else Y
    return sample_weights(sample_weight, class_weight, targets, output, n, Y.shape[-1])


def class_table(class_weight: ClassWeight, output: Output, n: int, Y: Any = None) -> Any:
    """Return the weights of the classes: a NumPy array (K,), of labels (n, 2); None for None.

    Parameters
    ----------
    class_weight, output, n
        See `sample_weights`.
    Y : NumPy array or None
        All targets; only "balanced" needs them.

    Raises
    ------
    InputError
        See `sample_weights`; also for "balanced" without Y.
    """
    if class_weight is None:
        return None
    if not output.classes:
        raise InputError(
            f"class_weight is for classes; the output {output} is of numbers. Weigh the samples: sample_weight"
        )
    K = max(n, 2)
    if isinstance(class_weight, str):
        if class_weight != BALANCED:
            raise InputError(f"class_weight must be numbers or {BALANCED!r}, not {shown(class_weight)}")
        if Y is None:
            raise InputError(
                "class_weight 'balanced' counts all targets, which a stream never shows at once; give numbers instead, "
                "such as {0: 1.0, 1: 5.0}"
            )
        labels = _classes(Y, output, n)
        return _balanced(labels, K) if labels.ndim == 1 else np.stack([_balanced(row, 2) for row in labels])
    if isinstance(class_weight, Mapping):
        return _of_mapping("class_weight", class_weight, K)
    dicts = (
        [one for one in class_weight if isinstance(one, Mapping)]
        if isinstance(class_weight, Sequence)
        else []
    )
    if dicts and len(dicts) == len(class_weight):
        if output.exclusive or n == 1:
            raise InputError(
                f"class_weight is a list of dicts, which is for several labels at once; for the output {output} with "
                f"n[L] = {n} give one dict {{class: weight}}"
            )
        if len(dicts) != n:
            raise InputError(f"class_weight lists {len(dicts)} dicts; expected {n}, one for each output")
        return np.stack([_of_mapping(f"class_weight[{k}]", one, 2) for k, one in enumerate(dicts)])
    return _numbers("class_weight", class_weight, K, f"a weight for each of the {K} classes")


def batch_weights(sample_weight: Any, table: Any, Y: Any, output: Output, n: int, m: int) -> Any:
    """Return the weights of a batch (m,), float64, or None: see `sample_weights`; they may all be 0.

    Parameters
    ----------
    sample_weight : array-like (m,) or None
    table : array or None
        What `class_table` gave.
    Y, output, n, m
        See `sample_weights`, of the batch.
    """
    weights = None
    if sample_weight is not None:
        weights = _numbers("sample_weight", sample_weight, m, f"one weight for each of the {m} samples")
    if table is None:
        return weights
    labels = _classes(Y, output, n)
    if labels.ndim != table.ndim:
        given, expected = ("several labels at once", "a dict {0: weight, 1: weight} for each output")
        if labels.ndim == 1:
            given, expected = ("one class of several", "a weight for each class")
        raise InputError(f"Y is of {given}, for which class_weight must be {expected}")
    of_class = table[labels] if table.ndim == 1 else np.prod(table[np.arange(n)[:, None], labels], axis=0)
    if weights is None:
        return of_class
    with quiet():
        product = weights * of_class
    if not np.isfinite(product).all():
        raise InputError("sample_weight times class_weight is too large; divide one of them by its largest")
    return product


def _classes(Y: Any, output: Output, n: int) -> Any:
    """Return the class of each sample (m,), or of each label (n, m), as integers."""
    if are_indices(output, n, Y):
        return Y.reshape(-1)
    if not ((Y == 0) | (Y == 1)).all():
        raise InputError(
            "class_weight needs targets that are classes; Y holds probabilities such as "
            f"{Y[(Y != 0) & (Y != 1)][0]:g}. Weigh the samples: sample_weight"
        )
    labels = Y.astype(np.int64)
    if n == 1:
        return labels.reshape(-1)
    return labels.argmax(axis=0) if output.exclusive else labels


def _balanced(labels: Any, K: int) -> Any:
    # m / (K' count), K' the number of classes that occur; the others have no sample to weigh
    counts = np.bincount(labels, minlength=K)
    return len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1))


def _of_mapping(name: str, weights: Mapping[int, float], K: int) -> Any:
    for label in weights:
        if not isinstance(label, Real) or label not in range(K):
            raise InputError(f"{name} names the class {shown(label)}; the classes are 0..{K - 1}")
    return _numbers(name, [weights.get(k, 1.0) for k in range(K)], K, "numbers")


def _numbers(name: str, weights: Any, size: int, expected: str) -> Any:
    found: Array = as_host(as_numbers(name, weights))
    if found.shape == () and name == "sample_weight":
        found = np.full(size, found)
    if found.shape != (size,):
        raise InputError(f"{name} has shape {found.shape}; expected ({size},), {expected}")
    check_finite(name, found, "float64")
    if found.dtype.kind != "b" and found.min() < 0:
        raise InputError(f"{name} holds {found.min()}; weights must be at least 0")
    return found.astype(np.float64)


def in_range(weights: Any, dtype: str, together: bool = True) -> tuple[Any, int]:
    """Return weights that dtype holds with room for their sum and products, and the exponent of the factor.

    The weights are multiplied by a power of two where they need it, which changes none of their ratios. What is then
    below the smallest normal number of dtype is beside the largest as good as 0, and becomes 0.

    Parameters
    ----------
    weights : NumPy array (m,), float64
        Finite and at least 0.
    dtype : {"float32", "float64"}
    together : bool
        Whether the largest is in every batch. If not, a batch could be of such small weights alone, which would then
        be left out.

    Raises
    ------
    InputError
        When weights become 0 that may be alone in a batch.

    Examples
    --------
    >>> in_range(np.array([1.0, 3.0]), "float32")
    (array([1., 3.]), 0)
    >>> in_range(np.array([1e-320, 2e-320]), "float64")[0] / 2.0**250
    array([31.625, 63.25 ])
    """
    limits = np.finfo(dtype)
    room = limits.maxexp // 4  # metrics multiply two of them
    positive = weights[weights > 0]
    if not positive.size:
        return weights, 0
    largest = int(np.frexp(positive.max())[1])
    if abs(largest) <= room and positive.min() >= limits.smallest_normal:
        return weights, 0
    scaled = np.ldexp(weights, room - largest)
    scaled = np.where(scaled < limits.smallest_normal, 0.0, scaled)
    if not together and np.count_nonzero(scaled) < positive.size:
        raise InputError(
            f"the weights go from {positive.min():g} to {positive.max():g}, which {dtype} cannot hold beside each "
            "other in batches; leave out the samples of the smallest weights, or give all samples in one batch"
        )
    return scaled, room - largest


def fitting(weights: Any, dtype: str) -> Any:
    """Return weights, or raise an InputError if their sum has no number in dtype, or all of them become 0 in it."""
    if weights is None:
        return None
    with quiet():
        total = weights.astype(dtype).sum(dtype=dtype)
    if not np.isfinite(total) or (total == 0 and weights.any()):
        size = "small" if total == 0 else "large"
        raise InputError(
            f"the weights are too {size} for {dtype}; divide all of them by their largest, {weights.max():g}"
        )
    return weights
