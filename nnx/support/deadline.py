"""Calls of other libraries that may wait for a server for minutes: they get a time, and no more."""

from collections.abc import Callable
from contextlib import suppress
from threading import Event, Lock, Thread
from typing import Any, TypeVar

T = TypeVar("T")


def within(seconds: float, action: Callable[[], T], late: Callable[[T], Any] | None = None) -> T:
    """Return action(), which another thread does.

    Parameters
    ----------
    seconds : float
        The most that it may take.
    action : callable
    late : callable or None
        Called with the result in that thread, if it comes after that time, or after an interrupt of the wait.

    Raises
    ------
    TimeoutError
        When the time is over.

    Examples
    --------
    >>> within(10, lambda: 6 * 7)
    42
    """
    found: list[tuple[bool, Any]] = []
    done, lock, given_up = Event(), Lock(), Event()

    def work() -> None:
        try:
            result = True, action()
        except BaseException as error:
            result = False, error
        with lock:
            found.append(result)
            is_late = given_up.is_set()
        done.set()
        if is_late and result[0] and late is not None:
            with suppress(Exception):
                late(result[1])

    Thread(target=work, daemon=True).start()
    try:
        done.wait(seconds)
    finally:
        with lock:
            if not found:
                given_up.set()
    if given_up.is_set():
        raise TimeoutError(f"no answer within {seconds:g} seconds")
    good, result = found[0]
    if not good:
        raise result
    return result
