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

from nnx.backends.calls.fewer_threads import Fewer
from nnx.backends.numba.blas import blas
from nnx.support.limits import cores

ALONE = 100e-6
"""Seconds of a step up to which one thread is quicker: each meeting costs some 0.2 us, and a step has a few dozen."""

NOBODY = 1 << 62
"""Arrivals enough for every meeting: nobody waits any more."""

_turn = threading.Lock()
"""The threads, and BLAS's setting, are one in a process: who finds them taken goes alone."""

_crew: "Crew | None" = None

_done = 0.0
"""When threads last did something together."""

LULL = 0.05
"""Seconds in which whoever has done steps together will soon do more."""


def _in_child() -> None:
    global _turn, _crew
    _turn, _crew = threading.Lock(), None  # a fork has none of its parent's threads


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


def together(
    function: Callable[..., Any], work: float, *arguments: Any, linger: Callable[..., Any] | None = None
) -> None:
    """Call function(t, T, sync, *arguments) in T threads, t = 0, 1, ...: as many as BLAS may use now, if worth it.

    Parameters
    ----------
    function : callable
    work : float
        Seconds of a step on one core, roughly.
    linger : callable or None
        What a thread does when it is done: see `lingered`.
    """
    if work > ALONE:
        with crew() as found:
            if found is not None:
                found.do(function, arguments, linger)
                return
    function(0, 1, np.zeros(8, np.int64), *arguments)


@contextmanager
def crew() -> "Iterator[Crew | None]":
    """Give the threads, for as long as BLAS has one; None where one is all there is, or somebody else has them."""
    global _crew, _done
    if not _turn.acquire(blocking=False):
        yield None
        return
    try:
        T, limited = _threads()
        found = _crew_of(T) if T > 1 else None
        if found is None:
            yield None
            return
        _crew = None  # who is interrupted leaves none to the next call
        try:
            with limited():
                yield found
        except BaseException:
            found.end()
            raise
        _crew, _done = found, time.monotonic()
    finally:
        _turn.release()


class Crew:
    """Threads that run already, so that none has to be started in a step, and what they meet by.

    Parameters
    ----------
    T : int
        How many do something together, with the one that asks for it.

    Raises
    ------
    RuntimeError
        When the system has no more threads, or the interpreter is about to end.
    """

    def __init__(self, T: int) -> None:
        self.T = T
        self._sync = np.zeros(16, np.int64)
        self._given: list[SimpleQueue[Any]] = []
        self._threads: list[threading.Thread] = []
        try:
            for t in range(1, T):
                self._given.append(SimpleQueue())
                thread = threading.Thread(target=self._serve, args=(t, self._given[-1]), daemon=True)
                thread.start()
                self._threads.append(thread)
        except BaseException:
            self.end()
            raise

    def do(self, function: Callable[..., Any], arguments: Any, linger: Callable[..., Any] | None) -> None:
        """Call function(t, T, sync, *arguments) in all threads, t = 0 in this one; raise what one of them raises.

        An interrupt, Ctrl-C above all, ends the threads, and so does a failure: what one may still do disturbs no later
        call.
        """
        finished: list[BaseException | None] = []
        told: SimpleQueue[None] = SimpleQueue()
        self._sync[0] = 0
        try:
            for given in self._given:
                given.put((_core(), function, arguments, linger, finished, told))
            function(0, self.T, self._sync, *arguments)
            while len(finished) < self.T - 1:
                told.get()
            for error in finished:
                if error is not None:
                    raise error
        except BaseException:
            self._sync[0] = NOBODY
            self.end()
            for thread in self._threads:
                thread.join()
            raise

    def end(self) -> None:
        """Let the threads end when they are done."""
        for given in self._given:
            given.put(None)

    def _serve(self, t: int, given: "SimpleQueue[Any]") -> None:
        while (job := given.get()) is not None:
            linger, finished, told = job[3:]
            error, calls = self._share(t, *job[:3]), self._sync[8]
            del job  # nobody else has the arrays when the others are told
            finished.append(error)
            told.put(None)
            del error, finished, told
            if linger is not None:
                with suppress(Exception):  # it is no part of the work
                    linger(self._sync, calls)

    def _share(self, t: int, core: int, function: Callable[..., Any], arguments: Any) -> BaseException | None:
        try:
            _apart(core, t)
            function(t, self.T, self._sync, *arguments)
        except BaseException as error:
            self._sync[0] = NOBODY
            return error
        return None


def _crew_of(T: int) -> Crew | None:
    """Return T - 1 threads beside this one; None if they cannot be had."""
    if sys.is_finalizing():
        return None  # whoever had begun does nothing any more
    if _crew is not None and _crew.T == T:
        return _crew
    if _crew is not None:
        _crew.end()
    try:
        return Crew(T)
    except RuntimeError:
        return None


@contextmanager
def just_after() -> Iterator[None]:
    """Let BLAS have one thread in what is done just after something was done together, and before more of it is."""
    if time.monotonic() - _done > LULL or not _turn.acquire(blocking=False):
        yield
        return
    try:
        with _threads()[1]():
            yield
    finally:
        _turn.release()


def _apart(core: int, t: int) -> None:
    """Move this thread, if it is on the core of the first one, to the t-th after it; from there it may go anywhere.

    Linux may leave two threads that wait for each other on one core, while another has nothing to do.
    """
    if core < 0 or _core() != core:
        return
    places = sorted(os.sched_getaffinity(0))
    if core in places:
        os.sched_setaffinity(0, {places[(places.index(core) + t) % len(places)]})
        os.sched_setaffinity(0, places)


@lru_cache(maxsize=1)
def _where() -> Callable[[], int]:
    found = getattr(ctypes.CDLL(None), "sched_getcpu", None) if hasattr(os, "sched_setaffinity") else None
    return found or (lambda: -1)


def _core() -> int:
    """Return the core where this thread is now; -1 where that is not told."""
    return _where()()


@lru_cache(maxsize=1)
def _libraries() -> Any:
    """Return threadpoolctl's handles of BLAS, without any that has one thread, whatever it is told: MKL, above all."""
    from threadpoolctl import ThreadpoolController

    found = ThreadpoolController().select(user_api="blas").lib_controllers
    return [one for one in found if one.info().get("threading_layer") != "sequential"]


WITHOUT_COPIES = {"SkylakeX", "Cooperlake", "SapphireRapids"}
"""What OpenBLAS calls the processors for which it has products that copy nothing (with AVX-512; AMD's, too)."""

COPYING = {"Haswell", "Zen"}
"""What it calls those for which it always copies (with AVX2)."""


@lru_cache(maxsize=1)
def copy_limit() -> int:
    """Return the multiplications up to which BLAS copies nothing, 100^3; -1: it always does; -2: MKL; 0: else."""
    try:
        if blas().is_mkl:
            return -2
        found = {one.info().get("architecture") for one in _libraries()}
    except ImportError:
        return 0
    if found and found <= WITHOUT_COPIES:
        return 1_000_000
    return -1 if found and found <= COPYING else 0


def threads() -> int:
    """Return how many threads do a step together, at most."""
    try:
        return _threads()[0]
    except ImportError:
        return 1


def _get() -> list[int]:
    return [one.num_threads for one in _libraries()]


def _put(threads: list[int]) -> None:
    for one, count in zip(_libraries(), threads, strict=True):
        one.set_num_threads(count)


_one_thread = Fewer(_get, _put)


def look_again() -> None:
    """Find the libraries of BLAS anew: SciPy's or MKL may have been loaded since they were found."""
    if _one_thread.idle:
        _libraries.cache_clear()


def one_thread() -> Fewer | None:
    """Return what lets BLAS have one thread for a while; None without threadpoolctl."""
    try:
        _libraries()
    except ImportError:
        return None
    return _one_thread


def _threads() -> tuple[int, Callable[[], AbstractContextManager[Any]]]:
    """Return how many threads BLAS may use now, and what takes all but one from it for a while."""
    usual = _one_thread.usual()
    return min([*usual, cores()]) if usual or blas().is_mkl else 1, _one_thread
