"""NumPy, on the CPU: always there."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import array_api_compat.numpy as xp
import numpy as np

from nnx.array.host import as_host, quiet
from nnx.backends.calls.program import CallProgram, Library, is_small
from nnx.backends.numpy.calls import render
from nnx.compiler import Graph
from nnx.compiler.thresholds import GROUP_BYTES
from nnx.port.base import Backend, only_cpu
from nnx.port.program import Program
from nnx.support.blas_threads import one_thread


class NumPy(Backend):
    """NumPy's arrays on the CPU."""

    name = "numpy"
    xp = xp

    def __init__(self, device: str | None = None) -> None:
        self.device = only_cpu("NumPy", device)

    def describe(self) -> str:
        """Return NumPy's version."""
        return f"numpy {np.__version__} on cpu: always there"

    def asarray(self, x: Any, dtype: str | None = None) -> Any:
        """Return x as a NumPy array; arrays of other libraries come over DLPack."""
        return np.asarray(as_host(x), dtype=dtype)

    def to_numpy(self, x: Any) -> Any:
        """Return x itself."""
        return x

    def compile(self, function: Callable[..., Any]) -> Program:
        """Return the function as a list of NumPy's calls, without NumPy's warnings: see `CallProgram`."""
        return CallProgram(function, LIBRARY)  # type: ignore[no-any-return]


def _take(rows: Any, places: Any, out: Any) -> Any:
    return np.take(rows, places, axis=0, out=out, mode="clip")  # "raise" writes into another array first


def _threads(graph: Graph) -> Callable[[], AbstractContextManager[None]]:
    """Return the context of a graph: BLAS has one thread for small products, where threadpoolctl is installed."""
    return (is_small(graph) and one_thread()) or nullcontext


LIBRARY = Library(render, np.empty, _take, quiet, _threads, GROUP_BYTES)
