"""A pure function of arrays written down as a straight list of the standard's operations.

The function runs once on placeholders, which know a shape and a dtype; every function of the standard that is called
on them is noted (`record`). What comes out is data: it can be printed, checked, and run by an adapter as its library
can, with buffers planned beforehand (`planned`).
"""

from collections.abc import Callable
from typing import Any

from nnx.compiler.ir.graph import Op, Recording, Value, leaves, mapped
from nnx.compiler.ir.operations import RecordingError
from nnx.compiler.ir.tracer import Placeholder, Tape
from nnx.compiler.passes.fuse import Group, fused
from nnx.compiler.passes.memory import Plan, nbytes, planned
from nnx.compiler.passes.simplify import simplified

__all__ = [
    "Group",
    "Op",
    "Plan",
    "Recording",
    "RecordingError",
    "Value",
    "fused",
    "is_array",
    "leaves",
    "mapped",
    "nbytes",
    "planned",
    "record",
]


def is_array(x: Any) -> bool:
    """Whether a leaf of a tree of arguments is an array."""
    return hasattr(x, "shape") and hasattr(x, "dtype")


def record(function: Callable[..., Any], *arguments: Any) -> Recording:
    """Return what a pure function does with arrays of these shapes and dtypes.

    Parameters
    ----------
    function : callable
        Pure, written with the standard's functions. It is called once.
    arguments : trees
        Dicts, tuples and lists with arrays, of which shapes and dtypes are looked at; whatever else is in them
        (numbers, None) is part of the recording.

    Raises
    ------
    RecordingError
        When the function reads an array, or calls what is not of the standard or not known here: what it is.

    Examples
    --------
    >>> import numpy as np
    >>> from nnx.array.namespace import array_namespace
    >>> def cost(theta, X):
    ...     xp = array_namespace(theta)
    ...     W = xp.reshape(theta[:6], (2, 3))
    ...     return xp.mean((W @ X + 1) ** 2)
    >>> print(record(cost, np.zeros(8), np.zeros((3, 5))))
       %0: float64[8]
       %1: float64[3, 5]
       %2: float64[6] = slice(%0, key=(0:6,))
       %3: float64[2, 3] = reshape(%2)
       %4: float64[2, 5] = %3 @ %1
       %5: float64[2, 5] = %4 + 1.0
       %6: float64[2, 5] = square(%5)
       %7: float64[] = mean(%6, axes=(0, 1), keepdims=False)
    return %7
    """
    tape = Tape()

    def placed(leaf: Any) -> Any:
        return tape.input(tuple(map(int, leaf.shape)), _name(leaf.dtype)) if is_array(leaf) else leaf

    given = mapped(arguments, placed)
    found = function(*given)

    def value(leaf: Any) -> Any:
        if isinstance(leaf, Placeholder):
            return leaf.value
        if is_array(leaf):
            raise RecordingError(
                f"the result holds a {type(leaf).__name__} that does not depend on the arguments"
            )
        return leaf

    tree = Recording(tuple(tape.inputs), tuple(tape.ops), mapped(given, value), mapped(found, value))
    return simplified(tree)


def _name(dtype: Any) -> str:
    """Return the standard's name of any library's dtype."""
    return str(dtype).rpartition(".")[2]
