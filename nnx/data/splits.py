"""Parts of the rows: to train on and to hold out, and folds."""

from typing import Any

import numpy as np

from nnx.batches.split import by_class, share_out
from nnx.data.source import Samples
from nnx.errors import InputError


def split(samples: Samples, task: str, held_out: float, seed: int, rows: Any = None) -> tuple[Any, Any]:
    """Return the row numbers to train on and those held out, a share of each class of its own size.

    Parameters
    ----------
    rows : array of int, or None
        The rows to split; None: all.

    Raises
    ------
    InputError
        When held_out is not between 0 and 1, or leaves either side empty.
    """
    if not 0 < held_out < 1:
        raise InputError(f"held-out must be between 0 and 1, the share of the samples; given {held_out}")
    return share_out(_by_class(samples, task, seed, rows), held_out)


def folds(samples: Samples, task: str, k: int, seed: int, rows: Any = None) -> list[tuple[Any, Any]]:
    """Return the row numbers to train on and those to test on, for each of k folds.

    Every row is in the test part of one fold. Folds have the same share of each class, up to one sample.

    Raises
    ------
    InputError
        When k is not between 2 and the number of rows.
    """
    order = _by_class(samples, task, seed, rows)
    if not 2 <= k <= len(order):
        raise InputError(f"folds must be from 2 to the number of samples, {len(order)}; given {k}")
    fold = np.arange(len(order)) % k
    return [(order[fold != i], order[fold == i]) for i in range(k)]


def _by_class(samples: Samples, task: str, seed: int, rows: Any) -> Any:
    """Return the row numbers in random order, for classes one class after the other."""
    classes = samples.classes[1] if task == "classification" else None
    return by_class(np.arange(len(samples.X)) if rows is None else rows, seed, classes)
