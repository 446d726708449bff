"""The threads that do a compiled step together, while BLAS has one in each of them."""

import ctypes
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import lru_cache
from queue import SimpleQueue
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

_pool: "ThreadPool | None" = None

_last_call = 0.0
"""When threads have last done something together."""


def _in_child() -> None:
    global _turn, _pool
    _turn, _pool = threading.Lock(), None  # a fork has none of its parent's threads


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


def run_in_threads(
    function: Callable[..., Any], seconds: float, *arguments: Any, linger: Callable[..., Any] | None = None
) -> None:
    """Call function(t, T, sync, *arguments) in T threads, t = 0, 1, ...: as many as BLAS may use now, if worth it.

    Parameters
    ----------
    function : callable
        Waits for the other threads by the int64 array `sync`: see the runtime's `barrier`.
    seconds : float
        Of a step on one core, roughly.
    linger : callable or None
        What a thread does after its part: see the runtime's `wait_for_next_call`.
    """
    if seconds > SINGLE_THREAD_SECONDS:
        with _threads() as pool:
            if pool is not None:
                pool.run(function, arguments, linger)
                return
    function(0, 1, np.zeros(8, np.int64), *arguments)


@contextmanager
def _threads() -> "Iterator[ThreadPool | None]":
    """Give the threads, and BLAS one thread meanwhile; None where one is all there is, or another call has them."""
    global _pool, _last_call
    if not _turn.acquire(blocking=False):
        yield None
        return
    try:
        T, one_thread = blas_threads()
        pool = _pool_of(T) if T > 1 else None
        if pool is None:
            yield None
            return
        _pool = None  # an interrupt leaves no pool to the next call
        try:
            with one_thread():
                yield pool
        except BaseException:
            pool.end()
            raise
        _pool, _last_call = pool, time.monotonic()
    finally:
        _turn.release()


class ThreadPool:
    """Threads that wait for calls, so that no step has to start one.

    Parameters
    ----------
    T : int
        How many do a call together, with the thread that asks for it.

    Raises
    ------
    RuntimeError
        When the system has no more threads, or the interpreter is about to end.
    """

    def __init__(self, T: int) -> None:
        self.T = T
        self._sync = np.zeros(16, np.int64)
        self._calls: list[SimpleQueue[Any]] = []
        self._threads: list[threading.Thread] = []
        try:
            for t in range(1, T):
                self._calls.append(SimpleQueue())
                thread = threading.Thread(target=self._serve, args=(t, self._calls[-1]), daemon=True)
                thread.start()
                self._threads.append(thread)
        except BaseException:
            self.end()
            raise

    def run(self, function: Callable[..., Any], arguments: Any, linger: Callable[..., Any] | None) -> None:
        """Call function(t, T, sync, *arguments) in all threads, t = 0 in this one; raise an error of any of them.

        An interrupt or an error ends the threads, and is raised when they have ended: they write into no array later.
        """
        errors: list[BaseException | None] = []
        done: SimpleQueue[None] = SimpleQueue()
        self._sync[0] = 0
        try:
            for calls in self._calls:
                calls.put((_core(), function, arguments, linger, errors, done))
            function(0, self.T, self._sync, *arguments)
            while len(errors) < self.T - 1:
                done.get()
            for error in errors:
                if error is not None:
                    raise error
        except BaseException:
            self._sync[0] = RELEASE
            self.end()
            for thread in self._threads:
                thread.join()
            raise

    def end(self) -> None:
        """Let the threads end after their calls."""
        for calls in self._calls:
            calls.put(None)

    def _serve(self, t: int, calls: "SimpleQueue[Any]") -> None:
        while (call := calls.get()) is not None:
            linger, errors, done = call[3:]
            error, number = self._part(t, *call[:3]), self._sync[8]
            del call  # the arrays are the caller's alone when it goes on
            errors.append(error)
            done.put(None)
            del error, errors, done
            if linger is not None:
                with suppress(Exception):  # it is no part of the work
                    linger(self._sync, number)

    def _part(self, t: int, core: int, function: Callable[..., Any], arguments: Any) -> BaseException | None:
        try:
            _leave_core(core, t)
            function(t, self.T, self._sync, *arguments)
        except BaseException as error:
            self._sync[0] = RELEASE
            return error
        return None


def _pool_of(T: int) -> ThreadPool | None:
    """Return T - 1 threads beside this one; None if they cannot be had."""
    if sys.is_finalizing():
        return None
    if _pool is not None and _pool.T == T:
        return _pool
    if _pool is not None:
        _pool.end()
    try:
        return ThreadPool(T)
    except RuntimeError:
        return None


@contextmanager
def one_thread_after_steps() -> Iterator[None]:
    """Let BLAS have one thread in what is done between compiled steps."""
    if time.monotonic() - _last_call > SOON_SECONDS or not _turn.acquire(blocking=False):
        yield
        return
    try:
        with blas_threads()[1]():
            yield
    finally:
        _turn.release()


def blas_threads() -> tuple[int, Callable[[], AbstractContextManager[Any]]]:
    """Return how many threads BLAS may use now, and the context in which it has one."""
    usual = FEWER.usual()
    return min([*usual, cores()]) if usual or blas().is_mkl else 1, FEWER


def threads() -> int:
    """Return how many threads do a step together, at most."""
    try:
        return blas_threads()[0]
    except ImportError:
        return 1


def _leave_core(core: int, t: int) -> None:
    """Move this thread, if it is on the first one's core, to the t-th after it; from there it may go anywhere.

    Linux may leave two threads that wait for each other on one core, while another core has nothing to do.
    """
    if core < 0 or _core() != core:
        return
    places = sorted(os.sched_getaffinity(0))
    if core in places:
        os.sched_setaffinity(0, {places[(places.index(core) + t) % len(places)]})
        os.sched_setaffinity(0, places)


@lru_cache(maxsize=1)
def _core_function() -> Callable[[], int]:
    found = getattr(ctypes.CDLL(None), "sched_getcpu", None) if hasattr(os, "sched_setaffinity") else None
    return found or (lambda: -1)


def _core() -> int:
    """Return the core where this thread is now; -1 where the system does not tell."""
    return _core_function()()
