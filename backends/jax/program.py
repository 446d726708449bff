"""A program of JAX: a call is one jitted function, and many steps are one jitted loop."""

import logging
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from math import inf
from typing import Any

from nnx.array.gather import Data
from nnx.array.members import is_stack
from nnx.array.namespace import Array
from nnx.backends.jax.lowering import Layouts, Lowered, is_tree, joined, split
from nnx.backends.jax.members import first_member, loop_of_stack
from nnx.compiler import trace
from nnx.compiler.passes.round_factors import in_precision
from nnx.port.program import Program, exclusive
from nnx.support.processes import give_way, not_forked, whole

COMPILED_SHAPES = 32
"""Sets of shapes that a function stays compiled for. Each takes 2 to 8 MB. One more set makes JAX forget all."""

COSTS = 4096
"""Numbers that the array of costs holds at least, so that other counts of steps need no other loop."""


class JaxProgram(Program):
    """A pure function of JAX's arrays. These never change, so a run returns new ones and a snapshot copies nothing.

    Parameters
    ----------
    function : callable
    jax : module
    precision : str or None
        JAX's name for the precision of products; None: JAX's default, which has fewer bits on a GPU (TF32) or a TPU.
    group_bytes : float
        Members of a stack that have so many bytes of state are computed at once.
    """

    def __init__(
        self, function: Callable[..., Any], jax: Any, precision: str | None = None, group_bytes: float = inf
    ) -> None:
        super().__init__(function, jax, precision, group_bytes)
        self._jax, self._precision, self._group_bytes = jax, precision, group_bytes
        self.buffers_of_all = group_bytes == inf
        self._layouts: Layouts | None = None  # of the state's vectors
        self._transposed: tuple[Any, dict[str, Any]] | None = None  # the last X, weakly, and its transpose
        self._called = jax.jit(lambda *arguments: (self._lowered(*arguments) or function)(*arguments))
        self._looped = jax.jit(self._loop, static_argnames="m")
        self._split = jax.jit(lambda x: split(x, self._layouts or {}, jax.numpy))
        self._split_each, self._join_each = jax.jit(jax.vmap(self._split)), jax.jit(jax.vmap(self._joined))
        self._transpose = jax.jit(jax.numpy.transpose)
        self._all_finite = jax.jit(self._numbers_are_finite)

    @whole
    def __call__(self, *arguments: Any) -> Any:
        """Return what the function returns. It is compiled once for each set of shapes."""
        not_forked("JAX")
        forget_shapes(self._called)
        with self._jax.default_matmul_precision(self._precision):
            return self._jax.tree.map(self._joined, self._called(*arguments), is_leaf=is_tree)

    @exclusive
    def load(self, state: dict[str, Array]) -> None:
        """Copy a state in, or the arrays of a loaded state that are named: they keep their shapes and dtypes."""
        not_forked("JAX")
        super().load({name: self._jax.numpy.copy(x) for name, x in state.items()})  # in their order

    @exclusive
    def run(self, data: Data, order: Array | None, at: int, m: int, count: int) -> Any:
        """Do `count` steps in one loop, or in one for each epoch if there is an order; see `Program.run`."""
        not_forked("JAX")
        if count == 0:
            return []
        if order is not None:
            data = (self._transpose_of(data[0]), *data[1:])
        forget_shapes(self._looped)
        state = self._split_state(data, order, m)
        own = state["t"].shape[:-1] if "t" in state else ()  # the members of a stack
        Js, done = self._jax.numpy.zeros((*own, max(COSTS, 1 << (count - 1).bit_length()))), 0
        for places, first, some in self._epochs(order, data[1].shape[-1], at, m, count):
            with self._jax.default_matmul_precision(self._precision):
                state, Js = self._looped(state, data, places, Js, first, done, some, m=m)
            done += some
            give_way()
        self._state = {name: state[name] for name in self._state}  # JAX sorts them
        return Js.T if own else Js

    @exclusive
    def read(self, *names: str) -> dict[str, Array]:
        """Return the state's arrays, which never change: all of them without names."""
        joined = self._join_each if is_stack(self._state) else self._joined
        return {name: joined(self._state[name]) for name in names or self._state}

    @property
    @exclusive
    def finite(self) -> bool:
        """Whether every number of the state is. The device works it out when it is asked."""
        return bool(self._all_finite(self._state))

    def _joined(self, x: Any) -> Any:
        return joined(x, self._jax.numpy)

    def _lowered(self, *arguments: Any, is_step: bool = False) -> Lowered | None:
        """Return the function by its graph; None if it cannot be traced, as it may be with a custom activation."""
        try:
            return Lowered(in_precision(trace(self.function, *arguments), self._precision), self._jax)
        except Exception as error:
            level, what = (logging.INFO, "a step") if is_step else (logging.DEBUG, self.function)
            logging.getLogger("nnx").log(level, "%s runs as it is: %s: %s", what, type(error).__name__, error)
            return None

    def _split_state(self, data: Data, order: Any, m: int) -> dict[str, Any]:
        """Return the current state with its vectors split into parameters, as the loop returns them."""
        stack, shapes = is_stack(self._state), self._jax.eval_shape
        if self._layouts is None:
            state, *samples = shapes(first_member, self._state, data, order)
            lowered = self._lowered(state, shapes(partial(self._mini_batch, start=0, m=m), *samples))
            self._layouts = lowered.layouts if lowered else {}
        return {
            name: (self._split_each if stack else self._split)(x)
            if not is_tree(x) and x.shape[stack:] in self._layouts
            else x
            for name, x in self._state.items()
        }

    def _loop(
        self, state: Any, data: Data, order: Any, Js: Any, at: Any, done: Any, count: Any, m: int
    ) -> tuple[Any, Any]:
        """Return the state after `count` steps, and the costs with theirs from `done` on."""
        if is_stack(state):
            loop = partial(self._loop, at=at, done=done, count=count, m=m)
            return loop_of_stack(loop, self._jax, self._group_bytes, state, data, order, Js)  # type: ignore[no-any-return]
        lax, M = self._jax.lax, data[1].shape[-1]

        def batch(k: Any) -> Data:
            if order is not None:
                return self._mini_batch(data, order, at + k * m, m)
            start = at + lax.rem(k, M // m) * m  # k m may be more than an int32 holds
            return self._mini_batch(data, None, lax.rem(start, M), m)

        whole_state = {name: self._joined(x) for name, x in state.items()}
        lowered = self._lowered(whole_state, batch(0), is_step=True)
        step = lowered or self.function
        state = {name: lowered.split(x) for name, x in state.items()} if lowered else whole_state

        def body(k: Any, carried: Any) -> Any:
            state, Js, one = carried
            state, J = step(state, one or batch(k))
            return state, Js.at[done + k].set(J), one and batch(k + 1)

        # A single sample is cut out one step ahead: XLA would fuse the cut with the product dZ X^T, number by number.
        one = batch(0) if m == 1 else None
        state, Js, _ = lax.fori_loop(0, count, body, (state, Js, one))
        return state, Js

    def _mini_batch(self, data: Data, order: Any, start: Any, m: int) -> Data:
        """Return the m samples that begin at a place known only when it runs; with an order, X is there as X^T."""
        (X, Y, w), cut = data, self._jax.lax.dynamic_slice_in_dim
        if order is None:
            return cut(X, start, m, -1), cut(Y, start, m, -1), None if w is None else cut(w, start, m, -1)
        picked = cut(order, start, m, -1)
        return X[picked].T, Y[..., picked], None if w is None else w[..., picked]

    def _epochs(self, order: Any, M: int, at: int, m: int, count: int) -> Iterator[tuple[Any, int, int]]:
        """Yield the places of at most M samples, where in them the steps begin, and how many steps they are for."""
        if order is None or order.shape[-1] <= M:
            yield order, at, count
            return
        for done in range(0, count, M // m):
            start = at + done * m
            first = min(start, order.shape[-1] - M)
            places = self._jax.lax.dynamic_slice_in_dim(order, first, M, -1)
            yield places, start - first, min(M // m, count - done)

    def _numbers_are_finite(self, state: Any) -> Any:
        jnp = self._jax.numpy
        largest = [jnp.max(jnp.abs(x), initial=0) for x in self._jax.tree.leaves(state)]
        return jnp.all(jnp.stack([jnp.isfinite(x) for x in largest]))

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
