"""A metric of your own: one function of the targets and the predictions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from inspect import signature

from nnx.array import host
from nnx.array.namespace import Array
from nnx.errors import InputError, first_line, number, shown
from nnx.errors.texts import synonym
from nnx.metrics.measure import METRICS, Partial, ToNumpy, of_samples
from nnx.model.custom import name_of
from nnx.model.outputs.base import Output
from nnx.model.outputs.targets import are_indices


@dataclass(frozen=True)
class OfFunction:
    """A function of all targets and predictions, called once after the last batch.

    Parameters
    ----------
    function : callable
        Y, A -> a number. Both are NumPy arrays: A as `Trainer.predict` returns it, (n[L], m), Y likewise or class
        indices (m,); with a single output both are (m,). If samples have weights, it is called with ``sample_weight=``
        (m,).
    """

    function: Callable[..., float]

    def __repr__(self) -> str:
        return shown(self.function)

    @property
    def name(self) -> str:
        """The function's name; of a `functools.partial` that of its function."""
        function = self.function
        return name_of("metric", function.func if isinstance(function, partial) else function)

    def partial(self, output: Output, A: Array, Y: Array, w: Array | None) -> Partial:
        """Return a batch's predictions, targets and weights, which stay on the device until the last batch."""
        n = A.shape[-2]
        if n == output.per_target or are_indices(output, n, Y):
            A, Y = A if n > 1 else of_samples(A), of_samples(Y)
        return (A, Y) if w is None else (A, Y, w)

    def result(self, partials: Sequence[Partial], to_numpy: ToNumpy) -> float:
        """Return the function's result."""
        A, Y, *w = (host.concat([to_numpy(part) for part in parts]) for parts in zip(*partials, strict=True))
        if w and "sample_weight" not in signature(self.function).parameters:
            raise InputError(
                f"the samples have weights, and the metric {self.name!r} does not take them; give the function a "
                "parameter sample_weight"
            )
        try:
            found = self.function(Y, A, **({"sample_weight": w[0]} if w else {}))
        except (TypeError, ValueError) as error:
            raise InputError(
                f"the metric {self.name!r} raised {type(error).__name__}: {first_line(error)}. It was called with "
                f"y_true, {shown(Y)}, and y_pred, {shown(A)}: the numbers that predict returns"
                f"{_needs(Y, A)}{_ours(self.name)}"
            ) from error
        return number(f"what the metric {self.name!r} returns", found, "a number", lambda x: True)


def _needs(Y: Array, A: Array) -> str:
    """Return what a function of such targets and predictions, NumPy arrays, may need in place of the latter."""
    if A.ndim > 1:
        indices = Y.dtype.kind in "iu"
        rows = "samples as rows, y_pred.T" if Y.ndim == 1 else "samples as rows, y_true.T and y_pred.T"
        return f". It may need {'classes, y_pred.argmax(axis=0), or ' if indices else ''}{rows}"
    two = ((Y == 0) | (Y == 1)).all() and ((A >= 0) & (A <= 1)).all()
    return ". It may need classes, y_pred > 0.5" if two else ""


def _ours(name: str) -> str:
    """Return where nnx has a metric of such a name itself, for the end of a message."""
    same = synonym(name.removesuffix("_score"), METRICS)
    return f". nnx has this metric itself: metrics={[same]!r}" if same else ""
