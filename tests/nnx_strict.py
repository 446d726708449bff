"""An adapter for array-api-strict, which has the standard's functions and nothing else: a test double.

It is found as anybody's adapter is: the folder nnx_strict-1.0.dist-info has its entry point, and pytest puts tests/ on
Python's path. A process that a test starts finds it only with tests/ in PYTHONPATH.
"""

import numpy as np

import nnx
from nnx.array.host import as_host
from nnx.port.base import require


class Strict(nnx.Backend):
    """The arrays of array-api-strict, on "cpu" or on one of its make-believe devices, such as "device1"."""

    name = "strict"

    def __init__(self, device=None):
        self.xp = require("array_api_strict", "test")
        # The estimators name the device of an array as str() does: "array_api_strict.Device('device1')".
        name = (device or "CPU_DEVICE").removeprefix("array_api_strict.Device('").removesuffix("')")
        self.device = "cpu" if name == "CPU_DEVICE" else name
        try:
            self._device = self.xp.Device("CPU_DEVICE" if name == "cpu" else name)
        except ValueError as error:
            raise nnx.BackendError(f"array-api-strict has no device {device!r} ({error})") from error

    def describe(self):
        """Return the version and the device."""
        return f"strict {self.xp.__version__} on {self.device}: for tests, the standard and nothing else"

    def asarray(self, x, dtype=None):
        """Return x as a strict array on the device."""
        return self.xp.asarray(np.asarray(as_host(x), dtype=dtype), device=self._device)

    def to_numpy(self, x):
        """Return x on the host."""
        return np.from_dlpack(x)
