"""Ctrl-C while the command `nnx` imports its code: one line and an exit status, and no traceback."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

INTERRUPTED = 130
"""The exit status after Ctrl-C."""

SAID = "Stopped by Ctrl-C before anything was done: nothing is written."


def is_command() -> bool:
    """Return whether this process is the command, as `nnx ...` or `python -m nnx ...`, and not a program of a user."""
    if not sys.argv or not sys.argv[0]:
        return False
    if (
        sys.argv[0] == "-m"
    ):  # so it is until Python has found the module, whose name stands before the arguments
        return sys.orig_argv[-len(sys.argv)] in ("nnx", "-mnnx")
    return Path(sys.argv[0]).stem == "nnx"


def watch() -> None:
    """Let Ctrl-C end the command with one line, until `leave`; any other program is left as it is."""
    ours = threading.current_thread() is threading.main_thread()
    if ours and is_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def leave() -> None:
    """Let Ctrl-C raise a KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def hides_ctrl_c(error: BaseException, before: BaseException | None = None) -> bool:
    """Return whether a KeyboardInterrupt made this error of an import: extension modules make another one of it.

    `before` is `sys.exception()` before the import. An interrupt that was handled then is none of the import's.

    Examples
    --------
    >>> error = ImportError("initialization failed")
    >>> error.__cause__ = KeyboardInterrupt()
    >>> hides_ctrl_c(error), hides_ctrl_c(error, before=error.__cause__)
    (True, False)
    """
    old = {id(one) for one in _chain(before)}
    return any(isinstance(one, KeyboardInterrupt) and id(one) not in old for one in _chain(error))


@contextmanager
def ctrl_c_kept() -> Iterator[None]:
    """Let Ctrl-C within an import be a KeyboardInterrupt, also where an extension module made another error of it."""
    before = sys.exception()
    try:
        yield
    except Exception as error:
        if hides_ctrl_c(error, before):
            raise KeyboardInterrupt from error
        raise


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, and all that led to it."""
    left, seen = [error], set()
    while left:
        one = left.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            left += [one.__cause__, one.__context__]
            yield one


def _end(*_: Any) -> None:
    """End at once: an exception would pass through imports, some of which make it another one."""
    with suppress(OSError):
        os.write(2, f"{SAID}\n".encode())
    os._exit(INTERRUPTED)
