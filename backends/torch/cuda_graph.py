"""Steps on a CUDA GPU as a graph: what a step asks of the GPU is recorded by CUDA once, and then asked for as a whole.

Each of the fifty calls of a step costs the host longer than the GPU takes for it; to launch a graph is one call. It
reads and writes always the same memory: so a state is copied into it before the first step and out of it after the
last, and each batch before its step.
"""

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from nnx.array.gather import Data, Pick, batches, mini_batch
from nnx.array.namespace import Array, device
from nnx.backends.calls.program_cache import kept
from nnx.port.base import Steps
from nnx.support.processes import uncut

Memory = dict[str, Array]


class Cuda(NamedTuple):
    """What the graphs need of a library.

    Attributes
    ----------
    like : callable
        like(x) returns a new array of x's shape, which lies in memory as x does where that has no gaps.
    costs : callable
        costs(J, count) returns a new array (count,) for so many costs.
    write : callable
        write(to, x) copies x into an array.
    captured : callable
        captured(run) calls run() once, then lets CUDA record what it does, and returns what launches that.
    """

    like: Callable[[Any], Any]
    costs: Callable[[Any, int], Any]
    write: Callable[[Any, Any], Any]
    captured: Callable[[Callable[[], Any]], Callable[[], Any]]


class Graphs:
    """Steps over mini-batches, each the launch of a graph: see `Steps`.

    Parameters
    ----------
    lowered : callable
        lowered(state, batch) returns the step for arrays such as these, which may write over the state it is given.
    plain : Steps
        Does what cannot be captured, and one step of a shape that was not met before.
    pick : Pick
    cuda : Cuda

    Attributes
    ----------
    made : dict
        The graph for each set of shapes, and None for what cannot be one.
    """

    def __init__(self, lowered: Callable[..., Any], plain: Steps, pick: Pick, cuda: Cuda) -> None:
        self._lowered, self._plain, self._pick, self._cuda = lowered, plain, pick, cuda
        self.made: dict[Any, Graph | None] = {}
        self._states: dict[Any, Memory] = {}  # one for each form of a state, whatever the batch's size
        self._met: set[Any] = set()
        self._lock = threading.Lock()  # the memory is one

    def __call__(
        self, state: dict[str, Array], data: Data, order: Array | None, at: int, m: int, count: int
    ) -> tuple[dict[str, Array], Any]:
        """Do `count` steps."""
        with uncut(), self._lock:
            graph = self._graph(state, data, order, at, m, count)
            if graph is not None:
                graph.start(state)
                Js = self._cuda.costs(graph.J, count)
                for k, batch in enumerate(batches(data, order, at, m, count, self._pick)):
                    graph.step(batch, Js[k : k + 1])
                    del batch  # the next may lie where this did
                return graph.state(), Js
        return self._plain(state, data, order, at, m, count)

    def _graph(
        self, state: dict[str, Array], data: Data, order: Array | None, at: int, m: int, count: int
    ) -> "Graph | None":
        """Return the graph for arrays of these shapes; None if there is none, or it is not worth it yet."""
        form = tuple((name, x.shape, x.dtype, device(x)) for name, x in state.items())
        key = (form, m, *(None if x is None else (x.shape[:-1], x.dtype, device(x)) for x in data))
        if count == 0 or (count == 1 and key not in self.made and key not in self._met):
            self._met.add(key)
            return None

        def make() -> Graph:
            if form not in self._states:
                self._states[form] = {name: self._cuda.like(x) for name, x in state.items()}
            batch = mini_batch(data, order, at, m)
            return Graph(self._lowered(state, batch), self._states[form], state, batch, self._cuda)

        graph: Graph | None = kept(self.made, key, make, "a step is no graph")
        return graph


class Graph:
    """A step as a graph, for arrays of certain shapes, with its own memory for a batch.

    Parameters
    ----------
    step : callable
    memory : dict of arrays
        For the state.
    state, batch
        What it is tried on.
    cuda : Cuda
    """

    def __init__(
        self, step: Callable[..., Any], memory: Memory, state: dict[str, Array], batch: Data, cuda: Cuda
    ) -> None:
        self._cuda, self._memory = cuda, memory
        self._step = step  # it holds buffers that the graph goes on using
        self._batch = tuple(None if x is None else cuda.like(x) for x in batch)
        self.J: Any = None
        """Where the cost of the last step lies."""
        self.start(state)
        self._write(self._batch, batch)
        self._launch = cuda.captured(self._run)

    def _run(self) -> None:
        result = self._step(self._memory, self._batch)
        if result is None or result[0].keys() != self._memory.keys():
            raise ValueError("the step's arrays lie elsewhere, or its new state has others")
        new, J = result
        if self.J is None:
            self.J = self._cuda.like(J)
        self._cuda.write(self.J, J)
        # What has not been written over the old; of the old itself (a step may hand it on by another name) a copy
        # first, since the next line may write into it.
        old = {id(x) for x in self._memory.values()}
        moved = {name: x for name, x in new.items() if x is not self._memory[name]}
        moved = {name: self._copied(x) if id(x) in old else x for name, x in moved.items()}
        for name, x in moved.items():
            self._cuda.write(self._memory[name], x)

    def start(self, state: dict[str, Array]) -> None:
        """Begin from a state."""
        self._write(self._memory.values(), (state[name] for name in self._memory))

    def step(self, batch: Data, J: Array) -> None:
        """Do a step, and write its cost."""
        self._write(self._batch, batch)
        self._launch()
        self._cuda.write(J, self.J)

    def state(self) -> dict[str, Array]:
        """Return a copy of the state."""
        return {name: self._copied(x) for name, x in self._memory.items()}

    def _copied(self, x: Array) -> Array:
        copy = self._cuda.like(x)
        self._cuda.write(copy, x)
        return copy

    def _write(self, to: Any, given: Any) -> None:
        for mine, x in zip(to, given, strict=True):
            if x is not None:
                self._cuda.write(mine, x)
