"""Batches that are measured by several ranks, each by one of them: all get the results of all."""

import json
from collections.abc import Sequence
from typing import Any

from nnx.array import host
from nnx.array.namespace import array_namespace
from nnx.port.base import Backend
from nnx.port.communicator import Communicator
from nnx.support.tree import leaves, mapped
from nnx.train.ranks import text_of


def of_all_ranks(communicator: Communicator, backend: Backend, own: Sequence[Any], count: int) -> list[Any]:
    """Return `count` trees of numbers and arrays, in order; this rank's `own` are every size-th, from its number on.

    Tuples in them have become lists, but for those of this rank alone.
    """
    rank, size = communicator.rank, communicator.size
    if size == 1:
        return list(own)
    trees = [own[k // size] if k % size == rank else None for k in range(count)]
    return [_of_rank(communicator, backend, k % size, tree) for k, tree in enumerate(trees)]


def _of_rank(communicator: Communicator, backend: Backend, root: int, tree: Any) -> Any:
    """Return the tree of one rank, its arrays on the device."""
    forms = json.loads(text_of(communicator, root, json.dumps(mapped(tree, _form))))
    own = iter([host.copy(backend.to_numpy(x)) for x in leaves(tree) if _is_array(x)])
    numpy = array_namespace(host.copy(0.0))

    def array(form: Any) -> Any:
        if not isinstance(form, str):
            return form
        dtype, *shape = form.split()
        empty = numpy.empty(tuple(map(int, shape)), dtype=getattr(numpy, dtype))
        x = next(own) if communicator.rank == root else empty
        communicator.broadcast(x, root)
        return backend.asarray(x)

    return mapped(forms, array)


def _is_array(x: Any) -> bool:
    return hasattr(x, "shape")


def _form(x: Any) -> Any:
    """Return a number as it is, and an array as the text of its dtype and its shape."""
    return " ".join([str(x.dtype).rpartition(".")[2], *map(str, x.shape)]) if _is_array(x) else x
