"""One thread for small products: to share a short product out costs more than it saves, above all on busy cores."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

SMALL = 2**23
"""The additions and multiplications of a product that one thread does in about the time that two take to meet."""


class Fewer:
    """Sets a process's number of threads to one, for as long as somebody computes small products.

    Parameters
    ----------
    get : callable
        Returns what is set.
    set_one : callable
        Sets one thread.
    set_back : callable
        Sets again what `get` returned.
    """

    def __init__(
        self, get: Callable[[], Any], set_one: Callable[[], None], set_back: Callable[[Any], None]
    ) -> None:
        self._get, self._set_one, self._set_back = get, set_one, set_back
        self._begin()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        self._lock, self._inside, self._before = threading.Lock(), 0, None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Let there be one thread within; several of the user's threads may be within at once."""
        with self._lock:
            if self._inside == 0:
                self._before = self._get()
                self._set_one()
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0:
                    self._set_back(self._before)
