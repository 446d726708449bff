"""The standard streams: any text, closed ones, readers that end, disks that are full."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from nnx.cli import BROKEN_PIPE
from nnx.errors import Error, first_line


def prepare() -> None:
    """Make the standard streams ready for any text, also where one is closed (its object in `sys` is then None).

    The number of a closed one is taken, lest a file that is opened later gets it, and all that libraries print.
    """
    for number, stream in enumerate((sys.stdin, sys.stdout, sys.stderr)):
        if stream is None:
            try:
                os.fstat(number)
            except OSError:
                os.open(os.devnull, os.O_RDWR)  # it gets the least number that is free
    for stream in (sys.stdout, sys.stderr):
        if getattr(stream, "errors", None) == "strict" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def writing() -> Iterator[None]:
    """Write to the standard output within, and flush it at the end.

    Raises
    ------
    Error
        When it cannot be written.
    SystemExit
        When whoever reads it has had enough.
    """
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        ended()
    except OSError as error:
        if error.filename is not None:  # of a file
            raise
        leave(sys.stdout)
        raise Error(
            f"the standard output cannot be written: {error.strerror or first_line(error)}"
        ) from error


def ended() -> None:
    """End silently, as a program does whose reader has had enough."""
    leave(sys.stdout)
    leave(sys.stderr)
    sys.exit(BROKEN_PIPE)


def leave(stream: object) -> None:
    """Let what a stream still holds go nowhere, if it cannot be written: Python would try to at its end."""
    try:
        stream.flush()  # type: ignore[attr-defined]
    except (OSError, ValueError):
        with suppress(OSError, ValueError, AttributeError):  # what is no stream of the system's stays
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())  # type: ignore[attr-defined]
            os.close(nowhere)
    except AttributeError:  # closed
        pass
