"""The program of a function whose training steps numba compiles."""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import numpy as np

from nnx.array.gather import Data
from nnx.array.members import is_stack, members, of_member
from nnx.array.namespace import Array
from nnx.backends.calls.program import CallProgram, Library, State
from nnx.backends.calls.program_cache import ProgramCache
from nnx.backends.numba.blas import suits_blas
from nnx.backends.numba.compiled import CompiledFunction, compiled
from nnx.backends.numba.members import run_members
from nnx.backends.numba.step_renderer import NumbaStepRenderer, Source
from nnx.backends.numba.threads import one_thread_after_steps, run_in_threads
from nnx.backends.numpy.adapter import LIBRARY as NUMPY
from nnx.compiler import Graph, trace
from nnx.compiler.passes.cost import estimated_seconds
from nnx.compiler.thresholds import NO_SECOND_THREAD_SECONDS
from nnx.port.program import exclusive


def one_thread_between_steps(graph: Graph) -> Callable[[], AbstractContextManager[None]]:
    """Return the context of a call: BLAS has one thread if it is short and compiled steps have just been done.

    OpenBLAS's threads go on spinning for some 30 ms after a product, on the cores that the next steps' threads need.
    With a small validation after each, epochs of 3 ms took 78.
    """
    return nullcontext if estimated_seconds(graph) > NO_SECOND_THREAD_SECONDS else one_thread_after_steps


LIBRARY = NUMPY._replace(threads=one_thread_between_steps)

NO_ORDER = np.empty(0, np.int64)


def compiled_step(function: Callable[..., Any], state: State, data: Data, m: int) -> "CompiledStep":
    """Return a training step, compiled for this state and m samples of these data; a TraceError if it cannot be.

    Of a stack it is the step of a member.
    """
    if is_stack(state):
        state = {name: of_member(x, 0) for name, x in state.items()}
        data = *data[:2], None if data[2] is None else data[2][..., :m].reshape(-1, m)[0]
    batch = tuple(None if x is None else np.empty((*x.shape[:-1], m), x.dtype) for x in data)
    source = NumbaStepRenderer(trace(function, state, batch)).source()
    return CompiledStep(source, compiled(source.text))


class CompiledStep:
    """Steps in place. `changed` has the names of the state's arrays that they change."""

    def __init__(self, source: Source, compiled: CompiledFunction) -> None:
        self._compiled, self.function, self.tables = compiled, compiled.function, [source.tables]
        self.changed, self.seconds, self.cost = source.changed, source.estimated_seconds, source.cost
        self._sums = source.sums

    def __call__(
        self, state: State, new: State, data: Data, order: Array | None, at: int, m: int, count: int
    ) -> Array:
        """Do `count` steps from a state, leave the arrays that change in `new`, row-major; return the costs.

        See `nnx.port.program.Program.run`.
        """
        (order, rows, *samples), at = _samples(data, order, at, m, count)
        Js = np.empty(count, self.cost)
        run_in_threads(
            self.function, self.seconds, count, at, m, order, Js, rows, *samples,
            *_arguments(state, new), *self.tables[0].values(),
        )  # fmt: skip
        for one in self._sums:
            one.check()
        return Js


def run_stack(
    steps: Sequence[tuple[CompiledStep, tuple[int, int, int]]], state: State, new: State, data: Data,
    order: Array | None, live: Sequence[int] | None,
) -> Array:  # fmt: skip
    """Do steps of a stack, each with its (count, at, m), one behind the other; return the costs (count, K).

    The rows that are not among `live` stay as they are, and their costs are 0.
    """
    count, at, m = steps[0][1] if len(steps) == 1 else (1, 0, data[1].shape[-1])
    (order, rows, *samples), first = _samples(data, order, at, m, count)
    K, own_w = members(state), len(samples) > 2 and samples[2].ndim > 1
    if live is not None:
        gone = sorted({*range(K)} - {*live})
        for name, x in new.items():
            x[gone] = state[name][gone]
    segments = [
        (step, (count, its - at + first, m), np.zeros((K, count), step.cost))
        for step, (count, its, m) in steps
    ]

    def samples_of(k: int) -> tuple[Array, ...]:
        its = [*samples[:2], samples[2][k]] if own_w else samples
        return order if order.ndim == 1 else order[k], rows, *its

    live = range(K) if live is None else live
    run_members(segments, live, samples_of, _arguments(state, new), _arguments({**state, **new}, new))
    return np.concatenate([Js for _, _, Js in segments], axis=1).T


def _samples(data: Data, order: Array | None, at: int, m: int, count: int) -> tuple[tuple[Array, ...], int]:
    """Return the order, X^T in rows, of which samples are gathered in it, X, Y, any w; and the first sample in them.

    Without an order these are empty, and the step takes X as BLAS can: row- or column-major.
    """
    X, Y, w = data
    rows = np.empty((0, 0), X.dtype)
    if order is not None:
        order, rows = order.astype(np.int64, copy=False), np.ascontiguousarray(X.T)
    elif not suits_blas(X):
        place = slice(at, at + m * count) if at + m * count <= X.shape[1] else slice(0, None)
        X, Y, w = np.ascontiguousarray(X[:, place]), Y[..., place], None if w is None else w[..., place]
        at -= place.start
    samples = (x if x.flags.aligned else x.copy() for x in (X, Y, w) if x is not None)
    return (NO_ORDER if order is None else order, rows, *samples), at


def _arguments(state: State, new: State) -> list[Any]:
    """Return the arguments of a step that are the state, before and after it."""
    after = [new[name] if name in new else _plain(x) for name, x in state.items()]
    return [*after, *(_plain(state[name]) for name in new)]


def _plain(x: Any) -> Any:
    """Return an array of the only type that the step takes: row-major, aligned and writeable."""
    return x if x.flags.carray else np.require(x, requirements=("C", "A", "W"))


class NumbaProgram(CallProgram):  # type: ignore[misc]  # of nnx.backends, which mypy sees under another name
    """A program whose steps are one compiled function: see `Program`.

    Functions without a state, and steps that cannot be compiled, are lists of NumPy's calls: see `CallProgram`.
    """

    _state: State

    def __init__(self, function: Callable[..., Any], library: Library) -> None:
        super().__init__(function, library)
        self._compiled = ProgramCache("a step is not compiled", logging.INFO)

    def compiled(self, data: Data, m: int) -> CompiledStep | None:
        """Return what is compiled for the state and m samples of the data; None if it cannot be."""
        make = partial(compiled_step, self.function, self._state, data, m)
        step: CompiledStep | None = self._compiled.get_or_make(self._key(self._state, data, m), make)
        return step

    def _run(self, data: Data, order: Array | None, at: int, m: int, count: int) -> Any:
        step = self.compiled(data, m)
        if step is None:
            return super()._run(data, order, at, m, count)
        if is_stack(self._state):
            return self._run_stack({m: step}, data, order, [(count, at, m)])
        new = self._spares(step.changed)
        Js = step(self._state, new, data, order, at, m, count)
        self._state = {**self._state, **new}
        return Js

    @exclusive
    def run_epochs(self, data: Data, order: Array | None, M: int, m: int, epochs: int) -> Any:
        """Do all steps of a stack in epochs of M samples, the last one of each on fewer; return their costs."""
        full, rest = divmod(M, m)
        one = (full, 0, m), (1, full * m, rest)
        places = [(count, epoch * M + at, size) for epoch in range(epochs) for count, at, size in one]
        steps = {size: self.compiled(data, size) for size in (m, rest)}
        with self._library.settings():
            if None in steps.values():
                return np.concatenate([self._run(data, order, at, size, count) for count, at, size in places])
            return self._run_stack(steps, data, order, places)

    def _run_stack(
        self, steps: Any, data: Data, order: Array | None, places: list[tuple[int, int, int]]
    ) -> Array:
        new = self._spares(steps[places[0][2]].changed)
        Js = run_stack([(steps[its[2]], its) for its in places], self._state, new, data, order, self.live)
        self._state = {**self._state, **new}
        return Js

    @property
    def finite(self) -> bool:
        """Whether every number of the state is."""
        with one_thread_after_steps():
            return bool(super().finite)
