"""The standard streams: any text, closed ones, readers that end, disks that are full."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from nnx.cli import BROKEN_PIPE
from nnx.errors import Error, first_line


def prepare() -> None:
    """Make the standard streams ready for any text, also where one is closed (its object in `sys` is then None).

    The null device takes the place of a closed one. Else a file that is opened later would get its number, and
    with it all that libraries print.
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
        When its reader has ended.
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
        raise unwritable(sys.stdout, "standard output", error) from error


def unwritable(stream: object, called: str, error: OSError) -> Error:
    """Return the error for a standard stream that cannot be written, such as on a full disk, and write it no more."""
    leave(stream)
    return Error(f"the {called} cannot be written: {error.strerror or first_line(error)}")


def ended() -> None:
    """End silently, with the status of a program whose reader has ended."""
    leave(sys.stdout)
    leave(sys.stderr)
    sys.exit(BROKEN_PIPE)


def leave(stream: object) -> None:
    """Drop the rest of a stream that cannot be written: Python would try again at its end."""
    try:
        stream.flush()  # type: ignore[attr-defined]
    except (OSError, ValueError):
        with suppress(OSError, ValueError, AttributeError):  # what is no stream of the system's stays
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())  # type: ignore[attr-defined]
            os.close(nowhere)
    except AttributeError:  # closed
        pass
