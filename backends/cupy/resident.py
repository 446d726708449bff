"""A training step with memory on a GPU: the launch of its CUDA graph is a step."""

import logging
from collections.abc import Callable
from typing import Any

from nnx.array.gather import Data
from nnx.array.namespace import Array
from nnx.backends.cupy import loop
from nnx.backends.cupy.calls import Calls, has_layout
from nnx.backends.cupy.gpu import ALIGNED, Gpu, aligned, offsets
from nnx.backends.cupy.state import StateMemory
from nnx.backends.cupy.step import RenderedStep
from nnx.compiler.schedule import Memory
from nnx.support.processes import give_way

_log = logging.getLogger("nnx")


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
        Of products: see `nnx.backend`.
    working : callable
        Returns memory of at least so many bytes, which other steps may use between the runs of this one.
    data : (X, Y, w), optional
        All samples, if each step is on all of them: what lies as the step reads it is read where it is.

    Attributes
    ----------
    calls : Calls
        The calls of a step, from picking its samples to keeping its cost.
    addresses : dict
        Where the memory that they use lies.
    has_no_graph : bool
        Whether CUDA has refused the graph.
    """

    def __init__(
        self,
        gpu: Gpu,
        rendered: RenderedStep,
        state: StateMemory,
        precision: str,
        working: Callable[[int], Array],
        data: Data | None = None,
    ) -> None:
        self._gpu, graph, place = gpu, rendered.schedule.graph, rendered.schedule.place
        old, batch = graph.arguments
        home = state.home.data.ptr
        self.addresses = {place(x).memory: home + state.offsets[name] for name, x in old.items()}
        samples = zip(batch, data or (), strict=data is not None)
        own = {x for x, stride in rendered.strides.items() if stride}
        whole = [
            (place(x), array) for x, array in samples if array is not None and place(x).memory not in own
        ]
        given = {at.memory: array.data.ptr for at, array in whole if has_layout(array, at, ALIGNED)}
        self.addresses |= given
        self.calls = Calls(gpu, loop.with_loop(rendered, given), precision)
        places, size = offsets({x: n for x, n in self.calls.memory.items() if x not in self.addresses})
        self._working = working(size)
        self.addresses |= {x: self._working.data.ptr + start for x, start in places.items()}
        self._begin = gpu.module(loop.SOURCE).get_function("begin")
        self._cost, self._graph = graph.result[1].dtype, None
        self._members = () if rendered.members is None else (rendered.members,)
        self._is_warm = self.has_no_graph = False

    def run(self, data: Data, order: Array | None, at: int, count: int, stream: Any) -> Array:
        """Do `count` steps; return their costs. See `nnx.port.program.Program.run`."""
        Js = self.begin(data, order, at, count)
        for _ in range(count):
            self.step(stream)
            give_way()
        return Js

    def begin(self, data: Data, order: Array | None, at: int, count: int) -> Array:
        """Make ready for so many steps at most; return the memory of their costs."""
        Js = self._gpu.cupy.empty((count, *self._members), self._cost)
        self._begin((1,), (1,), loop.begin(self.addresses[loop.TABLE], data, order, at, Js.data.ptr))
        return Js

    def step(self, stream: Any) -> None:
        """Do a step, after `begin`."""
        if self._graph is None and self._is_warm and not self.has_no_graph:
            try:
                self._graph = self._gpu.captured(self._enqueue)
                _log.debug("a step is a CUDA graph")
            except Exception as error:  # a library or a driver may refuse; a lost GPU refuses the calls, too
                _log.info("a step is no CUDA graph, and runs call by call: %s", error)
                self.has_no_graph = True
        if self._graph is None:
            self._enqueue(stream)
            self._is_warm = True
        else:
            self._graph.launch(stream)

    def _enqueue(self, stream: Any) -> None:
        self.calls.enqueue(stream, self.addresses)


def step_bytes(rendered: RenderedStep) -> int:
    """Return the bytes that a step needs beside its state and the workspaces of products."""
    state = {Memory("input", k) for k in range(len(rendered.schedule.graph.arguments[0]))}
    return sum(aligned(nbytes) for x, nbytes in rendered.memory.items() if x not in state)
