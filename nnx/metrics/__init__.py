"""The metrics, each by its name."""

from collections.abc import Callable

from nnx.array.namespace import Array
from nnx.errors import InputError, shown
from nnx.metrics.measure import METRICS, Metric
from nnx.metrics.of_classes import (
    F1,
    Accuracy,
    ConfusionMatrix,
    LogLoss,
    Precision,
    Recall,
    RocAuc,
    TopK,
    decide,
)
from nnx.metrics.of_function import OfFunction
from nnx.metrics.of_numbers import R2, MeanAbsoluteError, MeanSquaredError, RootMeanSquaredError
from nnx.model.outputs.base import Output
from nnx.support.spec import find, split

__all__ = ["METRICS", "Metric", "check", "decide", "metric", "score_name"]

METRICS.update(
    {
        made.kind: made
        for made in (
            Accuracy,
            TopK,
            Precision,
            Recall,
            F1,
            RocAuc,
            LogLoss,
            ConfusionMatrix,
            R2,
            MeanAbsoluteError,
            MeanSquaredError,
            RootMeanSquaredError,
        )
    }
)


def metric(spec: str | Metric | Callable[..., float]) -> Metric:
    """Return the metric of this name; a metric is returned as it is.

    Parameters
    ----------
    spec : str, Metric or function
        A name, with or without the metric's parameter: "accuracy", "top_k(3)", "f1(micro)", "f1(none)".
        Or a function of the targets and the predictions of all samples, see `OfFunction`.

    Raises
    ------
    InputError
        For an unknown name (with the nearest known ones), an impossible parameter, an object that is no metric, or a
        metric of your own whose name has another meaning in a history.

    Examples
    --------
    >>> metric("top_k(3)")
    TopK(k=3)
    """
    if callable(spec) and not isinstance(spec, type | Metric):
        spec = OfFunction(spec)
    if isinstance(spec, Metric) and not isinstance(spec, type):
        _check_name(spec)
        return spec
    if isinstance(spec, str):
        found: Metric = find("metric", spec, METRICS)
        return found
    raise InputError(
        "a metric must be a name, such as 'accuracy', a function of the targets and the predictions, or an object with "
        f"name, partial and result: {shown(spec)}"
    )


def _check_name(given: Metric) -> None:
    """Raise an InputError if a user's metric has the name of another number of a history."""
    name = given.name
    if not isinstance(name, str) or not name:
        raise InputError(f"the name of a metric must be a text; that of {given!r} is {name!r}")
    kind = name.partition("(")[0]
    if name == "loss" or name.startswith("validation_"):
        raise InputError(
            f"a metric cannot be called {name!r}: a history has 'loss', 'validation_loss' and 'validation_' before the "
            "name of each metric; give it another name"
        )
    if kind in METRICS and type(given) is not METRICS[kind]:
        raise InputError(
            f"{name!r} is a metric of nnx's own, with a unit and a best value of its own: write metrics=[{kind!r}], or "
            f"give {given!r} another name"
        )


def check(metric: Metric, output: Output, n: int, Y: Array) -> None:
    """Raise an InputError if the metric has no meaning for this output, n outputs and targets of Y's form.

    A metric of your own without a `check` has a meaning everywhere.
    """
    if hasattr(metric, "check"):
        metric.check(output, n, Y)


def score_name(output: Output) -> str:
    """Return the name of the first metric of an output: "accuracy" for classes, else "r2"."""
    return "accuracy" if output.classes else "r2"


def is_number(name: str) -> bool:
    """Return whether a metric is a single number, and not one a class or a matrix.

    Examples
    --------
    >>> is_number("f1(macro)"), is_number("f1(none)"), is_number("confusion_matrix")
    (True, False, False)
    """
    kind, parameter = split(name)
    return kind != "confusion_matrix" and parameter not in ("none", "average=none")
