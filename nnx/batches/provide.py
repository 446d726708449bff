"""Choosing the provider of batches for samples: `Batches`, `Stream` or `Iterated`."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from nnx.array import host
from nnx.batches import Batches, Provider
from nnx.batches.iterated import Iterated
from nnx.batches.shares import RankBatches, RankIterated, RankStream
from nnx.batches.source import Source
from nnx.batches.sources import whole
from nnx.batches.stream import Checks, Stream
from nnx.errors import InputError
from nnx.port.base import Backend
from nnx.port.communicator import Communicator


def provide(
    backend: Backend,
    X: Any,
    Y: Any = None,
    w: Any = None,
    batch_size: int | None = None,
    rng: Any = None,
    micro_batch: int | None = None,
    *,
    checks: Checks,
    dtype: str,
    steps: int | None = None,
    resident: bool = True,
    ahead: int = 2,
    whose: str = "",
    communicator: Communicator | None = None,
) -> Provider:
    """Return the provider of the batches of X, Y and w.

    Parameters
    ----------
    backend : Backend
    X, Y, w
        Arrays of any library, data frames, files or sparse matrices: see `recognise` in `sources`. Without Y, X is an
        iterable of batches, or a function that returns one: see `Iterated`. w may be anything that `checks.weights`
        takes.
    batch_size, rng, micro_batch
        As of `Batches`; an iterable's batches have their own sizes and order.
    checks, dtype, ahead, whose
        As of `Stream`.
    steps : int or None
        The batches of an epoch, for an iterable.
    communicator : Communicator or None
        Of several ranks each takes its share of the batches, or its own of an iterable: `nnx.batches.shares`. None: all
        of them.
    resident : bool
        Whether arrays are put on the device whole, as `Batches`; else in pieces, as `Stream`.

    Returns
    -------
    Batches, Stream or Iterated

    Raises
    ------
    InputError
        When the samples are none of these, or do not pass the checks.

    Examples
    --------
    >>> import numpy as np, nnx
    >>> checks = Checks(lambda name, X: X, lambda name, Y, m: Y, lambda name, w, Y, m: w)
    >>> batches = provide(
    ...     nnx.backend("numpy"), np.ones((2, 9)), np.ones(9), batch_size=4, checks=checks, dtype="float32"
    ... )
    >>> [X.shape for (X, Y, w), start, ends in batches.epoch()]
    [(2, 4), (2, 4), (2, 1)]
    """
    ranks = communicator if communicator is not None and communicator.size > 1 else None
    if Y is None:
        _check_iterable(whose, batch_size, w, micro_batch, ranks)
        found = Iterated(
            backend, X, micro_batch, checks=checks, dtype=dtype, steps=steps, ahead=ahead, whose=whose
        )
        return found if ranks is None else RankIterated(found, ranks)
    if steps is not None:
        raise InputError(
            f"steps={steps} is given with X and Y; it is for an iterable of batches. Use batch_size"
        )
    X, Y = checks.recognise("X", f"{whose}X", X), checks.recognise("Y", f"{whose}Y", Y)
    if not (w is None or isinstance(w, str | Mapping)):
        w = checks.recognise("w", f"{whose}w", w)
    if isinstance(X, Source) or not resident:
        kind = Stream if ranks is None else partial(RankStream, communicator=ranks)
        return kind(
            backend,
            X,
            Y,
            w,
            batch_size,
            rng,
            micro_batch,
            checks=checks,
            dtype=dtype,
            ahead=ahead,
            whose=whose,
        )
    X = checks.features(f"{whose}X", X)
    m = X.shape[-1]
    Y = checks.targets(f"{whose}Y", whole(Y), m)
    w = checks.weights(f"{whose}w", whole(w), Y, m)
    if rng is not None and batch_size is not None and batch_size < m:
        X = host.rows_contiguous(X)  # so that gathering a sample reads one piece of memory
    if ranks is not None:
        X, w = (None if x is None else host.as_dtype(host.as_host(x), dtype) for x in (X, w))
        return RankBatches(backend, X, host.as_host(Y), w, batch_size, rng, micro_batch, ranks)
    w = None if w is None else backend.asarray(w, dtype)
    return Batches(backend, backend.asarray(X, dtype), backend.asarray(Y), w, batch_size, rng, micro_batch)


def _check_iterable(
    whose: str, batch_size: int | None, w: Any, micro_batch: int | None, ranks: Communicator | None
) -> None:
    """Raise an InputError for what cannot be given with an iterable of batches."""
    for name, value in (("batch_size", batch_size), ("sample_weight", w)):
        if value is not None:
            raise InputError(
                f"{whose}{name} is given, but no {whose}Y; without Y, X is an iterable of batches, which have "
                "their own sizes, and weights as (X, Y, w)"
            )
    if ranks is not None and micro_batch is not None:
        raise InputError(
            f"micro_batch={micro_batch} is given with an iterable of batches and several ranks, each of which has its "
            "own; give smaller batches, or more ranks"
        )
