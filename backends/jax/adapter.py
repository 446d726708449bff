"""JAX, on whatever device it finds; every captured step is compiled by `jax.jit`."""

import logging
import weakref
from functools import partial, wraps
from typing import Any

import numpy as np

from nnx.array.gather import Data
from nnx.array.host import as_host
from nnx.backends.jax.lowering import Lowered, Pieces
from nnx.backends.jax.parted import Parted, Spares, pieces, shapes
from nnx.compiler import trace
from nnx.errors import BackendError, first_line
from nnx.port.base import Backend, F, Memory, Steps, Transitional, process_memory, require
from nnx.port.program import Program
from nnx.support.processes import not_forked, whole

LARGE = 1 << 20
"""Bytes of a state that is looked through for what is not finite when somebody asks, not at the end of each call."""

SHAPES = 32
"""Sets of shapes that one function is compiled for at a time; each keeps 2 to 8 MB. At one more all are forgotten."""


class Jax(Backend):
    """JAX's arrays on "cpu", "cuda", "cuda:N", "tpu", ..."""

    name = "jax"
    one_order = True

    def __init__(self, device: str | None = None) -> None:
        not_forked("JAX")
        self._jax = jax = require("jax", "jax", ', with CUDA: python -m pip install "jax[cuda13]"')
        self.xp = require("jax.numpy", "jax")
        self.version = jax.__version__
        kind, _, index = (device or "").partition(":")
        try:
            self._device = jax.devices(kind or None)[int(index or 0)]
        except (RuntimeError, ValueError, IndexError, AssertionError) as error:
            raise BackendError(
                f"JAX {self.version} finds no device {device or 'at all'} ({first_line(error)}); jax.devices() lists "
                "those of its best platform, and 'cpu' is always there"
            ) from error
        platform = "cuda" if self._device.platform == "gpu" else self._device.platform
        self.device = platform if platform == "cpu" else f"{platform}:{self._device.id}"
        self.detail = f"{self._device.device_kind}, every step jitted"
        self._costs: Any = None  # of the last steps
        self._turned: tuple[Any, Any] | None = None  # the last X that was picked from, and its transpose
        self._transposed = jax.jit(self.xp.transpose)
        self._flat, self._concatenated = jax.jit(Pieces.flat), jax.jit(self.xp.concatenate)
        self._squares, self._finite = jax.jit(partial(_squares, jax)), jax.jit(partial(_finite, jax))

    @whole
    def asarray(self, x: Any, dtype: str | None = None) -> Any:
        """Return x as a JAX array on the device.

        JAX has no float64 until `jax_enable_x64` is set, for the whole process; asking for float64 sets it.
        """
        not_forked("JAX")
        jax = self._jax
        if dtype == "float64" and not jax.config.jax_enable_x64:
            logging.getLogger("nnx").info("float64 was asked for: jax_enable_x64 is set for this process")
            jax.config.update("jax_enable_x64", True)
        if not isinstance(x, jax.Array):
            x = np.asarray(as_host(x), dtype=dtype)
            if x.dtype == np.int64 and not jax.config.jax_enable_x64:
                x = x.astype(np.int32)  # what JAX makes of it, said aloud to avoid its warning
        return jax.device_put(self.xp.asarray(x, dtype=dtype), self._device)

    @whole
    def to_numpy(self, x: Any) -> Any:
        """Return x on the host."""
        not_forked("JAX")
        return np.asarray(x)

    @whole
    def synchronize(self) -> None:
        """Wait for all that was dispatched to the device."""
        if self._costs is not None:
            self._costs.block_until_ready()
        if self.device != "cpu":  # a GPU does one thing after the other; of a CPU this tells nothing
            (self._jax.device_put(0.0, self._device) + 0).block_until_ready()

    def capture(self, step: F) -> F:
        """Return the step, compiled once for every set of shapes."""

        def run(*arguments: Any) -> Any:
            return (self._lowered(step, *arguments) or step)(*arguments)

        compiled = self._jax.jit(self._precise(run))

        @whole
        def captured(*arguments: Any) -> Any:
            not_forked("JAX")
            _forget(compiled)
            return self._joined(compiled(*(dict(x) if isinstance(x, Parted) else x for x in arguments)))

        return captured  # type: ignore[return-value]

    def compile(self, function: F) -> Program:
        """Return the function as a program."""
        return Transitional(self, function)

    def _precise(self, function: F) -> F:
        """Return the function with products of full precision: JAX's own on a GPU (TF32) or a TPU is of fewer bits."""
        if self.device == "cpu":
            return function

        @wraps(function)
        def traced(*arguments: Any) -> Any:
            with self._jax.default_matmul_precision("highest"):
                return function(*arguments)

        return traced  # type: ignore[return-value]

    def _lowered(self, step: Any, *arguments: Any, turned: bool = False) -> Lowered | None:
        """Return the function by its graph, where it has one; `turned`: X of its batch lies as X^T does."""
        try:
            graph = trace(step, *arguments)
            lowered = Lowered(graph, self._jax, graph.arguments[1][0] if turned else None)
            self._jax.eval_shape(lowered, *arguments)
        except Exception as error:  # an activation of one's own may ask for JAX's arrays
            logging.getLogger("nnx").debug("%s is not traced: %s", step, error)
            return None
        return lowered

    def _joined(self, result: Any) -> Any:
        """Return a result with whole vectors."""

        def leaf(x: Any) -> Any:
            return self._join(x) if isinstance(x, Pieces) else x

        return self._jax.tree.map(leaf, result, is_leaf=lambda x: isinstance(x, Pieces))

    def _join(self, x: Pieces) -> Any:
        """Return the vector. XLA is called for the joining alone: it takes ten times as long fused with more."""
        parts = self._flat(x).parts
        return self._concatenated(parts) if len(parts) > 1 else self.xp.copy(parts[0])

    def repeat(self, step: F) -> Steps:
        """Return the steps as one compiled loop, for any number of them; the state stays in pieces between its calls.

        Joined after each call and cut for the next, it took a third of the time of 16 steps. On a CPU a new state lies
        where one was that nobody has any more: new memory takes a fifth of the time, 1024 wide at m = 1.
        """
        jax, jnp = self._jax, self.xp

        left: dict[
            Any, list[dict[str, Pieces]]
        ] = {}  # what a fit has left, of these shapes, is of use to the next

        def lowered(state: Any, data: Data, order: Any, m: int) -> Lowered | None:
            batch = _mini_batch(jax, data, order, 0, m)
            return self._lowered(step, state, batch, turned=order is not None)

        # So that there is one loop, of pieces.
        def cut(state: Any, data: Data, order: Any, m: int) -> Any:
            found = lowered(state, data, order, m)
            return {name: found.cut(x) for name, x in state.items()} if found else state

        def loop(
            kept: Any,
            spare: Any,
            data: Data,
            order: Any,
            at: Any,
            count: Any,
            m: int,
            room: int,
        ) -> Any:
            state = self._joined(kept)
            found = lowered(state, data, order, m)
            once, kept = (found, {name: found.cut(x) for name, x in kept.items()}) if found else (step, state)
            Js = jnp.zeros(room, state["theta"].dtype)

            def batch(k: Any) -> Data:
                if order is not None:
                    return _mini_batch(jax, data, order, at + k * m, m)
                M, rem = data[1].shape[-1], jax.lax.rem
                start = at + rem(k, M // m) * m  # k m may be more than an int32 holds
                return _mini_batch(jax, data, None, rem(start, M), m)  # `at` may be more than 0

            def body(k: Any, carried: Any) -> Any:
                kept, Js, ready = carried
                X, *rest = ready or batch(k)
                kept, J = once(kept, (X, *rest))
                return kept, Js.at[k].set(J), ready and batch(k + 1)

            # One sample is handed on from step to step: XLA would fuse its gathering with the product dZ X^T.
            ready = batch(0) if m == 1 else None
            # The first step apart writes into new arrays: a loop would copy what it was handed, to change it in place.
            kept, Js, _ = jax.lax.fori_loop(1, count, body, body(0, (kept, Js, ready)))
            return kept, None if _bytes(jax, kept) >= LARGE else _finite(jax, kept), Js

        cutting = jax.jit(cut, static_argnums=(3,))
        looping = jax.jit(self._precise(loop), static_argnums=(6, 7), donate_argnums=(1,), keep_unused=True)

        @whole
        def steps(
            state: dict[str, Any], data: Data, order: Any, at: int, m: int, count: int
        ) -> tuple[dict[str, Any], Any]:
            not_forked("JAX")
            if count == 0:
                return state, []
            _forget(looping)
            _forget(cutting)
            room = max(4096, 1 << (count - 1).bit_length())  # one size, whatever the count
            if order is not None:
                data = (self._rows(data[0]), *data[1:])
            spares = state.spares if isinstance(state, Parted) else None
            if isinstance(state, Parted) and spares is not None and spares.maker is looping:
                old, begins = state.kept(), False
            else:  # another's is joined, and cut anew
                old, begins = cutting(dict(state), data, order, m), True
            own = pieces(old) if self.device == "cpu" else {}
            if begins or spares is None or spares.names != own.keys():
                begins, key = True, shapes(own)
                if key not in left:
                    left.clear()
                spares = Spares(looping, own, left.setdefault(key, []))
            spare = spares.take()
            if spare is None:  # nothing is left yet, or somebody holds them all
                spare = jax.tree.map(jnp.empty_like, own)
            kept, finite, Js = looping(old, spare, data, order, at, count, m, room)
            self._costs = Js
            if begins and not {*map(id, jax.tree.leaves(own))}.isdisjoint(map(id, jax.tree.leaves(kept))):
                spares.closed = True  # what is passed on as it is is nobody's to leave
            return Parted(kept, self._is_finite if finite is None else finite, self._join, spares), Js

        return steps

    def _is_finite(self, kept: Any) -> bool:
        """Return whether every number is: of finite ones the sum of squares may be infinite, then each is looked at."""
        return bool(self._squares(kept)) or bool(self._finite(kept))

    @whole
    def picked_from(self, data: Data) -> None:
        """Make X^T."""
        self._rows(data[0]).block_until_ready()

    def _rows(self, X: Any) -> Any:
        """Return X^T, row by row in memory, as long as X lives: a sample out of X's columns takes ten times as long."""
        turned = self._turned
        if turned is None or turned[0]() is not X:
            turned = self._turned = weakref.ref(X, self._forget), self._transposed(X)
        return turned[1]

    def _forget(self, X: Any) -> None:
        turned = self._turned
        if turned is not None and turned[0] is X:
            self._turned = None

    def memory(self) -> Memory:
        """Return the bytes of the device where JAX tells them, the process's on the CPU."""
        stats = self._device.memory_stats()
        if not stats:
            return process_memory()
        return Memory(stats.get("bytes_in_use"), stats.get("peak_bytes_in_use"))


def _forget(compiled: Any) -> None:
    """Forget what a jitted function has been compiled for, if that is for too many shapes."""
    if compiled._cache_size() >= SHAPES:
        compiled.clear_cache()


def _numbers(jax: Any, kept: Any) -> list[Any]:
    return [x for x in jax.tree.leaves(kept) if jax.numpy.issubdtype(x.dtype, jax.numpy.inexact)]


def _bytes(jax: Any, kept: Any) -> int:
    return sum(x.dtype.itemsize * x.size for x in _numbers(jax, kept))


def _finite(jax: Any, kept: Any) -> Any:
    """Return whether every number is, by the largest of each array: XLA finds it in half the time of a look at each."""
    jnp = jax.numpy
    return jnp.all(jnp.isfinite(jnp.stack([jnp.max(jnp.abs(x)) for x in _numbers(jax, kept)])))


def _squares(jax: Any, kept: Any) -> Any:
    """Return whether the sum of all squares is finite, which takes half the time of `_finite`."""
    return jax.numpy.isfinite(sum(jax.numpy.vdot(x, x) for x in _numbers(jax, kept)))


def _mini_batch(jax: Any, data: Data, order: Any, start: Any, m: int) -> Data:
    """Return the m samples that begin at a place known only when it runs; with an order, X is there as X^T."""
    X, Y, w = data
    if order is None:

        def cut(x: Any) -> Any:
            return jax.lax.dynamic_slice_in_dim(x, start, m, -1)

        return cut(X), cut(Y), None if w is None else cut(w)
    picked = jax.lax.dynamic_slice_in_dim(order, start, m)
    return X[picked].T, Y[..., picked], None if w is None else w[picked]
