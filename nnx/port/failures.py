"""Failures of a run of several ranks: an error on one of them ends all, since the others would wait for it for ever."""

import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TypeAlias

from nnx.errors import Error
from nnx.port.communicator import Communicator

GRACE = 2.0
"""Seconds in which the other ranks must fail, too, if the error is that of all: the same wrong argument, say."""

FOR_EVER = 1e6
"""Seconds."""

SAVING = 60.0
"""Seconds for a program's rank 0 to save what it has, before an error that all ranks have ends it."""

FAILED, INTERRUPTED = 1, 130
"""Exit statuses."""

Say: TypeAlias = Callable[[str, BaseException], int]
"""say(where, error) prints the error of a rank, which ends all; it returns the exit status."""


@contextmanager
def together(communicator: Communicator) -> Iterator[None]:
    """Let an error within be that of all ranks: it is raised on each of them, or ends all processes.

    If all ranks fail within `GRACE` seconds, each raises its own error. Else this rank says its error, and ends all.
    Where another `together` is around it, the ranks wait there for the one that saves before it raises the error.
    """
    try:
        yield
    except BaseException as error:
        if communicator.size > 1:
            if not communicator.meet(FOR_EVER if _is_of_all(error) else GRACE):
                end_all(communicator, error)
            error.is_of_all_ranks = True  # type: ignore[attr-defined]
        raise


def _is_of_all(error: BaseException) -> bool:
    """Whether all ranks are known to have an error."""
    return getattr(error, "is_of_all_ranks", False)


def end_all(communicator: Communicator, error: BaseException) -> None:
    """Say the error of this rank, and end the processes of all."""
    where = f"rank {communicator.rank} of {communicator.size} failed, and ends all"
    communicator.abort(_say[-1](where, error))


def say_by(say: Say) -> None:
    """Let a program say in its own words what ends all ranks."""
    _say.append(say)


def _print(where: str, error: BaseException) -> int:
    """Print an error, whatever the program has made of `sys.stderr`; return the exit status."""
    if isinstance(error, Error):
        print(f"nnx: {where}: {error}", file=sys.__stderr__)
    else:
        traceback.print_exception(error, file=sys.__stderr__)
        print(f"nnx: {where}", file=sys.__stderr__)
    return INTERRUPTED if isinstance(error, KeyboardInterrupt) else FAILED


_say: list[Say] = [_print]


def watch(communicator: Communicator) -> None:
    """Let an error that nothing catches end all ranks. If it is that of all, rank 0 alone prints it."""
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
        if not communicator.meet(SAVING if _is_of_all(error) else GRACE):
            end_all(communicator, error)
        if communicator.rank == 0:
            before(kind, error, where)

    sys.excepthook = hook
