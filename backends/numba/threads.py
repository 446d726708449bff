"""The threads that do a compiled step together, while BLAS has one in each of them."""

import ctypes
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

import numpy as np

from nnx.backends.numba.blas import blas
from nnx.compiler.thresholds import SINGLE_THREAD_SECONDS, SOON_SECONDS
from nnx.support.blas_threads import FEWER
from nnx.support.limits import cores

RELEASE = 1 << 62
"""A count of arrivals that releases every barrier after a failure."""

_turn = threading.Lock()
"""The threads, and BLAS's setting, are one in a process: a call that finds them in use does all with its own thread."""


class ThreadPool(ThreadPoolExecutor):
    """The threads that do a call with the one that asks for it: they wait for calls, so that no step starts one."""

    def __init__(self, T: int) -> None:
        super().__init__(T - 1)
        self.T = T


_pool: ThreadPool | None = None

_last_call = 0.0
"""When threads have last done something together."""


def _in_child() -> None:
    global _turn, _pool
    _turn, _pool = threading.Lock(), None  # a fork has none of its parent's threads


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


def run_in_threads(function: Callable[..., Any], seconds: float, *arguments: Any) -> None:
    """Call function(t, T, sync, *arguments) in T threads, t = 0, 1, ...: as many as BLAS may use now, if worth it.

    The function waits for the other threads by the int64 array `sync`: see the runtime's `barrier`. `seconds` is about
    what one step takes on one core.
    """
    global _last_call
    if seconds > SINGLE_THREAD_SECONDS and not _turn.locked():
        with _turn:
            T = blas_threads()
            if T > 1:
                with FEWER():
                    done = _run(T, function, [*arguments])
                _last_call = time.monotonic()
                if done:
                    return
    function(0, 1, np.zeros(8, np.int64), *arguments)


def _run(T: int, function: Callable[..., Any], arguments: list[Any]) -> bool:
    """Call function(t, T, sync, *arguments) in T threads, t = 0 in this one; raise an error of any of them.

    An interrupt or an error ends the threads, and is raised when they have ended: they write into no array later.
    False: threads cannot be had, since the system has no more or the program is about to end.
    """
    global _pool
    core = _core()
    sync, all_here = np.zeros(8, np.int64), Future[bool]()

    def part(t: int) -> None:
        try:
            if all_here.result():
                if t:
                    _leave_core(core, t)
                function(t, T, sync, *arguments)
        except BaseException:
            sync[0] = RELEASE
            raise

    pool = _pool if _pool is not None and _pool.T == T else ThreadPool(T)
    if _pool is not None and _pool is not pool:
        _pool.shutdown()
    _pool = None  # a failure leaves no threads to the next call
    try:
        try:
            others = [pool.submit(part, t) for t in range(1, T)]
        except RuntimeError:
            return False
        all_here.set_result(True)
        part(0)
        for other in others:
            other.result()
        _pool = pool
    finally:
        if _pool is None:
            sync[0] = RELEASE
            if not all_here.done():
                all_here.set_result(False)
            pool.shutdown()
        arguments.clear()  # the arrays are the caller's alone when it goes on
    return True


def one_thread_after_steps() -> AbstractContextManager[None]:
    """Return the context of what is done between compiled steps: BLAS has one thread."""
    return FEWER() if time.monotonic() - _last_call <= SOON_SECONDS else nullcontext()


def blas_threads() -> int:
    """Return how many threads BLAS may use now."""
    usual = FEWER.usual()
    return min([*usual, cores()]) if usual or blas().is_mkl else 1


def threads() -> int:
    """Return how many threads do a step together, at most."""
    try:
        return blas_threads()
    except ImportError:
        return 1


def _leave_core(core: int, t: int) -> None:
    """Move this thread, if it is on the first one's core, to the t-th after it; from there it may go anywhere.

    Linux may leave two threads that wait for each other on one core, while another core has nothing to do:
    12288-20-7-5-1 with 1 sample took 1.2 to 1.6 times as long.
    """
    if core < 0 or _core() != core:
        return
    places = sorted(os.sched_getaffinity(0))
    if core in places:
        with suppress(OSError):  # a sandbox may forbid it
            os.sched_setaffinity(0, {places[(places.index(core) + t) % len(places)]})
            os.sched_setaffinity(0, places)


_getcpu = getattr(ctypes.CDLL(None), "sched_getcpu", None) if hasattr(os, "sched_setaffinity") else None


def _core() -> int:
    """Return the core where this thread is now; -1 where the system does not tell."""
    return _getcpu() if _getcpu else -1
