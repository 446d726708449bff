"""Reading ahead: the next pieces are read, checked and copied to the device while a step computes."""

import logging
from collections.abc import Generator
from contextlib import closing
from contextvars import copy_context
from queue import SimpleQueue
from threading import Event, Semaphore, Thread, current_thread
from typing import Any, TypeVar

from nnx.errors import BackendError
from nnx.support.processes import generation

_log = logging.getLogger("nnx")

T = TypeVar("T")


def prefetch(pieces: Generator[T, Any, Any], depth: int = 2) -> Generator[T, None, None]:
    """Yield the items of `pieces`, which a thread reads ahead.

    The thread starts at the first request. It ends, and closes `pieces`, before the iterator
    does: at its end, at an error, or when it is closed early (leave it by ``with contextlib.closing(...)``). If the
    system starts no more threads, nothing is read ahead, and the log says so.

    Parameters
    ----------
    pieces : generator
        It runs only in the thread, in a copy of the caller's context (contextvars). Its errors are raised here,
        after the pieces before them.
    depth : int
        The most pieces that are read ahead; 0: no thread.

    Raises
    ------
    BackendError
        In a fork of the process that reads ahead: a fork does not have the thread.

    Examples
    --------
    >>> squares = (x * x for x in range(5))
    >>> list(prefetch(squares))
    [0, 1, 4, 9, 16]
    """
    if depth == 0:
        with closing(pieces):
            yield from pieces
        return
    ready: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()
    room, stop = Semaphore(depth), Event()

    def read() -> None:
        try:
            with closing(pieces):
                while True:
                    room.acquire()
                    if stop.is_set():
                        return
                    ready.put((next(pieces), None))
        except BaseException as error:  # StopIteration, too: the end
            ready.put((None, error))

    # A daemon, so that a program may end while an iterator is still open.
    thread = Thread(target=copy_context().run, args=(read,), name="nnx-prefetch", daemon=True)
    piece: Any = None
    error: BaseException | None = None
    process = generation()
    try:
        if not _started(thread):
            with closing(pieces):
                yield from pieces
            return
        while True:
            if generation() != process:
                raise BackendError(
                    "this process was forked in the middle of a fit, and lacks the thread that reads the samples; "
                    "begin a new fit in it"
                )
            piece, error = ready.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            room.release()
            yield piece
            piece = None  # release it before waiting for the next one
    finally:
        error = None  # its traceback holds this frame
        stop.set()
        room.release()
        if thread.is_alive() and thread is not current_thread():  # where the garbage collector may close us
            thread.join()


def _started(thread: Thread) -> bool:
    """Start a thread; if the system has no more, say so and return False."""
    try:
        thread.start()
    except RuntimeError as error:
        _log.warning("samples are not read ahead: %s", error)
        return False
    return True
