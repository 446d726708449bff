"""NumPy's arrays, and the training steps compiled by numba to one function."""

import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from nnx.array.gather import Data
from nnx.array.host import quiet
from nnx.array.namespace import Array
from nnx.backends.calls.program import CallProgram
from nnx.backends.calls.program_cache import ProgramCache
from nnx.backends.numba.blas import blas, lies
from nnx.backends.numba.compiled import compiled, shared
from nnx.backends.numba.step_renderer import Loops, Source
from nnx.backends.numba.threads import just_after, look_again, together
from nnx.backends.numpy.adapter import LIBRARY, NumPy
from nnx.compiler import Graph, trace
from nnx.compiler.passes.cost import estimated_seconds
from nnx.errors import BackendError
from nnx.port.base import Checked, F, Steps, Transitional, functional, only_cpu, require
from nnx.port.program import Program
from nnx.support.processes import uncut


class Numba(NumPy):  # type: ignore[misc]  # of nnx.backends, which mypy sees under another name
    """NumPy's arrays on the CPU; training steps are compiled, once for all networks of one form."""

    name = "numba"

    def __init__(self, device: str | None = None) -> None:
        self.device = only_cpu("numba", device)
        self.version = require("numba", "numba").__version__
        require("scipy.linalg", "numba")  # numba's door to BLAS
        require("threadpoolctl", "numba")
        if require("numba", "numba").config.DISABLE_JIT:
            raise BackendError("numba compiles nothing, since NUMBA_DISABLE_JIT is set; unset it")
        self.detail = f"every step compiled, once for a form on a machine; products by {blas().name}"
        look_again()

    def compile(self, function: Callable[..., Any]) -> Program:
        """Return the function as a program."""
        return Transitional(self, function)

    def capture(self, step: F) -> F:
        """Return the step as NumPy's adapter does; but one that comes between compiled steps has one thread."""
        return CallProgram(step, LIBRARY._replace(threads=unaided))  # type: ignore[no-any-return]

    def repeat(self, step: F) -> Steps:
        """Return the function that does steps on end, compiled; what cannot be is replayed with NumPy."""
        return Compiled(quiet()(step), functional(CallProgram(step, LIBRARY)))


def unaided(graph: Graph) -> Callable[[], AbstractContextManager[None]]:
    """Return the context of a graph: BLAS has one thread if it is short and compiled steps have just been done.

    OpenBLAS's threads go on spinning for some 30 ms after a product, on the cores that the next steps' threads need:
    with a small validation after each, epochs of 3 ms took 78.
    """
    return nullcontext if estimated_seconds(graph) > SHORT else just_after


SHORT = 20e-3
"""Seconds on one core of what is worth no second thread between compiled steps, since that spins for as long."""


class Compiled:
    """Steps over mini-batches as one compiled function: see `Steps`.

    Parameters
    ----------
    step : callable
    plain : Steps
        Does what cannot be compiled.
    """

    def __init__(self, step: Callable[..., Any], plain: Steps) -> None:
        self._step, self.plain = step, plain
        self._made = ProgramCache("a step is not compiled", logging.INFO)
        self._lock = threading.Lock()  # the memory between is one

    def __deepcopy__(self, memo: Any) -> "Compiled":
        """Return itself, as a function does: a copied trainer shares it."""
        return self

    def __call__(
        self, state: dict[str, Array], data: Data, order: Array | None, at: int, m: int, count: int
    ) -> tuple[dict[str, Array], Array]:
        """Do `count` steps."""
        with uncut(), self._lock:
            form = self.form(state, data, m) if count else None
            if form is not None:
                return form(state, data, order, at, m, count)
        return self.plain(state, data, order, at, m, count)

    def form(self, state: dict[str, Array], data: Data, m: int) -> "Form | None":
        """Return what is compiled for arrays of these shapes; None if they cannot be."""
        X, Y, w = data
        key = (
            m, X.shape[0], X.dtype, Y.shape[:-1], Y.dtype, None if w is None else w.dtype,
            *((name, x.shape, x.dtype) for name, x in state.items()),
        )  # fmt: skip

        def make() -> Form:
            batch = tuple(None if x is None else np.empty((*x.shape[:-1], m), x.dtype) for x in data)
            graph = trace(self._step, state, batch)
            source = Loops(graph).source()
            cost, step = graph.result[1].dtype, compiled(source.text)
            return Form(source, step.function, state, cost, shared().wait_for_next_call, step)

        form: Form | None = self._made.get_or_make(key, make)
        return form


class Form:
    """The compiled function for arrays of certain shapes."""

    def __init__(
        self,
        source: Source,
        step: Any,
        state: dict[str, Array],
        cost: str,
        linger: Any = None,
        held: Any = None,
    ) -> None:
        self._source, self._step, self._cost, self._linger = source, step, cost, linger
        self._held = held
        self._like = {name: (state[name].shape, state[name].dtype) for name in source.state}

    def __call__(
        self, state: dict[str, Array], data: Data, order: Array | None, at: int, m: int, count: int
    ) -> tuple[dict[str, Array], Array]:
        """Do `count` steps."""
        # A step is pure: it goes on in arrays of its own.
        new = {name: np.empty(*like) for name, like in self._like.items()}
        old = [_plain(state[name]) for name, x in new.items() if x.ndim]
        for name, x in new.items():
            if x.ndim == 0:
                x[()] = state[name]
        X, Y, w = data
        rows = X.T if X.T.flags.c_contiguous else np.empty((0, 0), X.dtype)
        if order is None:
            order = _NO_ORDER
            if rows.size == 0 and lies(X) is None:
                place = slice(at, at + m * count) if at + m * count <= X.shape[1] else slice(0, None)
                X, Y, w = np.ascontiguousarray(X[:, place]), Y[..., place], None if w is None else w[place]
                at -= place.start
        elif rows.size == 0:
            rows = np.ascontiguousarray(X.T)
        Js = np.zeros(count + 1, self._cost)  # behind the costs: 0, if the new state is finite
        given = [
            order.astype(np.int64, copy=False),
            Js,
            rows,
            *map(_aligned, (X, Y) if w is None else (X, Y, w)),
        ]
        arrays = [new[name] if name in new else _plain(state[name]) for name in state]
        tables = self._source.tables.values()
        arguments = (count, at, m, *given, *arrays, *old, *tables)
        together(self._step, self._source.work, *arguments, linger=self._linger)
        return Checked({**state, **new}, Js[count] == 0), Js[:count]


_NO_ORDER = np.empty(0, np.int64)


def _aligned(x: Any) -> Any:
    return x if x.flags.aligned else x.copy()


def _plain(x: Any) -> Any:
    """Return an array as numba has one type for."""
    return x if x.flags.carray else np.require(x, requirements=("C", "A", "W"))
