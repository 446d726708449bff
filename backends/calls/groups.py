"""A stack's members in groups: each group does all steps of a call in the cache, then the next group does them.

A group of several members runs the step of a stack of that many, a group of one the step of a single network.
"""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from nnx.array.gather import Data
from nnx.array.namespace import Array

Rows: TypeAlias = slice | int | None
"""The rows of a group: several, one, or, of a single network, None."""


def groups(live: Sequence[int], K: int, size: int) -> list[Rows]:
    """Return the rows of each group of at most `size` of K members; groups without a live member are left out.

    >>> groups([0, 4], 5, 2)
    [slice(0, 2, None), 4]
    """
    bounds = [
        (low, min(low + size, K)) for low in range(0, K, size) if any(low <= k < low + size for k in live)
    ]
    return [slice(low, high) if high - low > 1 else low for low, high in bounds]


def state_of(state: Mapping[str, Array], rows: Rows) -> dict[str, Array]:
    """Return views of the rows of a stack's state; an array of all members, (1, ...), stands for each."""
    if rows is None:
        return dict(state)
    if isinstance(rows, slice):
        return {name: x if x.shape[0] == 1 else x[rows, ...] for name, x in state.items()}
    places = {
        name: (rows if x.shape[0] > 1 else 0, *[0] * (x.shape[1:] == (1,))) for name, x in state.items()
    }
    return {name: x[(*places[name], ...)] for name, x in state.items()}


def samples_of(data: Data, order: Array | None, rows: Rows) -> tuple[Data, Array | None]:
    """Return the samples and the order of a group: weights and orders (K, ...) are those of its rows."""
    X, Y, *others = *data, order
    w, order = (x if rows is None or x is None or x.ndim == 1 else x[rows, ...] for x in others)
    return (X, Y, w), order
