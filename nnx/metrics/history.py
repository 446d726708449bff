"""The history of a fit: the numbers of each epoch, as lists and as JSON."""

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from nnx.display import html


class History(dict[str, list[Any]]):
    """A dict of lists with one number an epoch: "loss", and with validation "validation_loss" and its scores.

    A notebook shows it as curves, of members the medians.

    Attributes
    ----------
    kept : int or None
        The epoch, from 1, whose parameters the trainer has restored, as `nnx.EarlyStopping` does.
    """

    kept: int | None = None

    def _repr_html_(self) -> str:
        return html.history(medians(self) if is_of_members(self) else self)


def columns(records: list[dict[str, float]], kept: int | None = None) -> History:
    """Return records, one an epoch, as one list a name: NaN for an epoch without this number.

    Examples
    --------
    >>> columns([{"loss": 2.0}, {"loss": 1.0, "validation_loss": 1.5}])
    {'loss': [2.0, 1.0], 'validation_loss': [nan, 1.5]}
    """
    names = dict.fromkeys(name for record in records for name in record)
    history = History((name, [record.get(name, math.nan) for record in records]) for name in names)
    history.kept = kept
    return history


def columns_of_members(records: Sequence[list[dict[str, float]]]) -> History:
    """Return the records of K members as one list a name, of lists of K numbers: NaN behind a member's end.

    Examples
    --------
    >>> columns_of_members([[{"loss": 2.0}, {"loss": 1.0}], [{"loss": 3.0}]])
    {'loss': [[2.0, 3.0], [1.0, nan]]}
    """
    each = [columns(own) for own in records]
    names, epochs = dict.fromkeys(name for own in each for name in own), max(map(len, records), default=0)
    return History(
        (
            name,
            [
                [own[name][i] if i < len(own.get(name, ())) else math.nan for own in each]
                for i in range(epochs)
            ],
        )
        for name in names
    )


def is_of_members(history: Mapping[str, Any]) -> bool:
    """Whether a history is that of members: each entry is a list of their numbers."""
    loss = history.get("loss")
    return isinstance(loss, list) and bool(loss) and isinstance(loss[0], list)


def medians(history: Mapping[str, Any]) -> History:
    """Return the history of members as one of their medians. A member that has ended counts with its last epoch.

    Examples
    --------
    >>> medians({"loss": [[2.0, 3.0, 9.0], [1.0, math.nan, 8.0]]})
    {'loss': [3.0, 3.0]}
    """
    found, losses = History(), history.get("loss", ())
    epochs_of = [sum(not math.isnan(x) for x in member) for member in zip(*losses, strict=True)]
    for name, epochs in history.items():
        if all(isinstance(x, int | float) for x in epochs[0]):
            found[name] = [
                middle([epochs[min(i, n - 1)][k] for k, n in enumerate(epochs_of)])
                for i in range(len(epochs))
            ]
    return found


def middle(values: Sequence[float]) -> float:
    """Return the median of the finite numbers; of all, which is none, where none of them is.

    Examples
    --------
    >>> middle([3.0, math.nan, 1.0, 2.0]), middle([math.inf, math.inf])
    (2.0, inf)
    """
    return float(median([x for x in values if math.isfinite(x)] or values))


def times(value: Any, unit: float) -> Any:
    """Return a number, an array, or the numbers in lists, of epochs and of members, times a unit.

    Examples
    --------
    >>> times([[1.0, 2.0], [3.0, 4.0]], 10)
    [[10.0, 20.0], [30.0, 40.0]]
    """
    return [times(one, unit) for one in value] if isinstance(value, list) else value * unit


def without_nan(x: Any) -> Any:
    """Return records as JSON values: None for NaN and infinities (a metric without a meaning), lists for arrays.

    Examples
    --------
    >>> without_nan({"roc_auc": float("nan"), "loss": 0.5})
    {'roc_auc': None, 'loss': 0.5}
    """
    if isinstance(x, dict):
        return {name: without_nan(value) for name, value in x.items()}
    if hasattr(x, "tolist"):
        x = x.tolist()
    if isinstance(x, list):
        return [without_nan(value) for value in x]
    return None if isinstance(x, float) and not math.isfinite(x) else x


def with_nan(x: Any) -> Any:
    """Return records with NaN for None: the inverse of `without_nan`, but for infinities and arrays.

    Examples
    --------
    >>> with_nan([{"roc_auc": None, "loss": 0.5}])
    [{'roc_auc': nan, 'loss': 0.5}]
    """
    if isinstance(x, dict):
        return {name: with_nan(value) for name, value in x.items()}
    if isinstance(x, list):
        return [with_nan(value) for value in x]
    return math.nan if x is None else x
