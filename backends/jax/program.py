"""A program of JAX: a call is one jitted function, and many steps are one jitted loop."""

import logging
import weakref
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import reduce
from typing import Any

from nnx.array.gather import Data
from nnx.array.namespace import Array
from nnx.backends.jax.lowering import Lowered, is_tree
from nnx.compiler import trace
from nnx.port.program import Program, exclusive
from nnx.support.processes import give_way, not_forked, whole

COMPILED_SHAPES = 32
"""Sets of shapes that a function stays compiled for. Each takes 2 to 8 MB. One more set makes JAX forget all."""

COSTS = 4096
"""Numbers that the array of costs holds at least, so that other counts of steps need no other loop."""


class JaxProgram(Program):
    """A pure function of JAX's arrays.

    Parameters
    ----------
    function : callable
    jax : module
    precise : bool
        Whether products need to be told to have full precision: on a GPU (TF32) or a TPU JAX takes fewer bits.

    Notes
    -----
    The program has up to three sets of state arrays: the current one, the saved one, and a free one. A run donates the
    free one to the loop, which writes the new state into it. So a run takes no new memory.
    """

    def __init__(self, function: Callable[..., Any], jax: Any, precise: bool = False) -> None:
        super().__init__(function)
        self._jax, self._precise = jax, precise
        self._free: dict[str, Any] | None = None
        self._names: list[str] = []  # of the state's arrays, in order: JAX's trees sort them
        self._split_form: Any = None  # the structure, shapes and dtypes of a state after the split
        self._transposed: tuple[Any, dict[str, Any]] | None = None  # the last X, weakly, and its transpose

        def precision() -> Any:
            return jax.default_matmul_precision("highest") if precise else nullcontext()

        def called(*arguments: Any) -> Any:
            with precision():
                return (self._lowered(*arguments) or function)(*arguments)

        def looped(*arguments: Any) -> Any:
            with precision():
                return self._loop(*arguments)

        self._called = jax.jit(called)
        self._looped = jax.jit(looped, static_argnums=(8,), donate_argnums=(1,), keep_unused=True)
        self._split = jax.jit(self._split_copy, static_argnums=(3,))
        self._all_finite, self._transpose = jax.jit(self._finite_numbers), jax.jit(jax.numpy.transpose)

    def empty(self) -> "JaxProgram":
        """Return a program of the same function without a state."""
        return JaxProgram(self.function, self._jax, self._precise)

    @whole
    def __call__(self, *arguments: Any) -> Any:
        """Return what the function returns. It is compiled once for each set of shapes."""
        not_forked("JAX")
        forget_shapes(self._called)
        return self._jax.tree.map(self._joined, self._called(*arguments), is_leaf=is_tree)

    @exclusive
    def load(self, state: dict[str, Array]) -> None:
        """Copy a state in, or the arrays of a loaded state that are named: they keep their shapes and dtypes."""
        not_forked("JAX")
        self._state = self._jax.tree.map(self._jax.numpy.copy, {**self._whole(self._state), **state})
        self._names += [name for name in state if name not in self._names]

    @exclusive
    def run(self, data: Data, order: Array | None, at: int, m: int, count: int) -> Any:
        """Do `count` steps in one loop, or in one for each epoch if there is an order; see `Program.run`."""
        not_forked("JAX")
        if count == 0:
            return []
        jnp = self._jax.numpy
        if order is not None:
            data = (self._transpose_of(data[0]), *data[1:])
        forget_shapes(self._looped)
        start = state = self._split_state(data, order, m)
        free, self._free = self._free, None  # after an error below it may have been donated
        Js, done = jnp.zeros(max(COSTS, 1 << (count - 1).bit_length())), 0
        for places, first, some in self._epochs(order, data[1].shape[-1], at, m, count):
            if free is None:
                free = self._jax.tree.map(jnp.copy, state)
            new, Js = self._looped(state, free, data, places, Js, first, done, some, m)
            free = None if state is start else state
            state, done = new, done + some
            give_way()
        self._state = state
        self._release(start)
        return Js

    @exclusive
    def read(self, *names: str) -> dict[str, Array]:
        """Return copies of the state's arrays: of all of them without names."""
        copy, state = self._jax.numpy.copy, self._state
        return {
            name: self._joined(state[name]) if is_tree(state[name]) else copy(state[name])
            for name in names or self._names
        }

    @exclusive
    def snapshot(self) -> None:
        """Remember the state for `rollback`."""
        before, self._saved = self._saved, self._state
        self._release(before)

    @exclusive
    def rollback(self) -> None:
        """Go back to the state of the last `snapshot`, which stays remembered."""
        before, self._state = self._state, self._saved
        self._release(before)

    @property
    @exclusive
    def finite(self) -> bool:
        """Whether every number of the state is. The device works it out when it is asked."""
        return bool(self._all_finite(self._state))

    def _whole(self, state: dict[str, Any]) -> dict[str, Array]:
        return {name: self._joined(x) for name, x in state.items()}

    def _joined(self, x: Any) -> Any:
        """Return the vector of a tree, anything else as it is. Compiled into more, it took 50 times as long."""
        return x.joined(self._jax.numpy) if is_tree(x) else x

    def _release(self, state: dict[str, Any]) -> None:
        """Let the next run write into a state's arrays, if the state is neither the current nor the saved one."""
        if state is not self._state and state is not self._saved and self._form(state) == self._split_form:
            self._free = state

    def _form(self, state: dict[str, Any]) -> Any:
        leaves, structure = self._jax.tree.flatten(state)
        return structure, [(x.shape, x.dtype) for x in leaves]

    def _lowered(self, *arguments: Any) -> Lowered | None:
        """Return the function by its graph; None if it cannot be traced, as it may be with a custom activation."""
        try:
            lowered = Lowered(trace(self.function, *arguments), self._jax)
            self._jax.eval_shape(lowered, *arguments)
        except Exception as error:
            logging.getLogger("nnx").debug("%s cannot be traced: %s", self.function, error)
            return None
        return lowered

    def _split_state(self, data: Data, order: Any, m: int) -> dict[str, Any]:
        """Return the current state with its vectors split into parameters, as the loop wants and returns them."""
        if self._form(self._state) != self._split_form:
            forget_shapes(self._split)
            before, self._state = self._state, self._split(self._state, data, order, m)
            self._saved = self._state if self._saved is before else self._saved
            self._split_form, self._free = self._form(self._state), None
        return self._state

    def _split_copy(self, state: Any, data: Data, order: Any, m: int) -> Any:
        lowered = self._lowered(state, self._mini_batch(data, order, 0, m))
        split = {name: lowered.split(x) for name, x in state.items()} if lowered else state
        return self._jax.tree.map(self._jax.numpy.copy, split)

    def _loop(
        self, state: Any, free: Any, data: Data, order: Any, Js: Any, at: Any, done: Any, count: Any, m: int
    ) -> tuple[Any, Any]:
        """Return the state after `count` steps, in the arrays of `free`, and the costs with theirs from `done` on."""
        jax, M = self._jax, data[1].shape[-1]

        def batch(k: Any) -> Data:
            if order is not None:
                return self._mini_batch(data, order, at + k * m, m)
            start = at + jax.lax.rem(k, M // m) * m  # k m may be more than an int32 holds
            return self._mini_batch(data, None, jax.lax.rem(start, M), m)

        lowered = self._lowered(jax.eval_shape(self._whole, state), batch(0))
        step = lowered or self.function

        def body(k: Any, carried: Any) -> Any:
            state, Js, one = carried
            state, J = step(state, one or batch(k))
            return state, Js.at[done + k].set(J), one and batch(k + 1)

        # A single sample is cut out one step ahead: XLA would fuse the cut with the product dZ X^T, number by number.
        one = batch(0) if m == 1 else None
        # Behind a barrier no array of the old state is an array of the new one, also where no step changes it.
        state = jax.lax.optimization_barrier(state)
        state = {name: lowered.split(x) if lowered else self._joined(x) for name, x in state.items()}
        state, Js, _ = jax.lax.fori_loop(0, count, body, (state, Js, one))
        return state, Js

    def _mini_batch(self, data: Data, order: Any, start: Any, m: int) -> Data:
        """Return the m samples that begin at a place known only when it runs; with an order, X is there as X^T."""
        (X, Y, w), lax = data, self._jax.lax
        if order is None:

            def cut(x: Any) -> Any:
                return lax.dynamic_slice_in_dim(x, start, m, -1)

            return cut(X), cut(Y), None if w is None else cut(w)
        places = lax.dynamic_slice_in_dim(order, start, m)
        return X[places].T, Y[..., places], None if w is None else w[places]

    def _epochs(self, order: Any, M: int, at: int, m: int, count: int) -> Iterator[tuple[Any, int, int]]:
        """Yield the places of at most M samples, where in them the steps begin, and how many steps they are for."""
        if order is None or order.shape[0] <= M:
            yield order, at, count
            return
        for done in range(0, count, M // m):
            start = at + done * m
            first = min(start, order.shape[0] - M)
            places = self._jax.lax.dynamic_slice_in_dim(order, first, M)
            yield places, start - first, min(M // m, count - done)

    def _finite_numbers(self, state: Any) -> Any:
        jnp = self._jax.numpy
        numbers = [x for x in self._jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.inexact)]
        largest = (jnp.max(jnp.abs(x), initial=0) for x in numbers)
        return reduce(jnp.logical_and, map(jnp.isfinite, largest), True)

    def _transpose_of(self, X: Any) -> Any:
        """Return X^T, row by row in memory, as long as X lives: gathering X's columns takes ten times as long."""
        if self._transposed is None or self._transposed[0]() is not X:
            made = {"X^T": self._transpose(X)}
            self._transposed = weakref.ref(X, lambda _: made.clear()), made
        return self._transposed[1]["X^T"]


def forget_shapes(compiled: Any) -> None:
    """Forget what a jitted function has been compiled for, if that is for too many shapes."""
    if compiled._cache_size() >= COMPILED_SHAPES:
        compiled.clear_cache()
