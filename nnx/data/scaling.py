"""The scaling of inputs: means and deviations that are learned, and the places of each feature's inputs."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from nnx.array.host import quiet
from nnx.data.columns import Columns
from nnx.data.encoding import Column
from nnx.data.encoding_learned import learn
from nnx.data.source import Samples


def learned_inputs(samples: Samples, train: Any) -> tuple[list[Column] | None, list[float], list[float]]:
    """Return the inputs of the features, and the mean and scale of each input."""
    if isinstance(samples.X, Columns):
        return learn(samples.X[train])
    X = np.asarray(samples.X[train], dtype=float)
    with quiet():
        mean = X.mean(axis=0)
        std = np.full(len(mean), X.std()) if samples.one_unit else X.std(axis=0)
    return None, mean.tolist(), divisor(mean, std).tolist()


def first_inputs(features: Sequence[str], columns: Sequence[Column] | None) -> list[int]:
    """Return the place of each feature's first input."""
    if columns is None:
        return list(range(len(features)))
    widths = [len(column.inputs("")) for column in columns]
    return [0, *accumulate(widths[:-1])]


def divisor(mean: Any, std: Any) -> Any:
    """Return the divisors: the deviation, or 1 for constant inputs (up to rounding)."""
    return np.where(std > 1e-12 * np.abs(mean), std, 1.0)
