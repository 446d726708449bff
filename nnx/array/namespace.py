"""The one door to the Python Array API standard (version 2024.12).

Every formula of nnx gets the namespace ``xp`` of its own arguments and uses only functions of the standard. So the same
text runs on NumPy, CuPy, PyTorch, JAX and every other conforming library.
"""

from types import ModuleType
from typing import Any, TypeAlias

import array_api_compat
from array_api_compat import device

Array: TypeAlias = Any
"""An array of any conforming library. Shapes are in the docstrings: (..., n, m), samples as columns."""

Namespace: TypeAlias = Any
"""The standard's functions for one library, as ``array_namespace(x)`` returns them."""

_namespaces: dict[type, Namespace] = {}


def array_namespace(*xs: Any) -> Namespace:
    """Return the namespace of the arrays: that of `array_api_compat.array_namespace`, cached by the array's class.

    A step calls it some fifteen times. The step of a small network takes as long as two hundred calls without the
    cache.

    Examples
    --------
    >>> import numpy as np
    >>> array_namespace(np.ones(2)).__name__
    'array_api_compat.numpy'
    """
    kind = type(xs[0]) if len(xs) == 1 else None
    if kind in _namespaces:
        return _namespaces[kind]
    found = array_api_compat.array_namespace(*xs)
    # Only wrapped libraries are cached: arrays of others name their namespace themselves, one by one.
    if kind is not None and isinstance(found, ModuleType) and found.__name__.startswith("array_api_compat."):
        _namespaces[kind] = found
    return found


def shape_of(x: Any) -> tuple[int, ...]:
    """Return the shape of an array or a table, () of anything else, also if it has a function of this name."""
    shape = getattr(x, "shape", ())
    return tuple(shape) if isinstance(shape, tuple | list) else ()


__all__ = ["Array", "Namespace", "array_namespace", "device", "shape_of"]
