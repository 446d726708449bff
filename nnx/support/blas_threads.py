"""One thread for a library for a while: to share out short work costs more than it saves, above all on busy cores.

threadpoolctl finds the BLAS libraries of this process.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any


class Fewer:
    """Lets libraries have one thread for a while, and gives them back what they had.

    Parameters
    ----------
    get : callable
        Returns the number of threads of each library, a list.
    put : callable
        Takes such a list, and sets them.
    of_thread : bool
        Whether what is set holds for the thread that sets it (and for threads that begin then), as in PyTorch.
    """

    def __init__(
        self, get: Callable[[], list[int]], put: Callable[[list[int]], None], of_thread: bool = False
    ) -> None:
        self._get, self._put, self._of_thread = get, put, of_thread
        self._begin()
        _all.append(self)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        # A signal's handler may compute, too, in the thread that holds the lock.
        self._lock, self._before = threading.RLock(), list[int]()
        self._inside: dict[object, int] = {}  # the calls that are not over, and the thread of each

    @property
    def idle(self) -> bool:
        """Whether nothing is changed now."""
        return not self._inside

    def usual(self) -> list[int]:
        """Return the number of threads of each library, without what this has changed."""
        with self._lock:
            return self._before if self._inside else self._get()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Let there be one thread within; several of the user's threads may be within at once."""
        call = object()
        try:
            with self._lock:
                first = not self._inside
                if first:
                    self._before = self._get()
                self._inside[call] = threading.get_ident()
                if self._of_thread or first:
                    self._put([1] * len(self._before))
            yield
        finally:
            self._leave([call])

    def leave(self) -> None:
        """End this thread's calls: see `leave_interrupted`."""
        this = threading.get_ident()
        self._leave([call for call, thread in list(self._inside.items()) if thread == this])

    def _leave(self, calls: list[object]) -> None:
        with self._lock:
            ended = [call for call in calls if call in self._inside]
            if ended and (self._of_thread or len(ended) == len(self._inside)):
                self._put(self._before)
            for call in ended:  # last: a call by a signal's handler would take 1 for the usual number
                self._inside.pop(call, None)


_all: list[Fewer] = []


def leave_interrupted() -> None:
    """End the calls of `Fewer` that an interrupt has left open in this thread; it must be within none.

    An interrupt just before or after the block of a ``with`` leaves a generator open. It closes only with the last
    reference to the traceback, which a notebook keeps.
    """
    for one in _all:
        one.leave()


@lru_cache(maxsize=1)
def libraries() -> Any:
    """Return threadpoolctl's handles of the BLAS libraries, without any that always has one thread: MKL, above all.

    Raises
    ------
    ImportError
        Without threadpoolctl.
    """
    from threadpoolctl import ThreadpoolController

    found = ThreadpoolController().select(user_api="blas").lib_controllers
    return [one for one in found if one.info().get("threading_layer") != "sequential"]


def get_threads() -> list[int]:
    """Return the number of threads of each library."""
    return [one.num_threads for one in libraries()]


def _set_threads(threads: list[int]) -> None:
    for one, count in zip(libraries(), threads, strict=True):
        one.set_num_threads(count)


FEWER = Fewer(get_threads, _set_threads)
"""Lets BLAS have one thread for a while."""


def one_thread() -> Fewer | None:
    """Return what lets BLAS have one thread for a while; None without threadpoolctl."""
    try:
        libraries()
    except ImportError:
        return None
    return FEWER


def look_again() -> None:
    """Find the libraries anew: SciPy's or MKL may have been loaded since they were found."""
    if FEWER.idle:
        libraries.cache_clear()
