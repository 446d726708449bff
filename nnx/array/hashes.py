"""Hashes of arrays, by which processes find out whether they have the same ones."""

import hashlib
from collections.abc import Iterable
from typing import Any

from nnx.array import host

SOME = 256
"""About the samples that a fingerprint takes."""


def hash_of(arrays: Iterable[Any]) -> str:
    """Return a hash of the numbers of NumPy arrays.

    Examples
    --------
    >>> import numpy as np
    >>> hash_of([np.zeros(2), np.ones(3)]) == hash_of([np.zeros(2), np.ones(3)])
    True
    """
    found = hashlib.blake2b(digest_size=16)
    for x in arrays:
        found.update(host.copy(x).tobytes())
    return found.hexdigest()


def fingerprint(samples: Iterable[Any]) -> str:
    """Return a hash of some samples, equally far apart, of NumPy arrays (..., m). None stands for no array."""
    return hash_of(x[..., :: max(1, x.shape[-1] // SOME)] for x in samples if x is not None)
