"""The samples of a stack's fit: one pool, of which each member may train on some and hold out others."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from nnx.array import host
from nnx.batches import Batches, Provider, chosen
from nnx.batches.members import MemberBatches
from nnx.batches.sample_weights import fitting, in_range
from nnx.batches.split import split_places, weights_of_members
from nnx.errors import InputError
from nnx.errors.texts import shape_of
from nnx.train.evaluation import check_metrics, evaluation_size
from nnx.train.fit import (
    check_sizes,
    metrics_asked,
    metrics_of,
    training_samples,
    training_samples_asked,
    validation_samples,
)
from nnx.train.request import Request, checked_split
from nnx.train.samples import make_batches

Weights = tuple[Any, int] | None
"""Weights (K, M) of each member, and the exponent of the power of two that they are multiplied by."""


class StackSamples(NamedTuple):
    """The samples of a fit as batches, the metrics that are measured on them, and the places that are held out."""

    batches: Provider
    validation: Provider | None
    training: Provider | None
    metrics: tuple[Any, ...]
    held: Sequence[Any] | None

    def of(self, part: range) -> "StackSamples":
        """Return those of some of the members."""

        def some(x: Any) -> Any:
            return x.of(part) if isinstance(x, MemberBatches) else x

        return self._replace(
            batches=some(self.batches), validation=some(self.validation), training=some(self.training)
        )


def stack_samples(stack: Any, request: Request, places: Sequence[Any] | None) -> StackSamples:
    """Return the samples of a fit.

    Parameters
    ----------
    stack : StackSession
        It has, of a session, what evaluation needs.
    request : Request
    places : sequence of K integer arrays (m,), or None
        The samples that each member trains on; None: those that its `validation_split` leaves, or all.
    """
    share = None if request.validation_split is None else checked_split(request)
    w = _sample_weight(stack, request)
    shared = share is None and (w is None or len(shape_of(w)) < 2)
    pool = _pool(stack, request, w if shared else None, request.class_weight if shared else None)
    if not isinstance(pool, Batches):
        return _read_in_pieces(stack, request, pool, shared)
    held = None
    if share is not None:
        if places is not None:
            raise InputError(
                "validation_split would choose other samples than those that each member is given"
            )
        Y, output = stack.backend.to_numpy(pool.data[1]), stack.network.output
        places, held = zip(*(split_places(share, output, Y, seed) for seed in stack.seed), strict=True)
    weights = None if shared else _weights(stack, request, pool, w, places, True)
    rngs = [session.rng for session in stack.members] if request.shuffle else None
    batches = _batches(stack, pool, weights, request.batch_size, rngs, places, request.micro_batch)
    check_sizes(stack.network, batches.m, request.batch_size)
    size = evaluation_size(stack)
    if held is None:
        validation = validation_samples(stack, request.validation, request.epochs)
    else:
        weights = _weights(stack, request, pool, w, held, False)
        validation = _batches(stack, pool, weights, size, None, held)
    training = _training(stack, request, batches, pool, shared and places is None, size)
    metrics = metrics_asked(stack.first, request, validation, training)
    check_metrics(stack.first, metrics, pool.data)
    return StackSamples(batches, validation, training, metrics, held)


def _sample_weight(stack: Any, request: Request) -> Any:
    """Return the weights that are given: (m,), or (K, m) on the host; None: there are none."""
    w, K = request.sample_weight, stack.K
    if w is None or len(shape_of(w)) < 2:
        return w
    found = host.numbers("sample_weight", w, "float64")
    if found.ndim != 2 or len(found) != K or (found < 0).any() or not found.any(axis=-1).all():
        raise InputError(
            f"sample_weight of shape {found.shape} must be (m,), or (K, m) with K = {K}, of numbers >= 0, some of each "
            "member above 0"
        )
    return found


def _pool(stack: Any, request: Request, w: Any, class_weight: Any) -> Provider:
    """Return all samples, with the weights that all members share."""
    first, rng = stack.first, stack.first.rng if request.shuffle else None
    return make_batches(
        first, "", request.X, request.Y, w, class_weight, request.batch_size, rng, request.micro_batch,
        request.steps, learns=True,
    )  # fmt: skip


def _read_in_pieces(stack: Any, request: Request, batches: Provider, shared: bool) -> StackSamples:
    """Return samples that are read piece by piece, or batches that are given: the same ones for all members."""
    if not shared:
        raise InputError(
            "validation_split and sample_weight (K, m) are for samples in memory; X is read piece by piece. Give "
            "validation=(X, Y), and weights (m,)"
        )
    if request.shuffle and request.Y is not None:
        raise InputError(
            "X is read piece by piece, in one order for all members, and each would shuffle it in its own; give "
            "shuffle=False, or load it into memory, as by X[:]"
        )
    validation = validation_samples(stack, request.validation, request.epochs)
    training = training_samples(stack, request, batches, request.X, request.Y, request.sample_weight)
    metrics = metrics_of(stack, request, validation, training)
    return StackSamples(batches, validation, training, metrics, None)


def _batches(
    stack: Any,
    pool: Batches,
    w: Weights,
    batch_size: int | None,
    rngs: Any,
    places: Sequence[Any] | None,
    micro_batch: int | None = None,
) -> MemberBatches:
    """Return batches of samples of the pool, with weights (K, M) of each member, or else those of the pool."""
    X, Y, weights = pool.data
    exponent = pool.exponent
    if w is not None:
        weights, exponent = stack.backend.asarray(w[0], stack.dtype), w[1]
    return MemberBatches(
        stack.backend, X, Y, weights, batch_size, rngs, [*range(stack.K)], places, micro_batch, exponent
    )  # fmt: skip


def _weights(
    stack: Any, request: Request, pool: Batches, w: Any, places: Sequence[Any] | None, learns: bool
) -> Weights:
    """Return the weights (K, M) of each member's samples of the pool, 0 elsewhere, and the exponent of their factor.

    Those that are held out have the weights of their classes among all samples.
    """
    if w is None and request.class_weight is None:
        return None
    network, K = stack.network, stack.K
    each = [w] * K if w is None or len(shape_of(w)) < 2 else w
    Y = stack.backend.to_numpy(pool.data[1])
    if len(shape_of(w)) == 2 and w.shape[-1] != pool.m:
        raise InputError(f"sample_weight of shape {w.shape} must be (m,), or (K, m) = ({K}, {pool.m})")
    found = weights_of_members(each, request.class_weight, Y, network.output, network.n[-1], places, learns)
    if stack.regularization.per_sample:
        return fitting(found, stack.dtype), 0
    m = pool.m if places is None else len(places[0])
    together = not learns or request.batch_size is None or request.batch_size >= m
    return in_range(found, stack.dtype, together)


def _training(
    stack: Any, request: Request, batches: MemberBatches, pool: Batches, shared: bool, size: int
) -> Provider | None:
    """Return the samples that are trained on and measured after every epoch; None: none are."""
    count = training_samples_asked(request, in_memory=True)
    if not count:
        return None
    if shared and (count is True or count >= pool.m):
        return pool.some(None, size, 0)
    X, Y, w = batches.data
    all_of_them = count is True or count >= batches.m
    places = batches.samples if all_of_them else _chosen(stack, batches, count)
    return MemberBatches(
        stack.backend, X, Y, w, size, None, [*range(stack.K)], places, exponent=batches.exponent
    )  # fmt: skip


def _chosen(stack: Any, batches: MemberBatches, count: int) -> list[Any]:
    """Return the places of so many samples of each member, drawn by its seed."""
    w, drawn = batches.data[2], []
    weights = None if w is None else stack.backend.to_numpy(w)
    for k, seed in enumerate(stack.seed):
        places = None if batches.samples is None else batches.samples[k]
        weights_of_member = weights if weights is None or weights.ndim == 1 else weights[k]
        if weights_of_member is not None and places is not None:
            weights_of_member = weights_of_member[places]
        at = chosen(batches.m, weights_of_member, count, seed)
        drawn.append(at if places is None else places[at])
    least = min(map(len, drawn))
    if least < max(map(len, drawn)):
        raise InputError(
            f"training_metrics={count}, and a member has {least} samples with weights above 0; give {least} or less"
        )
    return drawn
