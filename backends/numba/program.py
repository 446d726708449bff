"""The program of a function whose training steps numba compiles."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

from nnx.array.gather import Data
from nnx.array.namespace import Array
from nnx.backends.calls.program import CallProgram, Library
from nnx.backends.calls.program_cache import ProgramCache
from nnx.backends.numba.step import CompiledStep, compiled_step
from nnx.backends.numba.threads import one_thread_after_steps
from nnx.backends.numpy.adapter import LIBRARY as NUMPY
from nnx.compiler import Graph
from nnx.compiler.passes.cost import estimated_seconds
from nnx.compiler.thresholds import NO_SECOND_THREAD_SECONDS


def one_thread_between_steps(graph: Graph) -> Callable[[], AbstractContextManager[None]]:
    """Return the context of a call: BLAS has one thread if it is short and compiled steps have just been done.

    OpenBLAS's threads go on spinning for some 30 ms after a product, on the cores that the next steps' threads need.
    With a small validation after each, epochs of 3 ms took 78.
    """
    return nullcontext if estimated_seconds(graph) > NO_SECOND_THREAD_SECONDS else one_thread_after_steps


LIBRARY = NUMPY._replace(threads=one_thread_between_steps)


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
        step: CompiledStep | None = self._compiled.get_or_make(self._key(data, m), make)
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
