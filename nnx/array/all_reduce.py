"""The sum of a vector over the ranks of a run, as a function of arrays."""

from typing import Any

from nnx.array import host
from nnx.array.namespace import Array, array_namespace, device


def all_reduce(x: Array, communicator: Any) -> Array:
    """Return the sum of the vectors x (n,) of all ranks, the same bits on each of them.

    Parameters
    ----------
    x : array (n,)
        Of floats; it stays as it is. A graph's tracer has the operation in its namespace. Any other array goes to the
        host and back.
    communicator : Communicator
        See `nnx.port.communicator`.

    Examples
    --------
    >>> import numpy as np
    >>> from nnx.port.communicator import Alone
    >>> all_reduce(np.ones(2), Alone())
    array([1., 1.])
    """
    xp = array_namespace(x)
    if hasattr(xp, "all_reduce"):
        return xp.all_reduce(x, communicator)
    vector = host.copy(host.as_host(x))
    communicator.sum(vector)
    return xp.asarray(vector, device=device(x))
