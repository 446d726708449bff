"""The program of a function whose training steps numba compiles."""

import logging
from collections.abc import Callable
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
from nnx.backends.numba.members import copies, of_members, run_members
from nnx.backends.numba.step_renderer import NumbaStepRenderer, Source
from nnx.backends.numba.threads import one_thread_after_steps, run_in_threads, threads
from nnx.backends.numpy.adapter import LIBRARY as NUMPY
from nnx.compiler import Graph, trace
from nnx.compiler.passes.cost import estimated_seconds
from nnx.compiler.thresholds import NO_SECOND_THREAD_SECONDS


def one_thread_between_steps(graph: Graph) -> Callable[[], AbstractContextManager[None]]:
    """Return the context of a call: BLAS has one thread if it is short and compiled steps have just been done.

    OpenBLAS's threads go on spinning for some 30 ms after a product, on the cores that the next steps' threads need.
    With a small validation after each, epochs of 3 ms took 78.
    """
    return nullcontext if estimated_seconds(graph) > NO_SECOND_THREAD_SECONDS else one_thread_after_steps


LIBRARY = NUMPY._replace(threads=one_thread_between_steps)

NO_ORDER, NO_BARRIERS = np.empty(0, np.int64), np.zeros(8, np.int64)


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
    """Steps in place.

    Attributes
    ----------
    changed : tuple of str
        The state's arrays that a step changes.
    """

    def __init__(self, source: Source, compiled: CompiledFunction) -> None:
        self._source, self._compiled, self.changed = source, compiled, source.changed
        self._tables = [source.tables]

    def __call__(
        self, state: State, new: State, data: Data, order: Array | None, at: int, m: int, count: int
    ) -> Array:
        """Do `count` steps from a state, leave the arrays that change in `new`, row-major; return the costs.

        See `nnx.port.program.Program.run`.
        """
        source, step = self._source, self._compiled.function
        rows, data, at = _samples(data, order is not None, at, m, count)
        X, Y, w = (x if x is None or x.flags.aligned else x.copy() for x in data)
        order = NO_ORDER if order is None else order.astype(np.int64, copy=False)
        if not is_stack(state):
            Js = np.empty(count, source.cost)
            run_in_threads(
                step, source.estimated_seconds, count, at, m, order, Js, rows,
                *_arguments(state, new, (X, Y, w)), *source.tables.values(),
            )  # fmt: skip
            return Js
        K = members(state)
        Js, arrays = np.empty((K, count), source.cost), _arguments(state, new, (None, None, None))
        rows_of_state = [*zip(*(of_members(x, K) for x in arrays), strict=True)]

        def one(k: int, tables: dict[str, Any]) -> None:
            samples = [x for x in (X, Y, w if w is None or w.ndim == 1 else w[k]) if x is not None]
            first = 0, 1, NO_BARRIERS, count, at, m, order if order.ndim == 1 else order[k], Js[k], rows
            step(*first, *samples, *rows_of_state[k], *tables.values())

        if len(self._tables) < threads():
            self._tables = copies(source.tables, threads())
        run_members(one, K, self._tables, source.estimated_seconds * count * K)
        return Js.T


def _samples(data: Data, is_ordered: bool, at: int, m: int, count: int) -> tuple[Array, Data, int]:
    """Return X^T in rows, of which samples are gathered in an order; the data; and the first sample in them.

    Without an order the first is empty, and the step takes X as BLAS can: row- or column-major.
    """
    X, Y, w = data
    if is_ordered:
        return np.ascontiguousarray(X.T), data, at
    if not suits_blas(X):
        place = slice(at, at + m * count) if at + m * count <= X.shape[1] else slice(0, None)
        data = np.ascontiguousarray(X[:, place]), Y[..., place], None if w is None else w[..., place]
        at -= place.start
    return np.empty((0, 0), X.dtype), data, at


def _arguments(state: State, new: State, data: Data) -> list[Any]:
    """Return the arguments of a step that are its samples and the state, before and after it."""
    samples = [x for x in data if x is not None]
    after = [new[name] if name in new else _plain(x) for name, x in state.items()]
    return [*samples, *after, *(_plain(state[name]) for name in new)]


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
        new = self._spares(step.changed)
        Js = step(self._state, new, data, order, at, m, count)
        self._state = {**self._state, **new}
        return Js

    @property
    def finite(self) -> bool:
        """Whether every number of the state is."""
        with one_thread_after_steps():
            return bool(super().finite)
