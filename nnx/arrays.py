"""The one door to the Python Array API standard (version 2024.12).

Every formula of nnx asks its own arguments for their namespace ``xp`` and uses nothing that the standard
does not name, so that one text runs on NumPy, CuPy, PyTorch, JAX and whatever else conforms.
"""

from typing import Any, TypeAlias

from array_api_compat import array_namespace, device

Array: TypeAlias = Any
"""An array of any conforming library. Shapes are in the docstrings: (..., n, m), samples as columns."""

Namespace: TypeAlias = Any
"""The standard's functions for one library, as ``array_namespace(x)`` gives them."""

__all__ = ["Array", "Namespace", "array_namespace", "device"]
