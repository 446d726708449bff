"""Mini-batches: the samples of a step, cut out of all samples or gathered in an order."""

from collections.abc import Callable, Iterator
from typing import TypeAlias

from nnx.array.namespace import Array, array_namespace

Data: TypeAlias = tuple[Array, Array, Array | None]
"""X (n[0], M), Y (n[L], M) or class indices (M,), and the samples' weights (M,), if they have any.

Weights (K, M) are those of each member of a stack of networks. An order (K, ...) is one for each member.
"""


NUMBERS_PER_GATHER = 1 << 18
"""Numbers of X that are gathered at a time: small batches share a call, and the numbers stay in the cache."""


GatherRows: TypeAlias = Callable[[Array, Array], Array]
"""gather(rows, places) -> those rows (m, n) of a matrix (M, n); places (m,) within 0, ..., M - 1. The next call may
write over what it returned."""


def gather_rows(rows: Array, places: Array) -> Array:
    """Return rows of a matrix, a new array."""
    return array_namespace(rows).take(rows, places, axis=0)


def mini_batch(data: Data, order: Array | None, start: int, m: int, gather: GatherRows = gather_rows) -> Data:
    """Return m of all samples, beginning with the one at `start`; of X the view that it is, unless there is an order.

    Without one the first sample comes again after the last, but not within a mini-batch.

    Examples
    --------
    >>> import numpy as np
    >>> X, Y = np.arange(10.0).reshape(2, 5), np.arange(5)
    >>> mini_batch((X, Y, None), np.array([4, 2, 0, 1, 3]), 1, 2)[:2]
    (array([[2., 0.],
           [7., 5.]]), array([2, 0]))
    >>> mini_batch((X, Y, None), None, 5, 2)[1]
    array([0, 1])
    """
    X, Y, w = data
    if order is None:
        M = X.shape[-1]
        start %= M
        if (start, m) == (0, M):
            return data
        place = slice(start, start + m)
        return X[..., place], Y[..., place], None if w is None else w[..., place]
    xp, places = array_namespace(X), order[..., start : start + m]
    if places.ndim > 1:
        return member_batch(data, places, gather)
    # Where the data came with samples as rows, each sample is one piece of memory: so X^T's rows are gathered.
    Xb = xp.matrix_transpose(gather(xp.matrix_transpose(X), places))
    return Xb, xp.take(Y, places, axis=-1), None if w is None else xp.take(w, places, axis=-1)


def member_batch(data: Data, places: Array, gather: GatherRows) -> Data:
    """Return the samples of each member, whose places are (K, m): X (K, n[0], m), Y (K, n[L], m), w (K, m)."""
    (X, Y, w), xp = data, array_namespace(data[0])
    K, m = places.shape
    every = xp.reshape(places, (-1,))
    rows = xp.reshape(gather(xp.matrix_transpose(X), every), (K, m, X.shape[0]))
    Yb = xp.reshape(xp.take(Y, every, axis=-1), (*Y.shape[:-1], K, m))
    Yb = xp.expand_dims(Yb, axis=-2) if Y.ndim == 1 else xp.permute_dims(Yb, (1, 0, 2))
    if w is not None:
        own = w.ndim > 1  # and those of member k at its own places
        w = xp.take_along_axis(w, places, axis=-1) if own else xp.reshape(xp.take(w, every), (K, m))
    return xp.matrix_transpose(rows), Yb, w


def batches(
    data: Data, order: Array | None, at: int, m: int, count: int, gather: GatherRows = gather_rows
) -> Iterator[Data]:
    """Yield the samples of `count` steps, m each; small batches are gathered several at a time.

    A batch holds until the next one is asked for, if `gather` uses its memory again.
    """
    end = at + m * count
    if order is None:
        for start in range(at, end, m):
            yield mini_batch(data, None, start, m)
        return
    members = order.shape[0] if order.ndim > 1 else 1
    each = m * max(1, NUMBERS_PER_GATHER // max(members * data[0].shape[0] * m, 1))
    for first in range(at, end, each):
        size = min(each, end - first)
        gathered = mini_batch(data, order, first, size, gather)
        for start in range(0, size, m):
            yield mini_batch(gathered, None, start, m)
        del gathered  # so that the next ones may have its memory
