"""What a fit tells while it runs, and of what it leaves: progress, history."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

NAMES = {"loss": "cost J", "r2": "R2", "roc_auc": "ROC AUC", "f1": "F1"}


def called(name: str) -> str:
    """Return what people call a number of the history.

    Examples
    --------
    >>> called("loss"), called("f1(none)"), called("validation_mean_absolute_error")
    ('cost J', 'F1(none)', 'held-out mean absolute error')
    """
    kind, bracket, rest = name.removeprefix("validation_").partition("(")
    said = NAMES.get(kind, kind.replace("_", " ")) + bracket + rest
    return f"held-out {said}" if name.startswith("validation_") else said


class History(dict[str, list[float]]):
    """One number an epoch under each name: "loss", and with validation "validation_loss" and its scores.

    A dict, which a notebook shows as curves.

    Attributes
    ----------
    kept : int or None
        The epoch, from 1, whose parameters the trainer took back, as `nnx.EarlyStopping` does.
    """

    kept: int | None = None

    def _repr_html_(self) -> str:
        from nnx.display import html

        return html.history(self)


@dataclass(frozen=True)
class Progress:
    """Where a fit stands: after every step, and after every epoch with what was measured.

    Attributes
    ----------
    epoch, epochs : int
        The epoch, from 1, and how many this fit has.
    step : int
        The step in the epoch, from 1.
    steps : int or None
        How many steps an epoch has; None where an iterable of batches has not told yet.
    samples : int
        The samples trained on in this epoch so far.
    seconds : float
        Wall time since the epoch began, validation not counted.
    measured : dict or None
        The epoch's numbers as in the history, once it is over; None before. Steps may still be queued on a
        GPU while it is None.
    done : int
        The steps that the trainer has done in all, over all fits; `trainer.steps` would wait for a GPU to say it.
    """

    epoch: int
    epochs: int
    step: int
    steps: int | None
    samples: int
    seconds: float
    measured: Mapping[str, float] | None
    done: int = 0
    read_cost: Callable[[], float] = field(repr=False, default=lambda: float("nan"))

    @property
    def cost(self) -> float:
        """J of the last step, before its update. Reading it waits for the step on a GPU."""
        return self.read_cost()


def columns(records: list[dict[str, float]], kept: int | None = None) -> History:
    """Return records, one an epoch, as one list a name: NaN where an epoch did not measure it.

    Examples
    --------
    >>> columns([{"loss": 2.0}, {"loss": 1.0, "validation_loss": 1.5}])
    {'loss': [2.0, 1.0], 'validation_loss': [nan, 1.5]}
    """
    names = dict.fromkeys(name for record in records for name in record)
    history = History((name, [record.get(name, math.nan) for record in records]) for name in names)
    history.kept = kept
    return history


def without_nan(x: Any) -> Any:
    """Return records as JSON has them: None for what is not finite (a metric without a meaning), lists for arrays.

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
    """Return records with NaN for None: what `without_nan` was given, as far as it can be told.

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
