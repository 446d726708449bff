"""Calls that neither a fork nor the end of the program may cut in two.

A fork copies one thread. The child loses whatever another thread held: a lock, a module that it was importing, a
library's threads. And a thread that returns from C++ after the end of the interpreter aborts the process. So a fork and
the end of the program wait until no thread is within a call that computes or imports a backend.
"""

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from nnx.errors import BackendError

F = TypeVar("F", bound=Callable[..., Any])

FORK = 300.0
"""The most seconds that a fork waits: on a busy machine the first compilation takes a minute or more."""

END = 5.0
"""The most seconds that the end of the program waits."""

GRACE = 0.1
"""The seconds in which other threads may end, once none of them computes."""

_log = logging.getLogger("nnx")
_locks: "WeakValueDictionary[int, threading.RLock]" = WeakValueDictionary()
_gate = threading.RLock()
_closed: Callable[[], None] | None = None
_generation = 0
"""The number of forks between this process and the one that imported nnx."""


class _Own(threading.local):
    """The lock that a thread holds while it computes."""

    def __init__(self) -> None:
        self.lock: Any = threading.RLock()
        _locks[threading.get_ident()] = self.lock
        # The last one registered is called first: before those of libraries that are imported by now.
        atexit.unregister(_end)
        atexit.register(_end)


def uncut() -> Any:
    """Return the lock that a thread holds, by ``with``, during a call that must not be cut; calls may be nested.

    Raises
    ------
    SystemExit
        When the program is ending, in all threads but the one that ends it.
    """
    closed, lock = _closed, _own.lock
    if closed is not None and not lock._is_owned():  # within a call the thread goes on: the other side waits
        closed()
    return lock


def give_way() -> None:
    """Let a waiting fork, or the end of the program, go ahead here, between two parts of an uncut call."""
    closed = _closed
    if closed is not None:
        _own.lock.release()
        try:
            with uncut():
                pass
        finally:
            _own.lock.acquire()


def whole(function: F) -> F:
    """Return a function, or method, whose calls are not cut."""

    @wraps(function)
    def called(*arguments: Any, **named: Any) -> Any:
        with uncut():
            return function(*arguments, **named)

    return called  # type: ignore[return-value]


_first: dict[str, int] = {}


def not_forked(library: str) -> None:
    """Raise a BackendError if this process is a fork of one that has used the library."""
    if _first.setdefault(library, _generation) != _generation:
        raise BackendError(
            f"{library} was used before this process was forked, and does not work in a fork; start processes "
            "by 'spawn' (multiprocessing.get_context('spawn')), or use the backend 'numpy' or 'numba'"
        )


def generation() -> int:
    """Return the number of forks between this process and the one that imported nnx."""
    return _generation


def _all_free(seconds: float) -> tuple[list[Any], bool]:
    """Take the locks of all threads, so that none computes; return them, and whether all were taken."""
    deadline, taken, complete = time.monotonic() + seconds, [], True
    for found in _locks.valuerefs():
        lock = found()
        if lock is not None:
            if lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
                taken.append(lock)
            else:
                complete = False
    return taken, complete


_taken: list[Any] = []
_before: Callable[[], None] | None = None


def _before_fork() -> None:
    global _before, _closed, _taken
    _gate.acquire()  # by one fork at a time; others, and all calls, wait here
    _before, _closed = _closed, _wait
    _taken, complete = _all_free(FORK)
    if not complete:
        _log.warning(
            "a thread has computed for %.0f s, and is cut by this fork: what it uses may hang there", FORK
        )


def _wait() -> None:
    with _gate:
        pass


def _after_in_parent() -> None:
    global _closed, _taken
    _closed = _before
    for lock in _taken:
        lock.release()
    _taken = []
    _gate.release()


def _after_in_child() -> None:
    global _generation
    _generation += 1
    _after_in_parent()
    own = _locks.get(threading.get_ident())
    _locks.clear()  # the other threads are not here
    if own is not None:
        _locks[threading.get_ident()] = own


def _end() -> None:
    """Stop all other threads from computing: the interpreter is about to end."""
    global _closed
    this = threading.get_ident()

    def closed() -> None:
        if threading.get_ident() != this:
            raise SystemExit("the program ends")

    _closed = closed
    taken, _ = _all_free(END)
    for lock in taken:  # so that threads can leave their calls
        lock.release()
    deadline = time.monotonic() + GRACE
    while len(_locks) > (this in _locks) and time.monotonic() < deadline:
        time.sleep(0.001)


_own = _Own()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
