"""The one door to the Python Array API standard (version 2024.12).

Every formula of nnx asks its own arguments for their namespace ``xp`` and uses nothing that the standard
does not name, so that one text runs on NumPy, CuPy, PyTorch, JAX and whatever else conforms.
"""

from types import ModuleType
from typing import Any, TypeAlias

import array_api_compat
from array_api_compat import device

Array: TypeAlias = Any
"""An array of any conforming library. Shapes are in the docstrings: (..., n, m), samples as columns."""

Namespace: TypeAlias = Any
"""The standard's functions for one library, as ``array_namespace(x)`` gives them."""

_namespaces: dict[type, Namespace] = {}


def array_namespace(*xs: Any) -> Namespace:
    """Return the namespace of the arrays: `array_api_compat.array_namespace`, asked once for a class that it wraps.

    A step asks some fifteen times, and that of a small network takes no longer than two hundred such questions.

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
    # Arrays of other libraries say themselves, each of them, what their namespace is.
    if kind is not None and isinstance(found, ModuleType) and found.__name__.startswith("array_api_compat."):
        _namespaces[kind] = found
    return found


__all__ = ["Array", "Namespace", "array_namespace", "device"]
