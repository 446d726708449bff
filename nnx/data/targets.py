"""Targets as a network learns them: scaled numbers, or class indices."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from nnx.array.host import quiet
from nnx.data import labels as label
from nnx.errors import InputError, count, listed
from nnx.model.outputs import LOSSES, output

SEVERAL_OUTPUTS = ("gaussian",)
"""The losses that a table's model cannot have, with any parameter: they have several outputs for each target."""


def loss_names() -> list[str]:
    """Return the names of the losses that a table's model can have.

    Examples
    --------
    >>> "huber" in loss_names(), "gaussian" in loss_names()
    (True, False)
    """
    return [
        name
        for name in dict.fromkeys(name for link in LOSSES.values() for name in link)
        if name not in SEVERAL_OUTPUTS
    ]


def check_loss(link: str, loss: str | None) -> None:
    """Raise an InputError for a loss with several outputs for each target: the predictions of a table have one."""
    found = output(link, loss)
    if found.per_target > 1:
        raise InputError(
            f"the loss {found.spec!r} has {found.per_target} outputs for each target, and a table's model predicts one "
            "number. In Python nnx.sklearn.MLPRegressor and nnx.Trainer take it; for a table give a loss of one "
            "output, such as huber or quantile(0.9)"
        )


def scaled(y: Any, first: Any, dtype: str, target: str, unit: tuple[float, float], counts: bool) -> Any:
    """Return numbers y (m,) as Y (1, m) = (y - mean) / scale.

    Parameters
    ----------
    y : array (m,)
    first : int, array (m,) of int, or None
        See `nnx.data.Preparation.Y`.
    dtype : {"float64", "float32"}
        In which the network computes.
    target : str
        The target's name, for errors.
    unit : (float, float)
        Mean and scale.
    counts : bool
        Whether the numbers must be at least 0.

    Raises
    ------
    InputError
        For a number that is too large for the dtype, and for a negative count.
    """
    mean, scale = unit
    with quiet():
        Y = (y.astype(float)[None, :] - mean) / scale
    large = ~(np.abs(Y[0]) <= np.finfo(dtype).max)
    if large.any():
        at = int(large.argmax())
        raise InputError(
            f"the target {target!r} is {y[at]}{_in_row(first, at)}, which is not finite, or too large to be scaled in "
            f"{dtype}; correct it, or leave the row out"
        )
    if counts and (y < 0).any():
        at = int((y < 0).argmax())
        raise InputError(
            f"the target {target!r} is {y[at]}{_in_row(first, at)}; the model is of counts, which are >= 0"
        )
    return Y


def class_indices(y: Any, first: Any, target: str, labels: Sequence[Any], known: label.Known) -> Any:
    """Return the class index of each label of y (m,).

    Raises
    ------
    InputError
        For a label that the training did not have.
    """
    different, codes = np.unique(y, return_inverse=True)
    given = different.tolist()
    places = np.array(known.places(given))
    k = places[codes]
    wrong = k < 0
    if wrong.any():
        at = _row(first, int(wrong.argmax()))
        unseen = sorted(repr(label.text(given[one])) for one in np.flatnonzero(places < 0))
        raise InputError(
            f"the target {target!r} has labels that the model was not trained on: {listed(unseen, 6)}, in "
            f"{count(int(wrong.sum()), 'row')}, the first in row {at} (counted from 1); "
            f"it knows {listed(map(repr, labels), 6)}. Correct them, or leave these rows out"
        )
    return k


def _in_row(first: Any, at: int) -> str:
    """Return in which row a sample is, in words; nothing where the numbers do not name rows."""
    return "" if first is None else f" in row {_row(first, at)} (counted from 1)"


def _row(first: Any, at: int) -> int:
    """Return the row number of one of the samples; `first` is that of the first one, or those of all."""
    return int(first[at] if np.ndim(first) else (first or 1) + at)
