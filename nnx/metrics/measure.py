"""The interface of a metric, and the base class of nnx's own.

A metric has two parts. `partial` runs on the device for each batch, and returns small arrays that add up. (The area
under the ROC curve is no sum: its part is the batch itself.) `result` puts the parts together on the host, in float64.
So the value is that of all samples at once, whatever the sizes of the batches.

nnx's own metrics compute the parts of a stack of networks at once: A (K, n[L], m), with Y (1, n[L], m) and w (1, m) of
all members. Each array of the parts then has the members as its first axis, or 1 where it is that of all.

There are four tasks, by the output and the form of the targets: "numbers"; "two classes" (one output); "one
class of several" (class indices, or a softmax); "several labels at once" (several outputs, each yes or no).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol, TypeAlias, runtime_checkable

from nnx.array.namespace import Array, array_namespace, device
from nnx.errors import InputError
from nnx.model.outputs.base import Output
from nnx.model.outputs.targets import are_indices

Partial: TypeAlias = tuple[Array, ...]
ToNumpy: TypeAlias = Callable[[Array], Any]

NUMBERS, TWO, ONE_OF, LABELS = "numbers", "two classes", "one class of several", "several labels at once"


@runtime_checkable
class Metric(Protocol):
    """The interface of a metric; one of your own needs no more."""

    @property
    def name(self) -> str:
        """The name in the history; `nnx.metrics.metric` finds nnx's own by it."""

    def partial(self, output: Output, A: Array, Y: Array, w: Array | None) -> Partial:
        """Return a batch's part, arrays on the device: a pure function that reads nothing on the host.

        Parameters
        ----------
        output : Output
        A : array (n[L], m)
            The predictions.
        Y : array (n[L], m), or class indices (m,)
        w : array (m,) or None
            The weights of the samples; None: 1 each.
        """

    def result(self, partials: Sequence[Partial], to_numpy: ToNumpy) -> Any:
        """Return the metric over all batches: a float, or a NumPy array.

        Parameters
        ----------
        partials : sequence
            The results of `partial`, one a batch.
        to_numpy : callable
            Brings an array to the host: `nnx.Backend.to_numpy`.
        """


def task(output: Output, n: int, Y: Array) -> str:
    """Return the task of n outputs and targets of Y's shape, one of four."""
    if not output.classes:
        return NUMBERS
    if n == 1:
        return TWO
    return ONE_OF if output.exclusive or are_indices(output, n, Y) else LABELS


def wide(x: Array) -> Array:
    """Return x in float64, or in float32 if the library or device has no float64 (JAX by default)."""
    xp = array_namespace(x)
    known = xp.__array_namespace_info__().dtypes(device=device(x), kind="real floating")
    return xp.astype(x, known.get("float64", xp.float32))


def weights_of(A: Array, w: Array | None) -> Array:
    """Return the weights of the samples (..., m); 1 each if w is None."""
    return wide(array_namespace(A).ones_like(A[..., 0, :]) if w is None else w)


def row(x: Array) -> Array:
    """Return numbers of samples (..., m) as one row of a matrix (..., 1, m)."""
    return array_namespace(x).expand_dims(x, axis=-2)


def of_samples(Y: Array) -> Array:
    """Return targets (m,) or (..., 1, m) with one number a sample, (..., m)."""
    return Y if Y.ndim == 1 else Y[..., 0, :]


def totals(partials: Sequence[Partial], to_numpy: ToNumpy) -> list[Any]:
    """Return the sums over the batches, in float64 on the host."""
    return [sum(wide(to_numpy(part)) for part in parts) for parts in zip(*partials, strict=True)]


def ratio(above: Any, below: Any) -> Any:
    """Return above / below, 0 where below is 0."""
    xp = array_namespace(below)
    return xp.where(below > 0, above / xp.where(below > 0, below, 1.0), 0.0)


def as_number(x: Any) -> Any:
    """Return a NumPy array of no axes as a float; that of a stack, (K,), as it is."""
    return float(x) if x.ndim == 0 else x


METRICS: dict[str, "type[Measure]"] = {}
"""Every metric of nnx's by its name; `nnx.metrics` fills it."""


class Measure(ABC):
    """The base class of nnx's own metrics: the tasks in which they have a meaning."""

    kind: ClassVar[str]
    """The name, without a parameter."""
    tasks: ClassVar[tuple[str, ...]] = (TWO, ONE_OF, LABELS)
    needs_probabilities: ClassVar[bool] = False
    sums: ClassVar[bool] = False
    """Whether the result has sums of the weights, and is no mean."""

    stacks: ClassVar[bool] = False
    """Whether `result` takes the parts of a stack, too, and returns (K,)."""

    @property
    def name(self) -> str:
        """The name in the history."""
        return self.kind

    def check(self, output: Output, n: int, Y: Array) -> None:
        """Raise an InputError unless the metric has a meaning for this output and targets of Y's form."""
        if not self._suits(output, what := task(output, n, Y)):
            known = [name for name, made in METRICS.items() if made._suits(output, what)]
            why = what if what not in self.tasks else f"{what}, without probabilities"
            raise InputError(
                f"the metric {self.name!r} has no meaning for the output {output} ({why}); those that have: "
                f"{', '.join(known)}"
            )

    @classmethod
    def _suits(cls, output: Output, what: str) -> bool:
        return what in cls.tasks and (output.probabilities or not cls.needs_probabilities)

    def partial(self, output: Output, A: Array, Y: Array, w: Array | None) -> Partial:
        """Return a batch's part: see `Metric`."""
        self.check(output, A.shape[-2], Y)
        return self._partial(output, output.predicted(A), Y, w)

    @abstractmethod
    def _partial(self, output: Output, A: Array, Y: Array, w: Array | None) -> Partial: ...

    @abstractmethod
    def result(self, partials: Sequence[Partial], to_numpy: ToNumpy) -> Any:
        """Return the metric over all batches: see `Metric`."""


class Mean(Measure):
    """A mean over the samples."""

    stacks: ClassVar[bool] = True

    @abstractmethod
    def each(self, output: Output, A: Array, Y: Array) -> Array:
        """Return the value of each sample (..., m)."""

    def _partial(self, output: Output, A: Array, Y: Array, w: Array | None) -> Partial:
        xp, w = array_namespace(A, Y), weights_of(A, w)
        return xp.sum(w * wide(self.each(output, A, Y)), axis=-1), xp.sum(w, axis=-1)

    def result(self, partials: Sequence[Partial], to_numpy: ToNumpy) -> Any:
        """Return the mean."""
        total, weight = totals(partials, to_numpy)
        return as_number(total / weight)
