"""A stack of networks on the cores: each core does all steps of one member, in its own cache, then those of the next.

A member runs the compiled step of a single network, with one thread. So its numbers are those of its single run.
"""

from itertools import count as counter
from typing import Any

import numpy as np

from nnx.array.namespace import Array
from nnx.backends.numba.threads import run_in_threads
from nnx.backends.numpy.calls import aligned


def run_members(call: Any, K: int, tables: list[dict[str, Any]], seconds: float) -> None:
    """Call call(k, its tables) for each member k, in threads with a table each; `seconds`: about what all take."""
    places, own = counter(), iter(tables)

    def work(t: int, T: int, sync: Array) -> None:
        table = next(own)
        while (k := next(places)) < K and not sync[0]:  # which a failure of another thread sets
            call(k, table)

    run_in_threads(work, seconds)


def of_members(x: Array, K: int) -> list[Array]:
    """Return `of_member(x, k)` for each member k."""
    own = range(K) if x.shape[0] == K else [0] * K
    return [x[k, 0, ...] for k in own] if x.shape[1:] == (1,) else [x[k] for k in own]


def copies(tables: dict[str, Any], T: int) -> list[dict[str, Any]]:
    """Return the tables of a compiled step for each of T threads: the memory that it writes is a thread's own."""
    read_only = {name for name in tables if name == "D" or name.startswith(("C_", "scalars_", "f"))}
    own = ({name: x if name in read_only else _like(x) for name, x in tables.items()} for _ in range(T - 1))
    return [tables, *own]


def _like(x: Any) -> Any:
    return aligned(x.nbytes).view(x.dtype).reshape(x.shape) if x.size else np.empty_like(x)
