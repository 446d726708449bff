"""Results of batches that several ranks have measured: each rank gets those of all."""

import json
import math
from array import array
from collections.abc import Sequence
from typing import Any

from nnx.array import host
from nnx.array.namespace import array_namespace
from nnx.port.agreement import text_of
from nnx.port.base import Backend
from nnx.port.communicator import Communicator
from nnx.support.tree import leaves, mapped


def gathered(communicator: Communicator, backend: Backend, own: Sequence[Any]) -> list[Any]:
    """Return the trees of numbers and arrays of all ranks: the first of each rank, the second of each, and so on.

    Tuples in the trees of several ranks become lists.
    """
    rank, size = communicator.rank, communicator.size
    if size == 1:
        return list(own)
    counts = array("q", [0] * size)
    counts[rank] = len(own)
    communicator.sum(counts)
    return [
        _of_rank(communicator, backend, root, own[k] if root == rank else None)
        for k in range(max(counts))
        for root in range(size)
        if k < counts[root]
    ]


def _of_rank(communicator: Communicator, backend: Backend, root: int, tree: Any) -> Any:
    """Return the tree of one rank, its arrays on the device."""
    forms = json.loads(text_of(communicator, root, json.dumps(mapped(tree, _form))))
    own = (host.copy(backend.to_numpy(x)).reshape(-1) for x in leaves(tree) if _is_array(x))  # in C's order
    numpy = array_namespace(host.copy(0.0))

    def filled(form: Any) -> Any:
        if not isinstance(form, str):
            return form
        dtype, *sizes = form.split()
        shape = tuple(map(int, sizes))
        empty = numpy.empty(math.prod(shape), dtype=getattr(numpy, dtype))
        x = next(own) if communicator.rank == root else empty
        communicator.broadcast(x, root)
        return backend.asarray(x.reshape(shape))

    return mapped(forms, filled)


def _is_array(x: Any) -> bool:
    return hasattr(x, "shape")


def _form(x: Any) -> Any:
    """Return a number as it is, and an array as the text of its dtype and its shape."""
    return " ".join([str(x.dtype).rpartition(".")[2], *map(str, x.shape)]) if _is_array(x) else x
