"""A stack's members in groups: each group does all steps of a call in the cache, then the next group does them.

A group of several members runs the step of a stack of that many, a group of one the step of a single network.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from nnx.array.gather import Data
from nnx.array.namespace import Array

Rows: TypeAlias = slice | int | None
"""The rows of a group: several, one, or, of a single network, None."""


def groups(live: Sequence[int], K: int, size: int) -> Iterator[slice | int]:
    """Yield the rows of each group of at most `size` of K members; those without a member that is live are left out.

    Examples
    --------
    >>> [*groups(range(5), 5, 2)], [*groups([0, 4], 5, 2)]
    ([slice(0, 2, None), slice(2, 4, None), 4], [slice(0, 2, None), 4])
    """
    for low in range(0, K, size):
        high = min(low + size, K)
        if any(low <= k < high for k in live):
            yield slice(low, high) if high - low > 1 else low


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
    """Return the samples and the order of a group: the weights and the orders that are a member's are its rows'."""
    X, Y, w = data
    return (X, Y, _own(w, rows)), _own(order, rows)


def _own(x: Any, rows: Rows) -> Any:
    return x if rows is None or x is None or x.ndim == 1 else x[rows, ...]
