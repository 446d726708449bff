"""Ranks as threads of one process: quick, and without MPI."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from nnx.port.communicator import Alone, Communicator

SECONDS = 30
"""A rank that waits so long for the others fails."""


class _Shared:
    def __init__(self, size):
        self.barrier = threading.Barrier(size, timeout=SECONDS)
        self.failures = threading.Barrier(size)
        self.vectors = [None] * size


class ThreadRank(Communicator):
    """A rank that is a thread. Sums are in the order of the ranks."""

    name = "threads"

    def __init__(self, rank, shared):
        self.rank, self.size, self._shared = rank, len(shared.vectors), shared
        self.sums = []

    def _exchanged(self, vector):
        if self._shared.seconds:
            time.sleep(random.random() * self._shared.seconds)
        self._shared.vectors[self.rank] = np.array(vector)
        self._shared.barrier.wait()
        found = list(self._shared.vectors)
        self._shared.barrier.wait()
        assert len({(x.shape, x.dtype) for x in found}) == 1, found
        return found

    def sum(self, vector):
        self.sums.append(len(vector))
        vector[:] = (
            type(vector)(vector.typecode, sum(self._exchanged(vector)))
            if hasattr(vector, "typecode")
            else sum(self._exchanged(vector))
        )

    def broadcast(self, vector, root=0):
        its = self._exchanged(np.frombuffer(vector, np.uint8))[root]
        np.frombuffer(vector, np.uint8)[:] = its

    def barrier(self):
        self._shared.barrier.wait()

    def meet(self, seconds):
        try:
            self._shared.failures.wait(seconds)
        except threading.BrokenBarrierError:
            return False
        return True

    def abort(self, code=1):
        self._shared.barrier.abort()
        raise SystemExit(code)


class Second(Alone):
    """As the second of two ranks. `all_fail`: the other one fails, too."""

    rank, size = 1, 2

    def __init__(self, all_fail):
        self.all_fail = all_fail

    def meet(self, seconds):
        return self.all_fail


def in_ranks(size, function, *arguments, slow=False):
    """Return function(communicator, *arguments) of each rank, a list.

    `slow`: each comes late, by some milliseconds, at random.
    """
    shared = _Shared(size)
    shared.seconds = 0.004 * slow

    def rank(number):
        try:
            return function(ThreadRank(number, shared), *arguments)
        except BaseException:
            shared.barrier.abort()  # the others need not wait
            raise

    with ThreadPoolExecutor(size) as pool:
        return [each.result() for each in [pool.submit(rank, number) for number in range(size)]]
