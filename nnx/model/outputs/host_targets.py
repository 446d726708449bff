"""Targets that a user hands in, checked on the host before training."""

from typing import Any

import numpy as np

from nnx.array.host import as_dtype, as_host, as_numbers, check_finite
from nnx.errors import InputError
from nnx.model.outputs.base import Output
from nnx.model.outputs.targets import are_indices, wrong_targets


def checked_targets(name: str, Y: Any, output: Output, n: int, m: int, dtype: str) -> Any:
    """Return the targets, checked: values (n, m) of dtype, or class indices (m,), int32.

    With several outputs for each target n counts the outputs, and the values are (n / `Output.per_target`, m).

    Raises
    ------
    InputError
        When the shape does not fit n outputs and m samples, a label is outside the classes, or a value is
        outside the output's range.
    """
    n //= output.per_target
    labels = "; class labels are 0, 1, 2, ..., as numpy.unique(labels, return_inverse=True) gives them"
    Y = as_host(as_numbers(name, Y, labels))
    place = "sample {0}" if Y.ndim == 1 else "output {0}, sample {1}" if Y.ndim == 2 else ""
    check_finite(name, Y, dtype, place, ". Replace them, or leave out the samples")
    flat = Y.ndim > 0 and are_indices(output, n, Y)
    if flat and Y.size == m:
        return _indices(name, Y.reshape(-1), n)
    if n == 1 and Y.shape == (m,):
        Y = Y.reshape(1, m)
    if Y.shape != (n, m):
        raise InputError(wrong_targets(output, n, m, Y.shape, name))
    outside = (Y < output.lowest) | (Y > output.highest)
    if outside.any():
        allowed = f"in [{output.lowest}, {output.highest}]" if output.highest < np.inf else ">= 0"
        hint = " (class labels: 0 and 1)" if output.classes and n == 1 else ""
        if output.highest < np.inf:
            hint += "; for numbers choose output='identity'"
        raise InputError(
            f"{name} holds values from {Y.min()} to {Y.max()}; the output {output} expects values {allowed}{hint}"
        )
    if not output.soft and (between := Y[(Y != 0) & (Y != 1)]).size:
        raise InputError(
            f"{name} holds {between[0]}; the output {output} expects 0 and 1 alone. For probabilities use the output "
            "'sigmoid'"
        )
    if output.exclusive:
        worst = np.abs(Y.sum(axis=0) - 1).max()
        if worst > 1e-3:
            raise InputError(
                f"{name}'s columns must each sum to 1 for the output {output}; one is off by {worst:.3g}. "
                "For several labels at once use the output 'sigmoid'"
            )
    return as_dtype(Y, dtype)


def _indices(name: str, labels: Any, n: int) -> Any:
    if (labels != np.floor(labels)).any():
        raise InputError(f"{name}, as class labels, must be whole numbers 0..{n - 1}; given {labels[:5]} ...")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= n:
        raise InputError(
            f"{name} holds labels from {low} to {high}; expected 0..{n - 1} for n[L] = {n} outputs"
        )
    return labels.astype(np.int32)
