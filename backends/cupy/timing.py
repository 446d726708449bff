"""How long a GPU takes for its calls, and which algorithm of a product takes least."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from nnx.backends.cupy.cublaslt import Heuristic, Matmul
from nnx.backends.cupy.gpu import Gpu
from nnx.errors import BackendError

CALLS, LONGEST, ROUNDS = 20, 0.02, 3
"""Calls in the graph that is timed, or as many as take so many seconds, and how often it is launched. The fastest
round counts."""

ALGORITHMS = 8
"""Algorithms of a product that are timed."""


def seconds(gpu: Gpu, enqueue: Callable[[Any], Any]) -> float:
    """Return the seconds that the GPU takes for a call, as it is repeated in a CUDA graph: no time of the host's.

    Parameters
    ----------
    gpu : Gpu
        In use.
    enqueue : callable
        Asks a stream for the call.
    """
    stream = gpu.cupy.cuda.get_current_stream()
    enqueue(stream)  # a library loads its kernels at their first call, which may be no part of a capture
    once = _elapsed(gpu, lambda: enqueue(stream))
    calls = max(1, min(CALLS, int(LONGEST / max(once, 1e-6))))

    def repeated(stream: Any) -> None:
        for _ in range(calls):
            enqueue(stream)

    graph = gpu.captured(repeated)
    return fastest_round(gpu, lambda: graph.launch(stream)) / calls


def fastest_round(gpu: Gpu, run: Callable[[], Any]) -> float:
    """Return the seconds between two events around a run, of the fastest of several after a first one."""
    return min([_elapsed(gpu, run) for _ in range(ROUNDS + 1)][1:])


def _elapsed(gpu: Gpu, run: Callable[[], Any]) -> float:
    cuda = gpu.cupy.cuda
    start, end, stream = cuda.Event(), cuda.Event(), cuda.get_current_stream()
    start.record(stream)
    run()
    end.record(stream)
    end.synchronize()
    return float(cuda.get_elapsed_time(start, end)) / 1e3  # from milliseconds


def choose_fastest(
    gpu: Gpu,
    matmul: Matmul,
    alignments: tuple[int, int, int],
    addresses: tuple[int, int, int],
    workspace: int,
) -> float:
    """Let a product take its fastest algorithm; return the seconds of a call.

    Parameters
    ----------
    gpu : Gpu
        In use.
    matmul : Matmul
    alignments, addresses : tuple of int
        Of the factors and the result: see `Matmul`.
    workspace : int
        The address of as many bytes as cuBLASLt may use.
    """
    timed: dict[float, Heuristic] = {}
    for algorithm in matmul.algorithms(gpu.lt, alignments, ALGORITHMS):
        matmul.choose(algorithm)
        with suppress(BackendError):  # some are refused at their first call only
            timed[seconds(gpu, lambda s: matmul(gpu.lt, addresses, workspace, s.ptr))] = algorithm
    if not timed:
        raise BackendError(f"cuBLASLt found algorithms for {matmul}, but can run none of them")
    matmul.choose(timed[min(timed)])
    return min(timed)
