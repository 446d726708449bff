"""The calls of a rendered function, ready to be asked of streams."""

from collections.abc import Mapping
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np

from nnx.array.namespace import Array
from nnx.backends.cupy.cublaslt import Matmul
from nnx.backends.cupy.gpu import ALIGNED, Gpu, offsets
from nnx.backends.cupy.ranks import enqueue
from nnx.backends.cupy.step import Argument, Call, Launch, Product, RenderedStep, SumOverRanks, arguments
from nnx.backends.cupy.streams import planned
from nnx.compiler.ir.operations import itemsize
from nnx.compiler.schedule import Memory, Place

PRELUDE = Path(__file__).with_name("prelude.cuh")
"""What the kernels have in common."""

LASTING = frozenset({"scratch", "constant"})
"""Kinds of memory whose numbers a function counts on from one call to the next. All but constants are 0 at first."""

WORKSPACES = Memory("workspace", 0), Memory("workspace", 1)
"""What products on each of the two streams use beside their matrices."""

CALL_SECONDS, FLOPS = 2e-6, 50e12
"""Roughly, what a call takes at least, and how many operations a second a product does."""


class Calls:
    """The kernels and products of a function, on two streams, with their lasting memory.

    Parameters
    ----------
    gpu : Gpu
    rendered : RenderedStep
    precision : str
        Of products: see `nnx.backend`.
    alignments : dict
        The power of two that divides the address of a memory, where it is not `ALIGNED`.

    Attributes
    ----------
    calls : tuple of Launch, Product or SumOverRanks
    sums : bool
        Whether numbers of several ranks are added up.
    memory : dict
        The bytes of each memory that a caller must provide.
    """

    def __init__(
        self, gpu: Gpu, rendered: RenderedStep, precision: str, alignments: Mapping[Memory, int] | None = None
    ) -> None:
        self._gpu, self.calls = gpu, rendered.calls
        self.sums = any(isinstance(call, SumOverRanks) for call in rendered.calls)
        self._module = gpu.module(PRELUDE.read_text(encoding="utf-8") + rendered.source)
        self._plan = planned(rendered.after, [seconds(call) for call in rendered.calls])
        names = {call.kernel for call in rendered.calls if isinstance(call, Launch)}
        self._kernels = {name: self._module.get_function(name) for name in names}
        workspaces = self._find_algorithms(precision, alignments or {}, rendered.strides)
        lasting = {x: nbytes for x, nbytes in rendered.memory.items() if x.kind in LASTING}
        self.memory = {x: nbytes for x, nbytes in rendered.memory.items() if x not in lasting}
        self.memory |= dict(zip(WORKSPACES, workspaces, strict=True))
        places, size = offsets(lasting)
        self._lasting = gpu.empty(size)
        self._lasting[...] = 0
        for x, array in ((x, array) for x, array in rendered.constants.items() if x in places):
            gpu.view(self._lasting, places[x], array.shape, array.dtype)[...] = gpu.cupy.asarray(array)
        self._addresses = {x: self._lasting.data.ptr + start for x, start in places.items()}

    def _find_algorithms(
        self, precision: str, alignments: Mapping[Memory, int], strides: Mapping[Memory, int]
    ) -> list[int]:
        """Describe all products and find their algorithms; return the bytes of the two workspaces."""
        self._matmuls: dict[int, Matmul] = {}
        workspaces = [0, 0]
        for k, call in enumerate(self.calls):
            if isinstance(call, Product):
                matmul = self._matmuls[k] = Matmul(self._gpu.lt.library, call, precision)
                a, b, c = (
                    gcd(x.alignment, alignments.get(x.memory, ALIGNED), strides.get(x.memory, 0))
                    for x in arguments(call)
                )
                matmul.choose(matmul.algorithms(self._gpu.lt, (a, b, c))[0])
                side = self._plan.beside[k]
                workspaces[side] = max(workspaces[side], matmul.workspace)
        return workspaces

    def enqueue(self, main: Any, given: Mapping[Memory, int]) -> None:
        """Ask a stream for all calls, and the GPU's second stream for those that may run beside them.

        Parameters
        ----------
        main : stream
        given : dict
            The addresses of `memory`.
        """
        addresses = {**self._addresses, **given}
        if not any(self._plan.beside):
            self._enqueue((main, main), addresses)
            return
        side = self._gpu.streams[1]
        side.wait_event(self._gpu.event(main))
        try:
            self._enqueue((main, side), addresses)
        finally:  # after an interrupt, too: the next calls must not run beside these
            main.wait_event(self._gpu.event(side))

    def _enqueue(self, streams: tuple[Any, Any], addresses: Mapping[Memory, int]) -> None:
        plan = self._plan
        awaited, events = plan.awaited, dict[int, Any]()
        for k, (beside, wait) in enumerate(zip(plan.beside, plan.waits, strict=True)):
            stream = streams[beside]
            if wait is not None:
                stream.wait_event(events[wait])
            self._ask(k, stream, addresses)
            if k in awaited:
                events[k] = self._gpu.event(stream)

    def enqueue_one(self, k: int, stream: Any, given: Mapping[Memory, int]) -> None:
        """Ask a stream for call number k alone."""
        self._ask(k, stream, {**self._addresses, **given})

    def _ask(self, k: int, stream: Any, addresses: Mapping[Memory, int]) -> None:
        call = self.calls[k]
        if isinstance(call, SumOverRanks):
            enqueue(self._gpu.cupy, call, *(_address(x, addresses) for x in arguments(call)), stream)
        elif isinstance(call, Launch):
            with stream:
                grid = (call.grid,) if call.members == 1 else (call.grid, call.members)
                self._kernels[call.kernel](grid, (call.block,), _arguments(call, addresses))
        else:
            workspace = addresses[WORKSPACES[self._plan.beside[k]]]
            self._matmuls[k](self._gpu.lt, _addresses(call, addresses), workspace, stream.ptr)


def has_layout(x: Array, place: Place, alignment: int) -> bool:
    """Whether an array lies in memory as a place says, from an address on that is a multiple of some bytes."""
    strides = [stride // x.itemsize for stride in x.strides]
    alike = (n == 1 or a == b for n, a, b in zip(place.shape, strides, place.strides, strict=True))
    return bool(x.data.ptr % alignment == 0 and all(alike))


def seconds(call: Call) -> float:
    """Return roughly how long a call takes."""
    return CALL_SECONDS + (call.flops if isinstance(call, Product) else 0) / FLOPS


def _address(argument: Argument, addresses: Mapping[Memory, int]) -> int:
    return int(addresses[argument.memory] + argument.offset * itemsize(argument.dtype))


def _addresses(product: Product, addresses: Mapping[Memory, int]) -> tuple[int, int, int]:
    p = product
    return _address(p.a, addresses), _address(p.b, addresses), _address(p.c, addresses)


def _arguments(launch: Launch, addresses: Mapping[Memory, int]) -> tuple[Any, ...]:
    """Return a kernel's arguments as NumPy numbers, by which CuPy knows their sizes."""
    pointers = [np.uint64(_address(x, addresses)) for x in launch.arguments]
    return *pointers, *(np.dtype(dtype).type(number) for dtype, number in launch.numbers)
