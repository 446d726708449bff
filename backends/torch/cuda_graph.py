"""The program of PyTorch on a CUDA GPU: each step is the launch of a CUDA graph.

Each of the fifty calls of a step costs the host longer than the GPU takes for it. CUDA records them once as a graph,
and a launch of the graph is one call. A graph reads and writes fixed addresses: so its state and batch have memory of
their own. Nothing is copied between steps but each batch, into that memory.
"""

import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from nnx.array.gather import Data, batches, mini_batch
from nnx.array.namespace import Array
from nnx.backends.calls.program import CallProgram, Library, State, Step, arrays
from nnx.backends.calls.program_cache import ProgramCache, signature
from nnx.support.processes import give_way

Capture = Callable[[Callable[[], None]], Callable[[], Any]]
"""capture(run) calls run() once, lets CUDA record what a second call does, and returns what launches that."""


class CudaGraphProgram(CallProgram):  # type: ignore[misc]  # of nnx.backends, which mypy sees under another name
    """A program whose steps are CUDA graphs: see `CallProgram`.

    `run` copies the state into the graphs' memory before its first step, and out of it after the last one. So the
    state is as before the call until all steps are done. What is no graph runs as `CallProgram` runs it.
    """

    _state: State

    def __init__(self, function: Callable[..., Any], library: Library, capture: Capture) -> None:
        super().__init__(function, library, capture)
        self._capture = capture
        self._memory: State = {}  # of the state, for all graphs
        self._met: deque[Any] = deque(maxlen=8)  # the shapes of runs of one step that were no graph
        self._graphs = ProgramCache("a step is no CUDA graph", logging.INFO)

    def _run(self, data: Data, order: Array | None, at: int, m: int, count: int) -> Any:
        key = self._key(self._state, data, m, order)
        graph = None
        if count > 1 or key in self._graphs or key in self._met:
            graph = self._graphs.get_or_make(key, lambda: self._graph(data, order, at, m))
        else:  # one step of a size that may not come again is not worth a graph
            self._met.append(key)
        if graph is None:
            return super()._run(data, order, at, m, count)
        for name, x in self._memory.items():
            x[...] = self._state[name]
        new = self._spares(graph.step.changed)
        Js = self._library.empty((count, *graph.step.J.shape), graph.step.J.dtype)
        for k, batch in enumerate(batches(data, order, at, m, count, self._gathered)):
            graph.launch(batch, Js[k, ...])
            give_way()
        for name, x in new.items():
            x[...] = self._memory[name]
        self._state = {**self._state, **new}
        return Js

    def _graph(self, data: Data, order: Array | None, at: int, m: int) -> "_Graph":
        if signature(self._memory) != signature(self._state):
            self._memory = self._copies(tuple(self._state))
            self._graphs.clear()
        step, batch = self._traced_step(self._state, data, order, m), mini_batch(data, order, at, m)
        return _Graph(step, self._memory, batch, self._library, self._capture)


class _Graph:
    """A step as a graph, with its own memory for a batch and a cost."""

    def __init__(self, step: Step, memory: State, batch: Data, library: Library, capture: Capture) -> None:
        self.step = step
        self._batch = [library.empty_like(x) for x in arrays(batch)]
        self._J = library.empty(step.J.shape, step.J.dtype)
        self._take(batch)
        inputs, outs = [*memory.values(), *self._batch], [memory[name] for name in step.changed]
        self._launch = capture(lambda: step.call(inputs, [*outs, self._J]))

    def launch(self, batch: Data, J: Array) -> None:
        """Do a step, and write its cost."""
        self._take(batch)
        self._launch()
        J[...] = self._J

    def _take(self, batch: Data) -> None:
        for to, x in zip(self._batch, arrays(batch), strict=True):
            to[...] = x


def captured(torch: Any, device: Any, run: Callable[[], None]) -> Callable[[], Any]:
    """Return what launches the calls of `run`: see `Capture`."""
    run()  # what the libraries make at their first call cannot be made while CUDA records
    graph = torch.cuda.CUDAGraph()
    # Not the stream of the first run, whose workspaces are not the graph's.
    stream = torch.cuda.Stream(device)
    with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
        run()
    return graph.replay  # type: ignore[no-any-return]
