"""How long something takes: by the wall clock, or by a GPU's own events."""

import time
from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeAlias

Clock: TypeAlias = Callable[[Callable[[], Any]], float]
"""clock(run) -> the seconds from the start of run to the end of all that it queued."""


def nothing() -> None:
    """Wait for nothing: where the work is done when the call returns."""


def wall(wait: Callable[[], Any] = nothing) -> Clock:
    """Return the wall clock, read after `wait`.

    Examples
    --------
    >>> 0 < wall()(lambda: sum(range(1000))) < 60
    True
    """

    def clock(run: Callable[[], Any]) -> float:
        start = time.perf_counter()
        run()
        wait()
        return time.perf_counter() - start

    return clock


def torch_events(device: Any) -> Clock:
    """Return the clock of two CUDA events in PyTorch's current stream."""
    torch: Any = import_module("torch")

    def clock(run: Callable[[], Any]) -> float:
        torch.cuda.synchronize(device)
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / 1e3  # from milliseconds

    return clock


def cupy_events() -> Clock:
    """Return the clock of two CUDA events in CuPy's current stream."""
    cupy = import_module("cupy")

    def clock(run: Callable[[], Any]) -> float:
        cupy.cuda.get_current_stream().synchronize()
        start, end = cupy.cuda.Event(), cupy.cuda.Event()
        start.record()
        run()
        end.record()
        end.synchronize()
        return float(cupy.cuda.get_elapsed_time(start, end)) / 1e3

    return clock
