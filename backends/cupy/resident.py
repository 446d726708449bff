"""A training step with memory on a GPU: the launch of its CUDA graph is a step."""

from collections.abc import Callable, Mapping
from typing import Any

from nnx.array.gather import Data
from nnx.array.namespace import Array
from nnx.backends.cupy import loop
from nnx.backends.cupy.calls import Calls
from nnx.backends.cupy.gpu import Gpu, aligned
from nnx.backends.cupy.state import StateMemory
from nnx.backends.cupy.step import RenderedStep
from nnx.compiler.schedule import Memory
from nnx.support.processes import give_way

LASTING = frozenset({"scratch", "flag", "constant"})
"""The kinds of memory whose numbers a step counts on, from one step to the next."""


class ResidentStep:
    """A training step for one set of shapes.

    The first step runs call by call: what the libraries make at their first call cannot be made while a stream
    captures. The second one captures the graph. So a single step needs no graph.

    Parameters
    ----------
    gpu : Gpu
    rendered : RenderedStep
    state : StateMemory
        Steps change its block `home` in place.
    precision : str
        Of products: see `cublaslt.PRECISIONS`.
    working : callable
        Returns memory of at least so many bytes, which other steps may use between the runs of this one.
    """

    def __init__(
        self,
        gpu: Gpu,
        rendered: RenderedStep,
        state: StateMemory,
        precision: str,
        working: Callable[[int], Array],
    ) -> None:
        self._gpu = gpu
        step = loop.with_loop(rendered)
        addresses = _state_addresses(step, state)
        self._calls = Calls(gpu, step, precision, addresses)
        lasting = {
            x: nbytes for x, nbytes in step.memory.items() if x.kind in LASTING and x not in step.constants
        }
        lasting |= {x: int(array.nbytes) for x, array in step.constants.items()}
        others = {x: nbytes for x, nbytes in step.memory.items() if x not in lasting and x not in addresses}
        workspaces = {Memory("workspace", k): nbytes for k, nbytes in enumerate(self._calls.workspaces)}
        places, size = laid_out(lasting)
        self._lasting = gpu.empty(size)
        self._lasting[...] = 0
        for x, array in step.constants.items():
            gpu.view(self._lasting, places[x], array.shape, array.dtype)[...] = gpu.cupy.asarray(array)
        addresses |= {x: self._lasting.data.ptr + start for x, start in places.items()}
        places, size = laid_out(others | workspaces)
        self._working = working(size)
        addresses |= {x: self._working.data.ptr + start for x, start in places.items()}
        self._workspaces = addresses[Memory("workspace", 0)], addresses[Memory("workspace", 1)]
        self._addresses = addresses
        self._begin = gpu.module(loop.SOURCE).get_function("begin")
        self._cost = step.schedule.place(step.schedule.graph.result[1]).dtype
        self._is_met, self._graph = False, None

    def run(self, data: Data, order: Array | None, at: int, count: int, stream: Any) -> Array:
        """Do `count` steps; return their costs. See `nnx.port.program.Program.run`."""
        Js = self._gpu.cupy.empty(count, self._cost)
        self._begin((1,), (1,), loop.begin(self._addresses[loop.TABLE], data, order, at, Js.data.ptr))
        for _ in range(count):
            self._step(stream)
            give_way()
        return Js

    def _step(self, stream: Any) -> None:
        if self._graph is None:
            if not self._is_met:
                self._is_met = True
                self._enqueue(stream)
                return
            self._graph = self._gpu.captured(self._enqueue)
        self._graph.launch(stream)

    def _enqueue(self, stream: Any) -> None:
        self._calls.enqueue(stream, self._addresses, self._workspaces)


def _state_addresses(step: RenderedStep, state: StateMemory) -> dict[Memory, int]:
    """Return where the arrays of the state lie."""
    home, place = state.home.data.ptr, step.schedule.place
    return {
        place(x).memory: home + state.offsets[name] for name, x in step.schedule.graph.arguments[0].items()
    }


def laid_out(memory: Mapping[Memory, int]) -> tuple[dict[Memory, int], int]:
    """Return where each memory begins in one block, and the bytes of the block."""
    starts, end = {}, 0
    for x, nbytes in memory.items():
        starts[x] = end
        end += aligned(nbytes)
    return starts, end


def step_bytes(rendered: RenderedStep) -> int:
    """Return the bytes that a step needs beside its state and the workspaces of products."""
    state = {Memory("input", k) for k in range(len(rendered.schedule.graph.arguments[0]))}
    sizes = [nbytes for x, nbytes in rendered.memory.items() if x not in state]
    sizes += [int(array.nbytes) for array in rendered.constants.values()]
    return sum(map(aligned, sizes))
