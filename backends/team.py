"""The threads that do a compiled step together, while BLAS has one in each of them."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

import numpy as np

ALONE = 100e-6
"""Seconds of a step up to which one thread is quicker: each meeting costs some 0.2 us, and a step has a few dozen."""


def together(function: Callable[..., Any], work: float, *arguments: Any) -> None:
    """Call function(t, T, sync, *arguments) in T threads, t = 0, 1, ...: as many as BLAS may use now, if worth it."""
    T, limited = _threads() if work > ALONE else (1, nullcontext)
    sync = np.zeros(8, np.int64)
    if T == 1:
        function(0, 1, sync, *arguments)
        return
    with limited():
        try:
            others = [_pool(os.getpid(), T).submit(function, t, T, sync, *arguments) for t in range(1, T)]
        except RuntimeError:  # the interpreter is about to end
            function(0, 1, sync, *arguments)
            return
        function(0, T, sync, *arguments)
        for other in others:
            other.result()


@lru_cache(maxsize=1)
def _pool(pid: int, T: int) -> ThreadPoolExecutor:
    """Return the threads of this process: a fork has none of its parent's."""
    return ThreadPoolExecutor(T - 1, thread_name_prefix="nnx")


@lru_cache(maxsize=1)
def _blas() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")


def _threads() -> tuple[int, Callable[[], AbstractContextManager[Any]]]:
    """Return how many threads BLAS may use now, and what takes all but one from it for a while."""
    blas = _blas()
    found = min((one.num_threads for one in blas.lib_controllers), default=1)
    return min(found, len(_cores())), lambda: blas.limit(limits=1)


def _cores() -> Any:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
