"""The arguments of the pictures as arrays that can be drawn, or an InputError that names the wrong one."""

from typing import Any

import numpy as np

from nnx.array.host import class_indices, numbers
from nnx.display.curves import LARGEST
from nnx.errors import InputError


def drawable(name: str, x: Any) -> Any:
    """Return x as an array of float64 that can be drawn.

    Raises
    ------
    InputError
        When it holds no real numbers, or NaN, infinities, or numbers beyond 1e100.
    """
    found = numbers(name, x, "float64")
    if found.size and np.abs(found).max() > LARGEST:
        raise InputError(f"{name} has numbers beyond {LARGEST:g}, which cannot be drawn; scale them")
    return found


def indices(name: str, x: Any, K: int | None = None) -> Any:
    """Return class indices as an array of int64; below K, where that is known.

    Raises
    ------
    InputError
        When they are no integers, or no class has such an index.
    """
    found = class_indices(name, x)
    high = 2**31 if K is None else K
    if found.size and not (found.min() >= 0 and found.max() < high):
        wrong = found.min() if found.min() < 0 else found.max()
        each = "" if K is None else ", one for each label"
        raise InputError(f"class indices must be 0 to {high - 1}{each}; {name} has {wrong}")
    return found
