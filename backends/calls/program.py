"""The program of a library that runs a graph as a list of its calls: NumPy and PyTorch."""

import logging
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from functools import lru_cache
from math import inf, prod
from typing import Any, NamedTuple, TypeAlias

from nnx.array.gather import Data, batches, mini_batch
from nnx.array.members import is_stack, members
from nnx.array.namespace import Array
from nnx.backends.calls.groups import Rows, groups, samples_of, state_of
from nnx.backends.calls.program_cache import ProgramCache, form, signature
from nnx.backends.calls.renderer import Call
from nnx.compiler import Graph, Value, is_array, own_outputs, step_graph, trace
from nnx.compiler.ir.operations import itemsize
from nnx.compiler.thresholds import ONE_THREAD_FLOPS
from nnx.port.program import Program, exclusive
from nnx.support.processes import give_way, uncut
from nnx.support.tree import leaves, mapped

State: TypeAlias = dict[str, Array]


class Library(NamedTuple):
    """An array library, as far as programs of calls need it."""

    render: Callable[[Graph, dict[Value, Value]], Call]
    """Of a graph and its slots: see `CallRenderer`."""
    empty: Callable[[tuple[int, ...], str], Array]
    """Of a shape and the standard's name of a dtype: a new row-major array."""
    take: Callable[[Array, Array, Array], Array]
    """Of a matrix, places and out: writes the rows at these places into out, and returns it."""
    settings: Callable[[], AbstractContextManager[Any]]
    """The context in which functions are traced and called."""
    threads: Callable[[Graph], Callable[[], AbstractContextManager[Any]]]
    """Of a graph: a function that makes the context with the threads that suit it."""
    group_bytes: float = inf
    """Bytes that a group of a stack's members may work on; infinite: all members are one group."""

    def empty_like(self, x: Array, shape: tuple[int, ...] | None = None) -> Array:
        """Return a new array of the dtype of another one, and of its shape unless one is given."""
        return self.empty(tuple(x.shape) if shape is None else shape, dtype_name(x.dtype))


class Function:
    """A traced function that returns new arrays, at least one."""

    def __init__(self, graph: Graph, library: Library) -> None:
        self._graph, self._library = own_outputs(graph), library
        self._call, self._threads = library.render(self._graph, {}), library.threads(self._graph)
        self.sums = sums_over_ranks(graph)

    def __call__(self, *arguments: Any) -> Any:
        """Return what the function returns for arguments like those that it was traced with."""
        outs = {value: self._library.empty(value.shape, value.dtype) for value in self._graph.outputs}
        with self._threads():
            self._call(arrays(arguments), [*outs.values()])
        return mapped(self._graph.result, lambda leaf: outs[leaf] if isinstance(leaf, Value) else leaf)


class Step:
    """A traced training step that writes the new state and the cost into arrays that are handed in.

    See `nnx.compiler.passes.outputs.step_graph`. `call` goes from the arrays of the state and the batch into those that
    it changes, whose names are in `changed`, and the cost J. `bytes` are those of all that it reads and writes. `sums`:
    it adds up numbers of several ranks.
    """

    def __init__(self, graph: Graph, library: Library) -> None:
        graph, slots = step_graph(graph)
        changed, self.J = graph.result
        self.changed = tuple(changed)
        self.call = library.render(graph, slots)
        self.bytes = getattr(self.call, "bytes", 0) + sum(x.size * itemsize(x.dtype) for x in graph.inputs)
        self.threads, self.sums = library.threads(graph), sums_over_ranks(graph)


class CallProgram(Program):
    """A program of calls of one library: see `Program`.

    Steps write into up to three arrays for each name of the state: one is the current value, one the saved value, and
    one a spare. The first step of a `run` writes into the spare ones, and the others go on there in place. So the old
    state is there until the end. What cannot be traced is called as it is.
    """

    def __init__(self, function: Callable[..., Any], library: Library, *others: Any) -> None:
        super().__init__(function, library, *others)
        self._library, self.buffers_of_all = library, library.group_bytes == inf
        self._functions = ProgramCache(f"{function} runs as it is")
        self._steps = ProgramCache("a step runs as it is", logging.INFO)
        self._arrays: dict[str, list[Array]] = {}
        self._samples: Any = None  # the memory of gathered samples

    def __call__(self, *arguments: Any) -> Any:
        """Return what the function returns, in new arrays."""
        # A signal's handler may call it within a call, which uses the buffers.
        is_within = self.lock()._is_owned()
        with self.lock(), uncut(), self._library.settings():
            if is_within:
                return self.function(*arguments)
            key = signature(arguments)
            function = self._functions.get_or_make(key, lambda: self._traced_call(*arguments))
            if function is not None:
                try:
                    return function(*arguments)
                except MemoryError:
                    raise
                except Exception as error:
                    if function.sums:
                        raise
                    self._functions.fail(key, error)
            return self.function(*arguments)

    def _traced_call(self, *arguments: Any) -> Function:
        return Function(trace(self.function, *arguments), self._library)

    @exclusive
    def load(self, state: State) -> None:
        """Copy a state in, or some arrays of a loaded state."""
        with self._library.settings():
            new = {name: self._spare(name, x) for name, x in state.items()}
            for name, x in new.items():
                x[...] = state[name]
            self._state = {**self._state, **new}

    @exclusive
    def read(self, *names: str) -> State:
        """Return copies of the state's arrays: of all of them without names."""
        with self._library.settings():
            return self._copies(names or tuple(self._state))

    @exclusive
    def run(self, data: Data, order: Array | None, at: int, m: int, count: int) -> Any:
        """Do `count` steps in place, each on the next m samples: see `Program.run`."""
        with self._library.settings():
            return self._run(data, order, at, m, count) if count else []

    def _run(self, data: Data, order: Array | None, at: int, m: int, count: int) -> Any:
        found = [(rows, *self._step(data, order, m, rows)) for rows in self._groups(data, order, m)]
        if all(step is not None for _, _, step in found):
            try:
                return self._in_place([(rows, step) for rows, _, step in found], data, order, at, m, count)
            except MemoryError:
                raise
            except Exception as error:  # the state is as before
                if any(step is not None and step.sums for _, _, step in found):
                    raise  # the other ranks do no sum twice
                self._steps.fail(found[0][1], error)
        self._arrays = {}  # the function may return parts of them, and of the data
        Js = self._one_by_one(data, order, at, m, count)
        self._state = self._copies(tuple(self._state))
        return Js

    def _groups(self, data: Data, order: Array | None, m: int) -> list[Rows]:
        """Return the rows of each group of a stack: as many as stay in the cache; [None]: all, or a single network."""
        most = self._library.group_bytes
        stays = not is_stack(self._state) or most == inf
        if stays or (member := self._step(data, order, m, 0)[1]) is None:
            return [None]
        K = members(self._state)
        live = range(K) if self.live is None else self.live
        return groups(live, K, max(1, int(most) // member.bytes))  # type: ignore[no-any-return]

    def _step(self, data: Data, order: Array | None, m: int, rows: Rows) -> tuple[Hashable, Step | None]:
        """Return the key of the step of some rows, and the step; None if it cannot be traced."""
        state, (data, order) = state_of(self._state, rows), samples_of(data, order, rows)
        key = self._key(state, data, m, order)
        return key, self._steps.get_or_make(key, lambda: self._traced_step(state, data, order, m))

    def _key(self, state: State, data: Data, m: int, order: Array | None = None) -> Hashable:
        """Return what tells apart the steps that must be compiled by themselves."""
        samples = (None if x is None else (x.shape[:-1], *form(x)[1:]) for x in data)
        own_order = order is not None and order.ndim > 1
        return m, own_order, *samples, *((name, form(x)) for name, x in state.items())

    def _traced_step(self, state: State, data: Data, order: Array | None, m: int) -> Step:
        batch = mini_batch(data, order if order is not None and order.ndim > 1 else None, 0, m)
        return Step(trace(self.function, state, batch), self._library)

    def _in_place(
        self, steps: list[tuple[Rows, Any]], data: Data, order: Array | None, at: int, m: int, count: int
    ) -> Any:
        """Do the steps: the first from the current state into spare arrays, the others in place there."""
        first, state = steps[0][1], self._state
        costs = first.J.shape if steps[0][0] is None else (members(state),)
        spare, Js = self._spares(first.changed), self._library.empty((count, *costs), first.J.dtype)
        if self.live is not None:  # the rows that are left out stay as they are
            Js[...] = 0
            for name, x in spare.items():
                x[...] = state[name]
        after = {**state, **spare}
        for rows, step in steps:
            old, new = (state_of(x, rows) for x in (state, after))
            outs, (own, places) = [new[name] for name in step.changed], samples_of(data, order, rows)
            before, later = [*old.values()], [*new.values()]
            with step.threads():
                for k, batch in enumerate(batches(own, places, at, m, count, self._gathered)):
                    J = Js[k, ...] if rows is None else Js[k, rows, ...]
                    step.call([*before, *(x for x in batch if x is not None)], [*outs, J])
                    before = later
                    give_way()
        self._state = after
        return Js

    def _copies(self, names: tuple[str, ...]) -> State:
        found = {name: self._library.empty_like(self._state[name]) for name in names}
        for name, x in found.items():
            x[...] = self._state[name]
        return found

    def _spares(self, names: tuple[str, ...]) -> State:
        """Return memory for new values of some of the state's arrays."""
        return {name: self._spare(name, self._state[name]) for name in names}

    def _spare(self, name: str, like: Array) -> Array:
        """Return memory for a new value of an array: neither the current value's nor the saved one's."""
        now, saved, own = self._state.get(name), self._saved.get(name), self._arrays.get(name, [])
        for x in own:
            if x is not now and x is not saved and form(x) == form(like):
                return x
        new = self._library.empty_like(like)
        self._arrays[name] = [new, *(x for x in own if form(x) == form(like))]
        return new

    def _gathered(self, rows: Array, places: Array) -> Array:
        """Return rows of a matrix in memory that the next call uses again."""
        m, n = places.shape[0], rows.shape[1]
        old = self._samples
        if old is None or old.shape[0] < m or (old.shape[1], old.dtype) != (n, rows.dtype):
            self._samples = old = None  # before new memory is taken
            self._samples = self._library.empty_like(rows, (m, n))
        return self._library.take(rows, places, self._samples[:m])


@lru_cache
def dtype_name(dtype: Any) -> str:
    """Return the standard's name of a library's dtype."""
    return str(dtype).rpartition(".")[2]


def arrays(tree: Any) -> list[Array]:
    """Return the arrays of a tree in order."""
    return [leaf for leaf in leaves(tree) if is_array(leaf)]


def sums_over_ranks(graph: Graph) -> bool:
    """Whether a graph adds up numbers of several ranks, which all must do as often."""
    return any(op.name == "all_reduce" for op in graph.ops)


def is_small(graph: Graph) -> bool:
    """Whether a graph has products, each matrix of them so small that one thread is faster."""
    flops = (2 * prod(op.reads[0].shape[-2:]) * op.out.shape[-1] for op in graph.ops if op.name == "matmul")
    return 0 < max(flops, default=0) < ONE_THREAD_FLOPS
