"""Predictions and metrics of a session, as it is."""

from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from typing import Any, Protocol

from nnx.array import host
from nnx.array.namespace import Array, array_namespace
from nnx.batches import Provider
from nnx.batches.iterated import Iterated
from nnx.batches.rows import as_rows, one_row, one_sample, pair_as_rows
from nnx.batches.stream import Stream
from nnx.errors import InputError, flag, items, positive_int
from nnx.metrics import check, decide, score_name
from nnx.metrics import metric as find_metric
from nnx.metrics.of_stack import beside_members, partial_of_stack, result_of_stack
from nnx.model.network import Network
from nnx.port.base import Backend
from nnx.port.communicator import Alone, Communicator
from nnx.support.members import for_each_member
from nnx.train.rank_parts import gathered
from nnx.train.samples import checks, make_batches
from nnx.train.session import Session
from nnx.train.step import Batch

MAX_METRIC_SETS = 8
"""Sets of metrics whose programs are kept; one more replaces the oldest."""

MAX_NUMBERS = 2**24
"""Numbers of the widest layer that are computed at once, unless a batch size says otherwise."""


class Evaluated(Protocol):
    """A network, or a stack of it, as it is evaluated: a `Session`, a `StackSession` or, in a fit, a `Stack`."""

    network: Network
    backend: Backend

    @property
    def compiled_metrics(self) -> dict[Any, Any]:
        """The programs of sets of metrics, by the metrics' names."""

    @property
    def device_theta(self) -> Array:
        """Parameters (P,) on the device; (K, P) of a stack."""


class Evaluator:
    """The part of a trainer that computes without learning."""

    session: Any

    def predict(self, X: Any, batch_size: int | None = None, *, rows: bool = False) -> Any:
        """Return A[L] as a NumPy array (n[L], m), with `rows` (m, n[L]); of one sample (n[0],) it is (n[L],).

        Of K members it has K as its first axis.

        Parameters
        ----------
        X : array-like (n[0], m)
            Whatever `fit` takes, but batches; or one sample (n[0],). Where n[0] is 1, an array (m,) is refused.
        batch_size : int or None
            Samples computed at once; None: as many as keep the widest layer within 2^24 numbers.
        rows : bool
            Whether samples are rows, X (m, n[0]), as in `fit`.

        Examples
        --------
        >>> import nnx
        >>> trainer = nnx.Trainer(nnx.mlp([3, 1], output="identity"), backend="numpy")
        >>> trainer.parameters = {"W1": [[1, 2, 3]], "b1": [[0.5]]}
        >>> trainer.predict([1, 0, 1])
        array([4.5], dtype=float32)
        >>> trainer.predict([[1, 0, 1], [0, 1, 0]], rows=True)
        array([[4.5],
               [2.5]], dtype=float32)
        """
        A, alone = outputs(self.session, X, batch_size, rows)
        return A[..., 0] if alone else host.transposed(A) if rows else A

    def classify(self, X: Any, batch_size: int | None = None, *, rows: bool = False) -> Any:
        """Return the class of each sample, (m,), int; of several labels at once (sigmoid) 0 or 1 for each, (n[L], m).

        Of one sample (n[0],) it is an int, or (n[L],); with `rows` the labels are (m, n[L]). The arguments are those
        of `predict`.

        Raises
        ------
        InputError
            When the output is of numbers, not of classes.

        Examples
        --------
        >>> import nnx
        >>> trainer = nnx.Trainer(nnx.mlp([2, 3], output="softmax"), backend="numpy")
        >>> trainer.parameters = {"W1": [[1, 0], [0, 1], [-1, -1]], "b1": [[0], [0], [0]]}
        >>> trainer.classify([[5, 0, -2], [0, 4, -2]])
        array([0, 1, 2], dtype=int32)
        >>> trainer.classify([0, 4])
        1
        """
        return classes_of(self.session, lambda A: A, X, batch_size, rows)

    def evaluate(
        self,
        X: Any,
        Y: Any = None,
        batch_size: int | None = None,
        *,
        sample_weight: Any = None,
        metrics: Sequence[Any] | None = None,
        rows: bool = False,
    ) -> dict[str, Any]:
        """Return {"loss": ..., "accuracy": ...}, {"loss": ..., "r2": ...} without classes, or the `metrics`.

        Of K members each is an array with K as its first axis.

        Parameters
        ----------
        X, Y : array-like
            As in `fit`.
        batch_size : int or None
            Samples computed at once, as in `predict`; the result does not depend on it.
        sample_weight : array-like (m,) or None
            The weights of the samples, in the loss and in all metrics.
        metrics : sequence of str, metric or function, or None
            See `nnx.METRICS`, or functions of targets and predictions; None: the accuracy of classes, else R2.
        rows : bool
            Whether samples are rows, as in `fit`.
        """
        if flag("rows", rows):
            X, Y = pair_as_rows("", X, Y, (self.session.network.n[0], self.session.network.n_targets))
        samples = held_out(self.session, "", X, Y, sample_weight, batch_size, resident=False)
        return measure(self.session, samples, find_metrics(self.session, metrics))

    def scorer(self, X: Any, Y: Any, metrics: Sequence[Any] | None = None) -> Callable[[], dict[str, Any]]:
        """Return a function that evaluates the trainer, as it then is, on these samples, which stay on the device.

        Use it to evaluate often, such as after every epoch. The arguments are those of `evaluate`.

        Examples
        --------
        >>> import nnx
        >>> trainer = nnx.Trainer(nnx.mlp([1, 1]), backend="numpy")
        >>> score = trainer.scorer([[-1.0, 1.0]], [0, 1])
        >>> sorted(score())
        ['accuracy', 'loss']
        """
        session = self.session
        return partial(measure, session, held_out(session, "", X, Y), find_metrics(session, metrics))


def outputs(session: Session, X: Any, batch_size: int | None, rows: bool) -> tuple[Any, bool]:
    """Return A[L] (n[L], m), of members (K, n[L], m), and whether X was one sample (n[0],)."""
    stream, alone = stream_of(session, X, batch_size, rows)
    theta, to_numpy = session.device_theta, session.backend.to_numpy
    with closing(stream.epoch()) as batches:
        A = host.concat([host.copy(to_numpy(session.forward(theta, X))) for (X, *_), _, _ in batches])
    return A, alone


def stream_of(session: Session, X: Any, batch_size: int | None, rows: bool) -> tuple[Stream, bool]:
    """Return X as batches in its order, and whether it was one sample (n[0],)."""
    size, n = evaluation_size(session, batch_size), session.network.n_features
    row = one_row(X, session.features)
    looks = checks(session)
    samples, alone = one_sample(
        looks.recognise("X", "X", as_rows("X", row, n) if flag("rows", rows) else row), n
    )
    stream = Stream(session.backend, samples, None, None, size, checks=looks, dtype=session.dtype)
    return stream, alone or row is not X


def classes_of(
    session: Session, combined: Callable[[Array], Array], X: Any, batch_size: int | None, rows: bool
) -> Any:
    """Return the classes, as `Evaluator.classify` does, of combined(A), which may be the mean of members' A[L]."""
    output = session.network.output
    if not output.classes:
        raise InputError(f"the output {output} is of numbers, which predict gives; there are no classes")
    A, alone = outputs(session, X, batch_size, rows)
    A = combined(A)
    if A.shape[-2] > 1 and output.name == "sigmoid":
        labels = host.integers(A > output.threshold)
        return labels[..., 0] if alone else host.transposed(labels) if rows else labels
    classes = host.integers(decide(A, output.threshold))
    if not alone:
        return classes
    return int(classes[0]) if A.ndim == 2 else classes[:, 0]


def evaluation_size(session: Session, batch_size: int | None = None) -> int:
    """Return how many samples are computed at once, where nothing is learned."""
    if batch_size is None:
        return max(1, MAX_NUMBERS // (session.network.widest * session.K))
    return positive_int("batch_size", batch_size)


def held_out(
    session: Session,
    whose: str,
    X: Any,
    Y: Any,
    sample_weight: Any = None,
    batch_size: int | None = None,
    resident: bool = True,
) -> Provider:
    """Return the batches of samples that are not trained on: see `make_batches`."""
    size = evaluation_size(session, batch_size)
    return make_batches(session, whose, X, Y, sample_weight, None, size, resident=resident)


def find_metrics(session: Session, metrics: Sequence[Any] | None) -> tuple[Any, ...]:
    """Return the metrics by their names; for None the one that suits the output."""
    if metrics is None:
        metrics = (score_name(session.network.output),)
    names = items("metrics", metrics, "a list, such as ['accuracy', 'f1']")
    found = tuple(find_metric(one) for one in names)
    if len({one.name for one in found}) < len(found):
        raise InputError(
            f"metrics must have names of their own; given {', '.join(one.name for one in found)}"
        )
    return found


def check_metrics(session: Evaluated, metrics: Sequence[Any], batch: Batch) -> None:
    """Raise an InputError if a metric has no meaning for these targets."""
    for one in metrics:
        check(one, session.network.output, session.network.n[-1], batch[1])


def scores(
    session: Evaluated, validation: Provider | None, training: Provider | None, wanted: Sequence[Any]
) -> dict[str, Any]:
    """Return the measured numbers of an epoch, as numbers and lists: a metric may be an array.

    Of several ranks each measures some of the batches.
    """
    found: dict[str, Any] = {}
    ranks = getattr(session, "communicator", None)
    if training is not None:  # the loss is that of the steps
        found |= measure(session, training, wanted, ranks)
        del found["loss"]
    if validation is not None:
        found |= {f"validation_{name}": x for name, x in measure(session, validation, wanted, ranks).items()}
    return {name: x.tolist() if hasattr(x, "tolist") else x for name, x in found.items()}


def measure(
    session: Evaluated, samples: Provider, wanted: Sequence[Any], ranks: Communicator | None = None
) -> dict[str, Any]:
    """Return the loss and the metrics over these samples; of a stack each is an array, K its first axis."""
    theta, to_numpy = session.device_theta, session.backend.to_numpy
    K = theta.shape[0] if theta.ndim > 1 else 0
    parts = _measured_parts(session, theta, samples, wanted, ranks or Alone())
    costs = [host.as_dtype(to_numpy(J), "float64") for J, _, _ in parts]
    weights = [host.as_dtype(w if isinstance(w, int) else to_numpy(w), "float64") for _, w, _ in parts]
    if not parts or not (sum(weights) > 0).all():
        raise InputError(
            "the weights of all samples are 0: there is no mean of their losses; leave out the weights"
        )
    loss = sum(J * w for J, w in zip(costs, weights, strict=True)) / sum(weights)
    measured: dict[str, Any] = {"loss": loss if K else float(loss)}
    with host.quiet():  # of predictions far out of range
        for i, one in enumerate(wanted):
            its = [partials[i] for _, _, partials in parts]
            found = result_of_stack(one, its, K, to_numpy) if K else one.result(its, to_numpy)
            sums = samples.exponent and getattr(one, "sums", False)
            measured[one.name] = host.times_power_of_two(found, -samples.exponent) if sums else found
    return measured


def _measured_parts(
    session: Evaluated, theta: Array, samples: Provider, wanted: Sequence[Any], ranks: Communicator
) -> list[Any]:
    """Return (J, weight, [a partial result of each metric]) of each batch, on the device.

    Of several ranks each measures the batches of an iterable of its own, and some of the batches that all have.
    """
    program, parts, count = _compiled(session, wanted), list[Any](), 0
    every, first = (1, 0) if isinstance(samples, Iterated) else (ranks.size, ranks.rank)
    with closing(samples.epoch()) as batches:
        for batch, _, _ in batches:
            if not batch[0].shape[-1]:
                continue  # its weights are all 0
            if not count:
                check_metrics(session, wanted, batch)
            if count % every == first:
                parts.append(program(theta, batch))
            count += 1
    return gathered(ranks, session.backend, parts)


def _compiled(session: Evaluated, wanted: Sequence[Any]) -> Any:
    """Return the program of these metrics."""
    names, known = tuple(one.name for one in wanted), session.compiled_metrics
    if names not in known or known[names][0] != tuple(wanted):
        network, output = session.network, session.network.output

        @for_each_member
        def function(theta: Array, batch: tuple[Array, Array, Array | None]) -> Any:
            X, Y, w = batch
            if theta.ndim > 1:
                Y, w = beside_members(Y, w)
            A, J = network.forward_and_loss(theta, X, Y, w)
            weight = X.shape[-1] if w is None else array_namespace(w).sum(w, axis=-1)
            partial = partial_of_stack if theta.ndim > 1 else _partial
            return J, weight, [partial(one, output, A, Y, w) for one in wanted]

        known[names] = tuple(wanted), session.backend.compile(function)
        if len(known) > MAX_METRIC_SETS:
            del known[next(iter(known))]
    return known[names][1]


def _partial(one: Any, *arguments: Any) -> Any:
    return one.partial(*arguments)
