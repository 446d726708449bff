"""Metrics of a stack of networks, of all members at once."""

from collections.abc import Sequence
from typing import Any

from nnx.array import host
from nnx.array.namespace import Array, array_namespace
from nnx.metrics.measure import METRICS, Metric, Partial, ToNumpy, of_samples
from nnx.metrics.of_function import OfFunction
from nnx.model.outputs.base import Output
from nnx.model.outputs.targets import are_indices


def beside_members(Y: Array, w: Array | None) -> tuple[Array, Array | None]:
    """Return targets and weights with the members as their first axis: 1 where they are those of all.

    Targets are (1, n[L], m) or (1, 1, m), weights (1, m).
    """
    xp = array_namespace(Y)
    while Y.ndim < 3:
        Y = xp.expand_dims(Y, axis=0)
    return Y, xp.expand_dims(w, axis=0) if w is not None and w.ndim == 1 else w


def partial_of_stack(metric: Metric, output: Output, A: Array, Y: Array, w: Array | None) -> Partial:
    """Return a metric's part of a batch for all members: arrays with K, or 1, as their first axis.

    A metric of your own has no such axis: it is asked for each member.

    Parameters
    ----------
    metric : Metric
    output : Output
    A : array (K, n[L], m)
    Y, w : array
        As `beside_members` returns them.
    """
    if type(metric) in (OfFunction, *METRICS.values()):
        return metric.partial(output, A, Y, w)
    each = []
    for k in range(A.shape[0]):
        own = _of_member(Y, k)
        own = of_samples(own) if are_indices(output, A.shape[-2], own) else own
        each.append(metric.partial(output, A[k, ...], own, None if w is None else _of_member(w, k)))
    return tuple(array_namespace(A).stack(parts, axis=0) for parts in zip(*each, strict=True))


def result_of_stack(metric: Metric, partials: Sequence[Partial], K: int, to_numpy: ToNumpy) -> Any:
    """Return a metric of each member over all batches, a NumPy array (K, ...)."""
    if getattr(metric, "stacks", False):
        return metric.result(partials, to_numpy)
    parts = [tuple(map(to_numpy, part)) for part in partials]
    each = [[tuple(_of_member(x, k) for x in part) for part in parts] for k in range(K)]
    return host.stacked([metric.result(own, host.as_host) for own in each])


def _of_member(x: Array, k: int) -> Array:
    return x[k if x.shape[0] > 1 else 0, ...]
