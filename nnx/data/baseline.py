"""The baseline that a model must beat: a constant answer, the most frequent class or the mean of the training part."""

import math
from collections.abc import Sequence
from typing import Any

from nnx.array import host
from nnx.array.namespace import array_namespace
from nnx.callbacks.monitor import best_is
from nnx.data.prepare import Preparation
from nnx.display.rounding import significant
from nnx.metrics import is_number, metric
from nnx.metrics.history import without_nan
from nnx.model.outputs.base import Output
from nnx.model.outputs.host_targets import checked_targets


class Baseline:
    """Scores a constant prediction on samples whose targets come in batches.

    The constant is the shares of the classes, of which the most frequent one is decided for, or the mean.

    Parameters
    ----------
    preparation : Preparation
        Of the training part; without `class_counts`, as earlier versions wrote it, there is no baseline of classes.
    output : Output
    metrics : sequence of str
        What the model is measured by: the first that is a single number is scored, and for numbers the error.

    Attributes
    ----------
    prediction : label, float or None
        What is predicted always; None: not known.
    """

    def __init__(self, preparation: Preparation, output: Output, metrics: Sequence[str]) -> None:
        self._preparation, self._output = preparation, output
        self._A, self.prediction = _constant(preparation, output)
        names = [name for name in metrics if is_number(name)][:1]
        if preparation.labels is None:
            names = [*dict.fromkeys([*names, "root_mean_squared_error"])]
        known = names if self._A else []
        self._parts: list[tuple[Any, list[Any]]] = [(metric(name), []) for name in known]

    def add(self, Y: Any) -> None:
        """Take more targets, as they are trained on: (m,) or (1, m)."""
        n, m = self._preparation.n_outputs, Y.shape[-1]
        for one, partials in self._parts:
            true = checked_targets("Y", Y, self._output, n, m, "float64")
            xp = array_namespace(true)
            A = xp.broadcast_to(xp.asarray(self._A, dtype=xp.float64)[:, None], (n, m))
            partials.append(one.partial(self._output, A, true, None))

    def scores(self) -> dict[str, float]:
        """Return the score under each metric's name, errors in the target's unit; nothing where none is known."""
        found = {one.name: one.result(partials, host.as_host) for one, partials in self._parts if partials}
        return self._preparation.in_units(found)

    def described(self) -> dict[str, Any] | None:
        """Return the prediction and its scores, of types that JSON has; None where it is not known."""
        scores = self.scores()
        return {"prediction": self.prediction, **without_nan(scores)} if scores else None

    @property
    def text(self) -> str:
        """The constant answer, in words."""
        if self._preparation.labels is None:
            return f"always the mean, {significant(self.prediction, 4)}"
        return f"always {self.prediction!r}"


def no_better(name: str, value: float, base: float) -> bool:
    """Whether a model's score is no better than the baseline's; NaN is not.

    Examples
    --------
    >>> no_better("accuracy", 0.9, 0.9), no_better("root_mean_squared_error", 2.0, 3.0)
    (True, False)
    """
    if not math.isfinite(base):
        return False
    return not (value > base if best_is(name) == "max" else value < base)


def _constant(preparation: Preparation, output: Output) -> tuple[list[float], Any]:
    """Return the constant outputs (n[L]) and their prediction; none, and None, if it is not known."""
    if preparation.labels is None:
        A = 1.0 if preparation.counts else 0.0
        return [A], preparation.y([[A]])[0]
    counts = preparation.class_counts or []
    if not sum(counts):
        return [], None
    shares = [count / sum(counts) for count in counts]
    if preparation.n_outputs == 1:
        return [shares[1] - 0.5 + output.threshold], preparation.labels[int(shares[1] > 0.5)]
    return shares, preparation.labels[shares.index(max(shares))]
