"""Steps on a CUDA GPU as a graph: what a step asks of the GPU is recorded by CUDA once, and then asked for as a whole.

Each of the fifty calls of a step costs the host longer than the GPU takes for it; to launch a graph is one call. It
reads and writes always the same memory: so a state is copied into it before the first step and out of it after the
last, and each batch before its step.
"""

import logging
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from nnx.arrays import Array
from nnx.backends.recorded import RECORDINGS
from nnx.port import Data, Pick, Steps, batches, mini_batch

_log = logging.getLogger("nnx")

Launch = Callable[[], Any]


class Cuda(NamedTuple):
    """What a library has for it.

    Attributes
    ----------
    like : callable
        like(x) returns a new array, which lies in memory as x does.
    write : callable
        write(to, x) copies x into an array.
    captured : callable
        captured(run) calls run() once, then lets CUDA record what it does, and returns what launches that.
    """

    like: Callable[[Any], Any]
    write: Callable[[Any, Any], Any]
    captured: Callable[[Callable[[], Any]], Launch]


class Graphs:
    """Steps over mini-batches, each the launch of a graph: see `Steps`.

    Parameters
    ----------
    lowered : callable
        lowered(state, batch) returns the step for arrays such as these, which may write over the state it is given.
    plain : Steps
        Does what cannot be captured.
    pick : Pick
    cuda : Cuda
    """

    def __init__(self, lowered: Callable[..., Any], plain: Steps, pick: Pick, cuda: Cuda) -> None:
        self._lowered, self._plain, self._pick, self._cuda = lowered, plain, pick, cuda
        self._made: dict[Any, Graph | None] = {}
        self._lock = threading.Lock()  # the memory is one

    def __deepcopy__(self, memo: Any) -> "Graphs":
        """Return itself, as a function does: a copied trainer shares it."""
        return self

    def __call__(
        self, state: dict[str, Array], data: Data, order: Array | None, at: int, m: int, count: int
    ) -> tuple[dict[str, Array], Any]:
        """Do `count` steps."""
        with self._lock:
            graph = self._graph(state, mini_batch(data, order, at, m)) if count else None
            if graph is not None:
                graph.start(state)
                Js = [graph.step(batch) for batch in batches(data, order, at, m, count, self._pick)]
                return graph.state(), Js
        return self._plain(state, data, order, at, m, count)

    def _graph(self, state: dict[str, Array], batch: Data) -> "Graph | None":
        """Return the graph for arrays of these shapes; None if there is none."""
        arrays = [*state.values(), *(x for x in batch if x is not None)]
        key = (*state, batch[2] is None, *((x.shape, x.dtype) for x in arrays))
        if key not in self._made:
            try:
                self._made[key] = Graph(self._lowered(state, batch), state, batch, self._cuda)
            except Exception as error:  # whatever the library raises
                _log.info("a step is no graph: %s: %s", type(error).__name__, error)
                self._made[key] = None
        self._made[key] = self._made.pop(key)  # the last of them
        if len(self._made) > RECORDINGS:
            del self._made[next(iter(self._made))]  # the one that was longest not used
        return self._made[key]


class Graph:
    """A step as a graph, for arrays of certain shapes, with its own memory for them."""

    def __init__(self, step: Callable[..., Any], state: dict[str, Array], batch: Data, cuda: Cuda) -> None:
        self._cuda, self._own = cuda, step  # the graph goes on using the memory that the step has
        self._state = {name: cuda.like(x) for name, x in state.items()}
        self._batch = tuple(None if x is None else cuda.like(x) for x in batch)
        self._J: Any = None
        self._write(self._state.values(), state.values())
        self._write(self._batch, batch)

        def run() -> None:
            new, J = step(self._state, self._batch)
            if new.keys() != self._state.keys():
                raise ValueError("the step changes what is in the state")
            for name, x in new.items():
                if x is not self._state[name]:  # it has not been written over the old
                    cuda.write(self._state[name], x)
            if self._J is None:
                self._J = cuda.like(J)
            cuda.write(self._J, J)

        self._launch = cuda.captured(run)

    def start(self, state: dict[str, Array]) -> None:
        """Begin from a state."""
        self._write(self._state.values(), (state[name] for name in self._state))

    def step(self, batch: Data) -> Array:
        """Do a step, and return its cost."""
        self._write(self._batch, batch)
        self._launch()
        return self._copied(self._J)

    def state(self) -> dict[str, Array]:
        """Return a copy of the state."""
        return {name: self._copied(x) for name, x in self._state.items()}

    def _copied(self, x: Array) -> Array:
        copy = self._cuda.like(x)
        self._cuda.write(copy, x)
        return copy

    def _write(self, to: Any, given: Any) -> None:
        for mine, x in zip(to, given, strict=True):
            if x is not None:
                self._cuda.write(mine, x)
