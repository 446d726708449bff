"""array-api-strict, which has the standard's functions and nothing else: for tests, never chosen by itself."""

from typing import Any

import numpy as np

from nnx.errors import BackendError
from nnx.host import as_host, quiet
from nnx.port import Backend, F, require


class Strict(Backend):
    """array-api-strict's arrays on "cpu" or its make-believe devices "device1" and "device2"."""

    name = "strict"

    def __init__(self, device: str | None = None) -> None:
        self.xp = require("array_api_strict", "test")
        self.version = self.xp.__version__
        self.device = device or "cpu"
        try:
            self._device = self.xp.Device("CPU_DEVICE" if self.device == "cpu" else self.device)
        except ValueError as error:
            raise BackendError(f"array-api-strict has no device {device!r} ({error})") from error
        self.detail = "for tests: the standard and nothing else"

    def asarray(self, x: Any, dtype: str | None = None) -> Any:
        """Return x as a strict array on the device."""
        return self.xp.asarray(np.asarray(as_host(x), dtype=dtype), device=self._device)

    def capture(self, step: F) -> F:
        """Return the step without the warnings of NumPy, which computes for it: the trainer looks at the cost."""
        return quiet()(step)

    def to_numpy(self, x: Any) -> Any:
        """Return x on the host."""
        return np.from_dlpack(x)
