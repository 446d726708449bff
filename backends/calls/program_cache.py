"""A cache of what is compiled for each set of shapes and dtypes."""

import logging
from collections.abc import Callable, Hashable
from typing import Any

from nnx.compiler import is_array

PROGRAMS = 8
"""Sets of shapes that a cache holds. One more replaces the set that was not used for the longest time."""

USES = 8
"""A cache compiles nothing more if, after 8 times as many sets as it holds, each was used less often than this."""

_log = logging.getLogger("nnx")


class ProgramCache:
    """What is compiled for the last few sets of shapes.

    Parameters
    ----------
    failed : str
        The beginning of the log's message when something cannot be compiled.
    level : int
        That message's level.
    """

    def __init__(self, failed: str, level: int = logging.DEBUG) -> None:
        self._failed, self._level = failed, level
        self._made: dict[Any, Any] = {}
        self._misses = self._hits = 0

    def get_or_make(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return what `make` made for this key, now or before; None if it failed, or if keys seldom come again."""
        try:
            if key in self._made:
                self._hits += 1
                self._made[key] = self._made.pop(key)  # the last one in the order of use
                return self._made[key]
        except TypeError:  # an argument cannot be hashed
            return None
        if self._misses > 8 * PROGRAMS and self._hits < USES * self._misses:
            return None
        self._misses += 1
        try:
            self._made[key] = make()
        except MemoryError:  # another time there may be enough
            raise
        except Exception as error:  # tracing runs the user's code, and a library may raise anything
            self.fail(key, error)
        if len(self._made) > PROGRAMS:
            del self._made[next(iter(self._made))]
        return self._made[key]

    def fail(self, key: Hashable, error: Exception) -> None:
        """Log an error, with its traceback for the level DEBUG, and make no second attempt for this key."""
        traceback = error if _log.isEnabledFor(logging.DEBUG) else None
        _log.log(self._level, "%s: %s: %s", self._failed, type(error).__name__, error, exc_info=traceback)
        self._made[key] = None

    def clear(self) -> None:
        """Forget all that was made."""
        self._made.clear()

    def __contains__(self, key: Hashable) -> bool:
        return key in self._made


def form(x: Any) -> Hashable:
    """Return what tells an array from those for which a function must be compiled anew."""
    device = getattr(x, "device", None)
    return x.shape, x.dtype, getattr(device, "id", device)  # CuPy's devices have no hash


def signature(tree: Any) -> Hashable:
    """Return the forms of the arrays in a tree, and all else in it, as a key.

    Examples
    --------
    >>> import numpy as np
    >>> signature({"x": np.zeros(2), "k": 1})
    (<class 'dict'>, ('x', ((2,), dtype('float64'), 'cpu')), ('k', (<class 'int'>, 1)))
    """
    if is_array(tree):
        return form(tree)
    if isinstance(tree, dict):
        return (dict, *((name, signature(branch)) for name, branch in tree.items()))
    if isinstance(tree, tuple | list):
        return (type(tree), *map(signature, tree))
    return type(tree), tree
