"""A training step that numba has compiled, for arrays of certain shapes."""

from collections.abc import Callable
from typing import Any

import numpy as np

from nnx.array.gather import Data
from nnx.array.namespace import Array
from nnx.backends.calls.program import State
from nnx.backends.numba.blas import suits_blas
from nnx.backends.numba.compiled import CompiledFunction, compiled
from nnx.backends.numba.step_renderer import NumbaStepRenderer, Source
from nnx.backends.numba.threads import run_in_threads
from nnx.compiler import trace

NO_ORDER = np.empty(0, np.int64)


def compiled_step(function: Callable[..., Any], state: State, data: Data, m: int) -> "CompiledStep":
    """Return a training step, compiled for this state and m samples of these data; a TraceError if it cannot be."""
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

    def __call__(
        self, state: State, new: State, data: Data, order: Array | None, at: int, m: int, count: int
    ) -> Array:
        """Do `count` steps from a state, leave the arrays that change in `new`, row-major; return the costs.

        See `nnx.port.program.Program.run`.
        """
        rows, data, at = _samples(data, order is not None, at, m, count)
        Js = np.empty(count, self._source.cost)
        order = NO_ORDER if order is None else order.astype(np.int64, copy=False)
        arguments = [count, at, m, order, Js, rows]
        arguments += [x if x.flags.aligned else x.copy() for x in data if x is not None]
        arguments += [new[name] if name in new else _plain(x) for name, x in state.items()]
        arguments += [_plain(state[name]) for name in new]
        arguments += self._source.tables.values()
        run_in_threads(self._compiled.function, self._source.estimated_seconds, *arguments)
        return Js


def _samples(data: Data, is_ordered: bool, at: int, m: int, count: int) -> tuple[Array, Data, int]:
    """Return X^T in rows, of which samples are gathered in an order; the data; and the first sample in them.

    Without an order the first is empty, and the step takes X as BLAS can: row- or column-major.
    """
    X, Y, w = data
    if is_ordered:
        return np.ascontiguousarray(X.T), data, at
    if not suits_blas(X):
        place = slice(at, at + m * count) if at + m * count <= X.shape[1] else slice(0, None)
        data = np.ascontiguousarray(X[:, place]), Y[..., place], None if w is None else w[place]
        at -= place.start
    return np.empty((0, 0), X.dtype), data, at


def _plain(x: Any) -> Any:
    """Return an array of the only type that the step takes: row-major, aligned and writeable."""
    return x if x.flags.carray else np.require(x, requirements=("C", "A", "W"))
