"""The program of a library that runs a graph as a list of its calls: NumPy and PyTorch."""

from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any, NamedTuple, Self, TypeAlias

from nnx.array.gather import Data, batches, mini_batch
from nnx.array.namespace import Array
from nnx.backends.calls.program_cache import ProgramCache, signature
from nnx.backends.calls.renderer import Call
from nnx.compiler import Graph, TraceError, Value, is_array, leaves, mapped, own_outputs, trace
from nnx.port.program import Program
from nnx.support.processes import give_way, uncut

State: TypeAlias = dict[str, Array]


class Library(NamedTuple):
    """An array library, as far as programs of calls need it.

    Attributes
    ----------
    render : callable
        render(graph, slots) returns the graph's `Call`. `slots` has the old value of each output that is the new value
        of a state's array: the caller may hand in the same array for both.
    empty : callable
        empty(shape, dtype) returns a new array; the dtype is the standard's name.
    copy : callable
        copy(x) returns a new array with x's numbers.
    write : callable
        write(to, x) copies x into an array.
    take : callable
        take(rows, places, out) writes rows of a matrix into another.
    key : callable
        key(x) returns what tells an array from those for which a function must be compiled anew.
    settings : callable
        settings() returns the context in which functions are traced and called.
    threads : callable
        threads(graph) returns a function that makes the context with the threads that suit a graph.
    """

    render: Callable[[Graph, dict[Value, Value]], Call]
    empty: Callable[[tuple[int, ...], str], Array]
    copy: Callable[[Array], Array]
    write: Callable[[Array, Array], Any]
    take: Callable[[Array, Array, Array], Any]
    key: Callable[[Array], Hashable]
    settings: Callable[[], AbstractContextManager[Any]]
    threads: Callable[[Graph], Callable[[], AbstractContextManager[Any]]]


class Function:
    """A traced function that returns new arrays.

    Raises
    ------
    TraceError
        When the result holds no array.
    """

    def __init__(self, graph: Graph, library: Library) -> None:
        if not graph.outputs:
            raise TraceError("the result holds no array")
        self._graph, self._library = own_outputs(graph), library
        self._call, self._threads = library.render(self._graph, {}), library.threads(self._graph)

    def __call__(self, *arguments: Any) -> Any:
        """Return what the function returns for arguments like those that it was traced with."""
        outputs = self._graph.outputs
        outs = [self._library.empty(value.shape, value.dtype) for value in outputs]
        with self._threads():
            self._call(arrays(arguments), outs)
        found = dict(zip(outputs, outs, strict=True))
        return mapped(self._graph.result, lambda leaf: found[leaf] if isinstance(leaf, Value) else leaf)


class Step:
    """A traced training step that writes the new state and the cost into arrays that are handed in.

    Raises
    ------
    TraceError
        When the function is no step(state, batch) -> (state, J), with arrays of the same names, shapes and dtypes in
        both states.

    Attributes
    ----------
    graph : Graph
        Its outputs are the arrays that a step changes and J.
    changed : tuple of str
        The names of the arrays that a step changes. All others stay as they are.
    J : Value
        The cost.
    call : Call
    threads : callable
        Makes the context with the threads that suit a step.
    """

    def __init__(self, graph: Graph, library: Library) -> None:
        old = graph.arguments[0]
        try:
            new, J = graph.result
            same = list(new) == list(old)
        except (TypeError, ValueError) as error:
            raise TraceError("the function does not return a state and a cost") from error
        if not same:
            raise TraceError("the new state has other arrays than the old one")
        changed = {name: x for name, x in new.items() if x != old[name]}
        if any((x.shape, x.dtype) != (old[name].shape, old[name].dtype) for name, x in changed.items()):
            raise TraceError("the new state's arrays have other shapes or dtypes than the old one's")
        self.graph = own_outputs(Graph(graph.inputs, graph.ops, graph.arguments, (changed, J)))
        written, self.J = self.graph.result
        self.changed = tuple(changed)
        self.call = library.render(self.graph, {written[name]: old[name] for name in changed})
        self.threads = library.threads(self.graph)


class CallProgram(Program):
    """A program of calls of one library: see `Program`.

    It has three sets of the arrays that steps change: the current state, the saved one and a free one. The first step
    of a `run` writes into the free set, and the others go on there in place. So the old state is there until the end.

    What cannot be traced is called as it is.

    Parameters
    ----------
    function : callable
    library : Library
    """

    def __init__(self, function: Callable[..., Any], library: Library) -> None:
        super().__init__(function)
        self._library = library
        self._functions = ProgramCache(f"{function} runs as it is")
        self._steps = ProgramCache(f"{function} runs as it is, step by step")
        self._free: State = {}
        self._samples: Any = None  # the memory of gathered samples

    def empty(self) -> Self:
        """Return a program of the same function without a state."""
        return type(self)(self.function, self._library)

    def __call__(self, *arguments: Any) -> Any:
        """Return what the function returns, in new arrays."""
        is_within = (
            self.lock()._is_owned()
        )  # a signal's handler calls it within a call, which uses the buffers
        with self.lock(), uncut(), self._library.settings():
            if is_within:
                return self.function(*arguments)
            key = signature(arguments, self._library.key)
            function = self._functions.get_or_make(
                key, lambda: Function(trace(self.function, *arguments), self._library)
            )
            if function is not None:
                try:
                    return function(*arguments)
                except MemoryError:
                    raise
                except Exception as error:
                    self._functions.fail(key, error)
            return self.function(*arguments)

    def load(self, state: State) -> None:
        """Copy a state in, or some arrays of a loaded state."""
        with self.lock(), uncut(), self._library.settings():
            self._replace({**self._state, **self._copies(state)})

    def read(self, *names: str) -> State:
        """Return copies of the state's arrays: of all of them without names."""
        with self.lock(), uncut(), self._library.settings():
            return self._copies({name: self._state[name] for name in names or self._state})

    def snapshot(self) -> None:
        """Remember the state for `rollback`."""
        with self.lock(), uncut(), self._library.settings():
            old, self._saved = self._saved, self._state
            self._release(old)

    def rollback(self) -> None:
        """Go back to the state of the last `snapshot`, which stays remembered."""
        with self.lock(), uncut(), self._library.settings():
            self._replace(self._saved)

    def run(self, data: Data, order: Array | None, at: int, m: int, count: int) -> Any:
        """Do `count` steps in place, each on the next m samples: see `Program.run`."""
        with self.lock(), uncut(), self._library.settings():
            return self._run(data, order, at, m, count) if count else []

    def _run(self, data: Data, order: Array | None, at: int, m: int, count: int) -> Any:
        key = self._key(data, m)
        step = self._steps.get_or_make(key, lambda: self._traced(data, m))
        if step is not None:
            try:
                return self._in_place(step, data, order, at, m, count)
            except MemoryError:
                raise
            except Exception as error:  # the state is as before
                self._steps.fail(key, error)
        Js = self._one_by_one(data, order, at, m, count)
        self._state, self._free = (
            self._copies(self._state),
            {},
        )  # the function may have returned parts of the data
        return Js

    def _key(self, data: Data, m: int) -> Hashable:
        """Return what tells apart the steps that must be compiled by themselves."""
        samples = tuple(None if x is None else self._library.key(x[..., :0]) for x in data)
        return m, samples, signature(self._state, self._library.key)

    def _traced(self, data: Data, m: int) -> Step:
        batch = mini_batch(data, None, 0, m)
        return Step(trace(self.function, self._state, batch), self._library)

    def _in_place(self, step: Step, data: Data, order: Array | None, at: int, m: int, count: int) -> Any:
        """Do the steps: the first from the current state into free arrays, the others in place there."""
        new = {name: self._spare(name) for name in step.changed}
        Js = self._library.empty((count, *step.J.shape), step.J.dtype)
        state, outs = [*self._state.values()], [*new.values()]
        with step.threads():
            for k, batch in enumerate(batches(data, order, at, m, count, self._gathered)):
                step.call([*state, *(x for x in batch if x is not None)], [*outs, Js[k, ...]])
                if k == 0:
                    state = [*{**self._state, **new}.values()]
                give_way()
        self._replace({**self._state, **new})
        return Js

    def _spare(self, name: str) -> Array:
        """Return a free array for the new value of a state's array."""
        old, free = self._state[name], self._free.pop(name, None)
        if free is None or self._library.key(free) != self._library.key(old):
            return self._library.empty(tuple(old.shape), dtype_name(old))
        return free

    def _replace(self, new: State) -> None:
        """Make another state the current one."""
        old, self._state = self._state, new
        self._release(old)

    def _release(self, old: State) -> None:
        """Keep arrays for the next `run` that are neither in the current state nor in the saved one."""
        for name, x in old.items():
            if x is not self._state.get(name) and x is not self._saved.get(name):
                self._free[name] = x

    def _copies(self, state: State) -> State:
        """Return copies in row-major order: steps write into arrays that were loaded, when these are free."""
        copies = {name: self._library.empty(tuple(x.shape), dtype_name(x)) for name, x in state.items()}
        for name, x in state.items():
            self._library.write(copies[name], x)
        return copies

    def _gathered(self, rows: Array, places: Array) -> Array:
        """Return rows of a matrix in memory that the next call uses again."""
        m, n = places.shape[0], rows.shape[1]
        old = self._samples
        if old is None or old.shape[0] < m or old.shape[1] != n or old.dtype != rows.dtype:
            self._samples = None  # before new memory is taken
            self._samples = self._library.empty((m, n), dtype_name(rows))
        out = self._samples[:m]
        self._library.take(rows, places, out)
        return out


def dtype_name(x: Array) -> str:
    """Return the standard's name of an array's dtype."""
    return _name(x.dtype)


@lru_cache  # NumPy takes two microseconds to write one
def _name(dtype: Any) -> str:
    return str(dtype).rpartition(".")[2]


def arrays(tree: Any) -> list[Array]:
    """Return the arrays of a tree in order."""
    return [leaf for leaf in leaves(tree) if is_array(leaf)]
