"""The calls of a rendered function, ready to be asked of streams."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nnx.backends.cupy.cublaslt import Matmul
from nnx.backends.cupy.gpu import ALIGNED, Gpu
from nnx.backends.cupy.step import Argument, Call, Launch, Product, RenderedStep
from nnx.backends.cupy.streams import planned
from nnx.compiler.ir.operations import itemsize
from nnx.compiler.schedule import Memory

PRELUDE = Path(__file__).with_name("prelude.cuh")
"""What the kernels have in common."""

CTYPES = {
    "bool": np.bool_,
    "uint8": np.uint8,
    "int8": np.int8,
    "uint16": np.uint16,
    "int16": np.int16,
    "uint32": np.uint32,
    "int32": np.int32,
    "int64": np.int64,
    "uint64": np.uint64,
    "float32": np.float32,
    "float64": np.float64,
}
"""NumPy's type for the type of a kernel's number."""

CALL_SECONDS, FLOPS = 2e-6, 50e12
"""Roughly, what a call takes at least, and how many operations a second a product does."""


class Calls:
    """The kernels and products of a function, on two streams.

    Parameters
    ----------
    gpu : Gpu
    rendered : RenderedStep
    precision : str
        Of products: see `cublaslt.PRECISIONS`.
    aligned : dict
        For memory that does not begin at a multiple of `ALIGNED` bytes: an address that is as round as its own.

    Attributes
    ----------
    workspaces : tuple of int
        Bytes that products need on each of the two streams.
    """

    def __init__(
        self, gpu: Gpu, rendered: RenderedStep, precision: str, aligned: Mapping[Memory, int] | None = None
    ) -> None:
        self._gpu, self._calls = gpu, rendered.calls
        self._module = gpu.module(PRELUDE.read_text(encoding="utf-8") + rendered.source)
        self._plan = planned(rendered.after, [seconds(call) for call in rendered.calls])
        self._matmuls: dict[int, Matmul] = {}
        self._kernels: dict[str, Any] = {}
        for call in rendered.calls:
            if isinstance(call, Launch) and call.kernel not in self._kernels:
                self._kernels[call.kernel] = self._module.get_function(call.kernel)
        likely = dict.fromkeys((*rendered.memory, *rendered.constants), ALIGNED) | dict(aligned or {})
        workspaces = [0, 0]
        for k, call in enumerate(rendered.calls):
            if isinstance(call, Product):
                matmul = self._matmuls[k] = Matmul(gpu.lt.library, call, precision)
                matmul.choose(matmul.algorithms(gpu.lt, _addresses(call, likely))[0])
                side = self._plan.beside[k]
                workspaces[side] = max(workspaces[side], matmul.workspace)
        self.workspaces = tuple(workspaces)

    def enqueue(self, main: Any, addresses: Mapping[Memory, int], workspaces: tuple[int, int]) -> None:
        """Ask a stream for all calls, and the GPU's second stream for those that may run beside them.

        Parameters
        ----------
        main : stream
        addresses : dict
            Of each memory.
        workspaces : tuple of int
            The address of each stream's own.
        """
        gpu, plan = self._gpu, self._plan
        streams = main, gpu.streams[1]
        forks = any(plan.beside)
        if forks:
            streams[1].wait_event(gpu.event(main))
        events = {}
        for k, call in enumerate(self._calls):
            stream, wait = streams[plan.beside[k]], plan.waits[k]
            if wait is not None:
                stream.wait_event(events[wait])
            if isinstance(call, Launch):
                with stream:
                    self._kernels[call.kernel]((call.grid,), (call.block,), _arguments(call, addresses))
            else:
                workspace = workspaces[plan.beside[k]]
                self._matmuls[k](gpu.lt, _addresses(call, addresses), workspace, stream.ptr)
            if k in plan.awaited:
                events[k] = gpu.event(stream)
        if forks:
            main.wait_event(gpu.event(streams[1]))


def _address(argument: Argument, addresses: Mapping[Memory, int]) -> int:
    return addresses[argument.memory] + argument.offset * itemsize(argument.dtype)


def _addresses(product: Product, addresses: Mapping[Memory, int]) -> tuple[int, int, int]:
    p = product
    return _address(p.a, addresses), _address(p.b, addresses), _address(p.c, addresses)


def _arguments(launch: Launch, addresses: Mapping[Memory, int]) -> tuple[Any, ...]:
    """Return a kernel's arguments as NumPy numbers of their C types."""
    pointers = [np.uint64(_address(x, addresses)) for x in launch.arguments]
    return *pointers, *(CTYPES[ctype](number) for ctype, number in launch.numbers)


def seconds(call: Call) -> float:
    """Return roughly how long a call takes."""
    flops = 2 * call.m * call.n * call.k if isinstance(call, Product) else 0
    return CALL_SECONDS + flops / FLOPS
