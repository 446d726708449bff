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
    RuntimeError
        For a KeyboardInterrupt or SystemExit of the library's own: Ctrl-C never reaches another thread.

    Examples
    --------
    >>> within(10, lambda: 6 * 7)
    42
    """
    found: list[tuple[bool, Any]] = []
    done, lock, given_up = Event(), Lock(), Event()

    def work() -> None:
        outcome: Any
        try:
            good, outcome = True, action()
        except BaseException as error:
            good, outcome = False, error
        with lock:
            found.append((good, outcome))
            is_late = given_up.is_set()
        done.set()
        if is_late and good and late is not None:
            with suppress(Exception):
                late(outcome)

    Thread(target=work, daemon=True).start()
    try:
        done.wait(seconds)
    finally:
        with lock:
            if not found:
                given_up.set()
    if given_up.is_set():
        raise TimeoutError(f"no answer within {seconds:g} seconds")
    good, outcome = found[0]
    if not good and not isinstance(outcome, Exception):
        raise RuntimeError(f"the library raised {type(outcome).__name__}") from outcome
    if not good:
        raise outcome
    return outcome  # type: ignore[no-any-return]
