"""Ctrl-C outside of a fit: one line says how far the command came."""

from collections.abc import Iterator
from contextlib import contextmanager

STOPPED = "Stopped by Ctrl-C."
NOTHING = "Stopped by Ctrl-C: nothing is written."
NOT_BEGUN = "Stopped by Ctrl-C before the first epoch: nothing is saved."
AS_IT_WAS = "Stopped by Ctrl-C before the run went on: it is as it was."


class Stopped(KeyboardInterrupt):
    """Ctrl-C, with the line that is printed; without a line where it is printed already."""


def line_of(error: KeyboardInterrupt) -> str:
    """Return the line for Ctrl-C, "" where it is printed already.

    Examples
    --------
    >>> line_of(KeyboardInterrupt()), line_of(Stopped("Nothing is saved.")), line_of(Stopped())
    ('Stopped by Ctrl-C.', 'Nothing is saved.', '')
    """
    return str(error) if isinstance(error, Stopped) else STOPPED


@contextmanager
def at_ctrl_c(line: str) -> Iterator[None]:
    """Print this line where Ctrl-C ends the command within."""
    try:
        yield
    except Stopped:
        raise
    except KeyboardInterrupt as error:
        raise Stopped(line) from error
