"""The chosen metrics, their units, and how they are shown."""

from collections.abc import Iterable, Mapping
from math import isfinite
from typing import Any

from rich.markup import escape
from rich.table import Table

from nnx.data import memory
from nnx.data.baseline import Baseline
from nnx.display.names import called
from nnx.display.rounding import decimals, percent, significant
from nnx.errors import InputError, count
from nnx.metrics import is_number, metric, score_name
from nnx.model.outputs.base import Output
from nnx.support import spec


def names(metrics: str | None) -> list[str] | None:
    """Return the names in a text: "accuracy, f1" -> ["accuracy", "f1"]; None: what suits the target.

    Raises
    ------
    InputError
        When there is nothing between two commas.
    """
    if metrics is None:
        return None
    found = [name.strip() for name in metrics.split(",")]
    if not all(found):
        raise InputError(f"metrics must be names such as accuracy,f1; given {metrics!r}")
    return found


def first_number(names: Iterable[str]) -> str | None:
    """Return the history's name of the first metric that is a single number."""
    return next((metric(name).name for name in names if is_number(name)), None)


MANY = 100
"""Classes up to which the area under the ROC curve is measured unasked: it keeps the outputs of all samples."""


def usual(output: Output, n: int) -> list[str]:
    """Return the metrics that suit an output of n numbers, the score first."""
    of_classes, of_numbers = (
        ["precision", "recall", "f1", "roc_auc"],
        ["mean_absolute_error", "root_mean_squared_error"],
    )
    found = [score_name(output), *(of_classes if output.classes else of_numbers)]
    return [name for name in found if n <= MANY or name != "roc_auc"]


def check_memory(metrics: Iterable[str], n: int, m: int, dtype: str) -> None:
    """Raise an InputError if the metrics would keep more of m samples, with n outputs each, than memory holds."""
    if any(spec.split(name)[0] == "roc_auc" for name in metrics):
        memory.check(
            2 * n * m * (4 if dtype == "float32" else 8),
            f"the area under the ROC curve of {count(m, 'sample')} and {count(n, 'output')}",
            "Leave roc_auc out of --metrics, or take fewer samples",
        )


def text(name: str, value: float, digits: int = 4) -> str:
    """Return a number as people read it.

    Examples
    --------
    >>> text("roc_auc", float("nan")), text("loss", float("inf")), text("f1", 0.123456, 2)
    ('none: a class does not occur', 'inf', '0.12')
    """
    if name.partition("(")[0] == "roc_auc" and not isfinite(value):
        return "none: a class does not occur"
    return significant(value, digits)


def figure(name: str, value: Any) -> str:
    """Return a number for the table."""
    if not isinstance(value, int | float):
        return ""
    return percent(value, 2) if name == "accuracy" else significant(value, 4)


def reported(name: str, value: float) -> str:
    """Return a score for the report: accuracy in percent, R2 with its decimals.

    Examples
    --------
    >>> reported("accuracy", 0.975), reported("r2", 0.5), reported("f1", 0.123456)
    ('97.50%', '0.500', '0.1235')
    """
    return (
        percent(value, 2) if name == "accuracy" else decimals(value, 3) if name == "r2" else text(name, value)
    )


def beside(baseline: Baseline) -> str:
    """Return the baseline's part of a report; nothing if it is not known."""
    figures = [(called(name), reported(name, value)) for name, value in baseline.scores().items()]
    each = [f"{name} {value}" if len(figures) > 1 else value for name, value in figures]
    return f"; baseline ({baseline.text}): {', '.join(each)}" if each else ""


def tables(measured: Mapping[str, Any], labels: list[Any] | None) -> list[Table]:
    """Return the metrics with a number for each class, and the confusion matrix, as a table each."""
    return [
        _by_class(name, value, labels or [])
        for name, value in measured.items()
        if not isinstance(value, float | int)
    ]


def _by_class(name: str, values: Any, labels: list[Any]) -> Table:
    named = [escape(str(label)) for label in labels]
    if values.ndim == 1:
        table = Table("class", name)
        for label, value in zip(named, values.tolist(), strict=True):
            table.add_row(label, text(name, value, 6))
        return table
    table = Table("true \\ predicted", *named, title=name, title_justify="left")
    for label, row in zip(named, values.tolist(), strict=True):
        table.add_row(label, *(f"{x:,}" for x in row))
    return table
