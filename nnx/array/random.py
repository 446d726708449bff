"""Random numbers inside the step: a pure function of seed, step, layer and place, the same on every backend.

A generator with a state would draw other numbers on every library, and also after a checkpoint or in micro-batches.
Here number i of a key is a hash of both, so there is no state. The hash is the 32-bit mixer "lowbias32" (C. Wellons,
2018, https://nullprogram.com/blog/2018/07/31/), with the two halves of the key mixed in before its two rounds.

All numbers are int32, which every library has. Products wrap around in every library, though the standard leaves it
open.
"""

import math

from nnx.array.namespace import Array, array_namespace, device

_ROUND_1, _ROUND_2 = 0x7FEB352D, 0x846CA68B - 2**32


def _shifted(x: Array, bits: int) -> Array:
    """Return x >> bits with zeros, not copies of the sign, coming in from the left."""
    return (x >> bits) & (2 ** (32 - bits) - 1)


def _hash(x: Array, key_1: Array, key_2: Array) -> Array:
    x = x ^ key_1
    x = (x ^ _shifted(x, 16)) * _ROUND_1 + key_2
    x = (x ^ _shifted(x, 15)) * _ROUND_2
    return x ^ _shifted(x, 16)


def fold(key: Array, number: Array | int) -> Array:
    """Return the key (..., 2), int32, of a key (..., 2) and a number, such as a step or a layer: 0-d or (..., 1).

    Examples
    --------
    >>> import numpy as np
    >>> fold(np.asarray([1, 2], dtype="int32"), 3).dtype
    dtype('int32')
    """
    xp = array_namespace(key)
    if not isinstance(number, int) and number.ndim == 0:  # NumPy warns of the wrap-around of 0-d arrays
        number = xp.reshape(number, (1,))
    return _hash(key ^ number, key[..., 1:], key[..., :1])


def bits(key: Array, n: int, m: int, start: Array | int = 0) -> Array:
    """Return random int32 (..., n, m), uniform over all of int32, one for each unit and sample.

    Parameters
    ----------
    key : array (..., 2), int32
    n, m : int
        Units and samples.
    start : int or 0-d array
        The place of the first of the m samples in its batch; above 0 in a later micro-batch.
    """
    xp, place = array_namespace(key), device(key)
    unit = xp.expand_dims(xp.arange(n, dtype=xp.int32, device=place), axis=-1)
    sample = xp.expand_dims(xp.arange(m, dtype=xp.int32, device=place), axis=0) + start
    number, first, second = sample * n + unit, key[..., :1], key[..., 1:]
    if key.ndim > 1:  # of a stack, as they stand beside (..., n, m)
        first, second = xp.expand_dims(first, axis=-1), xp.expand_dims(second, axis=-1)
    return _hash(number, first, second)


def uniform(key: Array, n: int, m: int, start: Array | int, like: Array) -> Array:
    """Return numbers (..., n, m) in (0, 1], multiples of 2^-24, of the dtype of `like`."""
    xp = array_namespace(key, like)
    return (xp.astype(_shifted(bits(key, n, m, start), 8), like.dtype) + 1) * 2.0**-24


def normal(key: Array, n: int, m: int, start: Array | int, like: Array) -> Array:
    """Return N(0, 1) (..., n, m), of the dtype of `like`: sqrt(-2 log u) cos(2 pi v) (Box and Muller, 1958)."""
    xp = array_namespace(key, like)
    u, v = (uniform(fold(key, half), n, m, start, like) for half in (1, 2))
    return xp.sqrt(-2 * xp.log(u)) * xp.cos(2 * math.pi * v)
