"""A rank that has ended while others wait for it: by sys.exit, or since it calls less than they do."""

import atexit
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

EVERY = 1.0
"""Seconds between two looks for farewells."""

PATIENCE = 5.0
"""Seconds that a rank may wait in one call after another rank has ended: its numbers were sent before."""


class Farewells:
    """Each rank that ends tells the next one. A rank that waits all the same ends all.

    Some rank that has not ended is behind one that has, unless all have. So it is enough to tell the next.

    Parameters
    ----------
    mpi : module
        mpi4py.MPI.
    world : mpi4py.MPI.Comm
        Its messages are these alone.
    abort : callable
        Ends all.
    """

    def __init__(self, mpi: Any, world: Any, abort: Callable[[], Any]) -> None:
        self._mpi, self._world, self._abort, self._process = mpi, world, abort, os.getpid()
        self._since: float | None = None  # when the call began that waits for other ranks
        self._ends = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="nnx-farewells", daemon=True)
        if world.size > 1 and mpi.Query_thread() == mpi.THREAD_MULTIPLE:
            self._watcher.start()
            atexit.register(self._tell)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Return the context of a call that waits for other ranks."""
        self._since = time.monotonic()
        try:
            yield
        finally:
            self._since = None

    def _tell(self) -> None:
        if os.getpid() != self._process or self._mpi.Is_finalized():
            return
        self._ends.set()
        self._watcher.join()
        self._world.Isend([b"", self._mpi.BYTE], (self._world.rank + 1) % self._world.size)

    def _watch(self) -> None:
        before, gone = (self._world.rank - 1) % self._world.size, False
        while not self._ends.wait(EVERY):
            gone = gone or self._world.Iprobe(before)
            since = self._since
            if gone and since is not None and time.monotonic() - since > PATIENCE:
                print(
                    f"nnx: rank {before} has ended, and rank {self._world.rank} of {self._world.size} waits for it. "
                    "All ranks must call the same methods. This ends all",
                    file=sys.__stderr__,
                )
                self._abort()
