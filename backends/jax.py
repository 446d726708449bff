"""JAX, on whatever device it finds; every captured step is compiled by `jax.jit`."""

import logging
import math
import weakref
from functools import partial, wraps
from typing import Any, NamedTuple

import numpy as np

from nnx.backends.parted import Parted, Spares, pieces, shapes
from nnx.backends.xla import Lowered, Pieces, is_by_rows
from nnx.errors import BackendError, first_line
from nnx.host import as_host
from nnx.port import Backend, Data, F, Memory, Steps, process_memory, require
from nnx.processes import not_forked, whole
from nnx.recording import record

KEPT = 1 << 24
"""Bytes of a batch from which its memory is kept from call to call."""

LARGE = 1 << 20
"""Bytes of a state that is looked through for what is not finite when somebody asks, not at the end of each call."""

SHAPES = 32
"""Sets of shapes that one function is compiled for at a time; each keeps 2 to 8 MB. At one more all are forgotten."""


class Form(NamedTuple):
    """How a step reads its samples, and does them.

    Parameters
    ----------
    turned : bool
        X is there as X^T: samples in an order are picked from it, and those of a step by rows lie so.
    by_rows : bool
        All that is of the samples has one in each row; see `Lowered`.
    """

    turned: bool
    by_rows: bool


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

    def _precise(self, function: F) -> F:
        """Return the function with products of full precision: JAX's own on a GPU (TF32) or a TPU is of fewer bits."""
        if self.device == "cpu":
            return function

        @wraps(function)
        def traced(*arguments: Any) -> Any:
            with self._jax.default_matmul_precision("highest"):
                return function(*arguments)

        return traced  # type: ignore[return-value]

    def _is_by_rows(self, step: Any, state: Any, data: Data, m: int) -> bool:
        X, Y, w = data
        shapes = [(X, (X.shape[0], m)), (Y, (*Y.shape[:-1], m)), (w, (m,))]
        batch = tuple(
            None if x is None else self._jax.ShapeDtypeStruct(shape, x.dtype) for x, shape in shapes
        )
        try:
            return bool(is_by_rows(record(step, state, batch)))
        except Exception:  # `_lowered` says so
            return False

    def _lowered(self, step: Any, *arguments: Any, form: Form | None = None) -> Lowered | None:
        """Return the function by its recording, where it has one; a step in the form that is asked for."""
        try:
            recording = record(step, *arguments)
            if form is None:
                lowered = Lowered(recording, self._jax)
            else:
                X = recording.arguments[1][0] if form.turned else None
                lowered = Lowered(recording, self._jax, X, form.by_rows)
            self._jax.eval_shape(lowered, *arguments)
        except Exception as error:  # an activation of one's own may ask for JAX's arrays
            logging.getLogger("nnx").debug("%s is not recorded: %s", step, error)
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

        by_rows: dict[Any, bool] = {}
        left: dict[
            Any, list[dict[str, Pieces]]
        ] = {}  # what a fit has left, of these shapes, is of use to the next

        def form_of(state: Any, data: Data, order: Any, m: int) -> Form:
            key = m, data[0].shape
            if key not in by_rows:
                by_rows[key] = self.device == "cpu" and self._is_by_rows(step, dict(state), data, m)
            return Form(by_rows[key] or order is not None, by_rows[key])

        def lowered(state: Any, data: Data, order: Any, m: int, form: Form) -> Lowered | None:
            return self._lowered(step, state, _mini_batch(jax, data, order, 0, m, form.turned), form=form)

        # So that there is one loop, of pieces.
        def cut(state: Any, data: Data, order: Any, m: int, form: Form) -> Any:
            found = lowered(state, data, order, m, form)
            return {name: found.cut(x) for name, x in state.items()} if found else state

        def loop(
            kept: Any,
            spare: Any,
            memory: Any,
            data: Data,
            order: Any,
            at: Any,
            count: Any,
            m: int,
            room: int,
            form: Form,
        ) -> Any:
            state = self._joined(kept)
            found = lowered(state, data, order, m, form)
            once, kept = (found, {name: found.cut(x) for name, x in kept.items()}) if found else (step, state)
            Js = jnp.zeros(room, state["theta"].dtype)

            def batch(k: Any) -> Data:
                if order is not None:
                    return _mini_batch(jax, data, order, at + k * m, m, form.turned)
                M, rem = data[1].shape[-1], jax.lax.rem
                start = at + rem(k, M // m) * m  # k m may be more than an int32 holds
                return _mini_batch(jax, data, None, rem(start, M), m, form.turned)  # `at` may be more than 0

            def body(k: Any, carried: Any) -> Any:
                kept, Js, ready, _ = carried
                X, *rest = ready or batch(k)
                kept, J = once(kept, (X, *rest))
                written = None if memory is None else X.T if form.turned else X
                return kept, Js.at[k].set(J), ready and batch(k + 1), written

            # One sample is handed on from step to step: XLA would fuse its gathering with the product dZ X^T.
            ready = batch(0) if m == 1 else None
            # The first step apart writes into new arrays: a loop would copy what it was handed, to change it in place.
            kept, Js, _, memory = jax.lax.fori_loop(1, count, body, body(0, (kept, Js, ready, memory)))
            return kept, None if _bytes(jax, kept) >= LARGE else _finite(jax, kept), Js, memory

        cutting = jax.jit(cut, static_argnums=(3, 4))
        looping = jax.jit(
            self._precise(loop), static_argnums=(7, 8, 9), donate_argnums=(1, 2), keep_unused=True
        )

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
            form = form_of(state, data, order, m)
            if form.turned:
                data = (self._rows(data[0]), *data[1:])
            spares = state.spares if isinstance(state, Parted) else None
            if isinstance(state, Parted) and spares is not None and spares.maker is looping:
                old, begins = state.kept(), False
            else:  # another's is joined, and cut anew
                old, begins = cutting(dict(state), data, order, m, form), True
            own = pieces(old) if self.device == "cpu" else {}
            if begins or spares is None or spares.names != own.keys():
                begins, key = True, shapes(own)
                if key not in left:
                    left.clear()
                spares = Spares(looping, own, left.setdefault(key, []))
            spare = spares.take()
            if spare is None:  # nothing is left yet, or somebody holds them all
                spare = jax.tree.map(jnp.empty_like, own)
            whole = order is None and m == data[1].shape[-1]  # no copy is made
            memory = None if whole else self._batch_memory(spares, data[0], form.turned, m)
            kept, finite, Js, memory = looping(old, spare, memory, data, order, at, count, m, room, form)
            if memory is not None:
                spares.leave_batch(memory)
            self._costs = Js
            if begins and not {*map(id, jax.tree.leaves(own))}.isdisjoint(map(id, jax.tree.leaves(kept))):
                spares.closed = True  # what is passed on as it is is nobody's to leave
            return Parted(kept, self._is_finite if finite is None else finite, self._join, spares), Js

        return steps

    def _is_finite(self, kept: Any) -> bool:
        """Return whether every number is: of finite ones the sum of squares may be infinite, then each is looked at."""
        return bool(self._squares(kept)) or bool(self._finite(kept))

    def _batch_memory(self, spares: Spares, X: Any, turned: bool, m: int) -> Any:
        """Return the memory for a batch of many bytes, that of an earlier one; None for a small one.

        Given back to the system after each call and asked for again, it took longer to come by than to write.
        """
        shape = (m, X.shape[1]) if turned else (X.shape[0], m)
        if self.device != "cpu" or X.dtype.itemsize * math.prod(shape) < KEPT:
            return None
        memory = spares.take_batch(shape, X.dtype)
        return self.xp.empty(shape, X.dtype, device=self._device) if memory is None else memory

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


def _mini_batch(jax: Any, data: Data, order: Any, start: Any, m: int, turned: bool) -> Data:
    """Return the m samples that begin at a place known only when it runs, of X, or of X^T if it is turned."""
    X, Y, w = data
    if order is None:

        def cut(x: Any, axis: int = -1) -> Any:
            return jax.lax.dynamic_slice_in_dim(x, start, m, axis)

        return cut(X, 0).T if turned else cut(X), cut(Y), None if w is None else cut(w)
    picked = jax.lax.dynamic_slice_in_dim(order, start, m)
    return X[picked].T, Y[..., picked], None if w is None else w[picked]
