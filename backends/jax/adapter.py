"""JAX, on any device that it finds. `jax.jit` compiles every program."""

import logging
from collections.abc import Callable
from math import inf
from typing import Any

import numpy as np

from nnx.array.host import as_host
from nnx.backends.jax.program import JaxProgram
from nnx.compiler.thresholds import GROUP_BYTES
from nnx.errors import BackendError, first_line
from nnx.port.base import Backend, Memory, process_memory, require
from nnx.port.precision import FLOAT32, check_capability, precision_note
from nnx.support.processes import not_forked, whole

WITH_CUDA = 'with CUDA: python -m pip install "jax[cuda13]"'


class Jax(Backend):
    """JAX's arrays on "cpu", "cuda", "cuda:N", "tpu", ..."""

    name = "jax"

    def __init__(self, device: str | None = None, precision: str = FLOAT32) -> None:
        not_forked("JAX")
        self._jax = jax = require("jax", "jax", f", {WITH_CUDA}")
        self.xp = require("jax.numpy", "jax")
        kind, _, index = (device or "").partition(":")
        try:
            self._device = jax.devices(kind or None)[int(index or 0)]
        except (RuntimeError, ValueError, IndexError, AssertionError) as error:
            raise BackendError(
                f"JAX {jax.__version__} finds no device {device or 'at all'} ({first_line(error)}); jax.devices() "
                f"lists those of its best platform, and 'cpu' is always there; {WITH_CUDA}"
            ) from error
        platform = "cuda" if self._device.platform == "gpu" else self._device.platform
        self.device = platform if platform == "cpu" else f"{platform}:{self._device.id}"
        self.precision = precision
        if precision == "tf32":
            check_capability(
                f"JAX on {self.device}", precision, getattr(self._device, "compute_capability", 0)
            )

    def describe(self) -> str:
        """Return JAX's version, the device's name, and the products' precision."""
        more = f"{self._device.device_kind}, every step jitted{precision_note(self.precision)}"
        return f"jax {self._jax.__version__} on {self.device}: {more}"

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
                x = x.astype(np.int32)  # as JAX does it, without its warning
        return jax.device_put(self.xp.asarray(x, dtype=dtype), self._device)

    @whole
    def to_numpy(self, x: Any) -> Any:
        """Return x on the host."""
        not_forked("JAX")
        return np.asarray(x)

    def compile(self, function: Callable[..., Any]) -> JaxProgram:
        """Return the function as a program, compiled once for each set of shapes."""
        of_float32 = None if self.device == "cpu" else "highest"
        names = {"float32": of_float32, "tf32": "tensorfloat32", "bfloat16": "bfloat16"}
        group_bytes = GROUP_BYTES if self.device == "cpu" else inf
        return JaxProgram(function, self._jax, names[self.precision], group_bytes)

    def memory(self) -> Memory:
        """Return the bytes of the device where JAX tells them, the process's on the CPU."""
        stats = self._device.memory_stats()
        if not stats:
            return process_memory()
        used, limit = stats.get("bytes_in_use"), stats.get("bytes_limit")
        free = None if used is None or limit is None else limit - used
        return Memory(used, stats.get("peak_bytes_in_use"), free)
