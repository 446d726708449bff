"""CuPy, on a CUDA GPU.

This adapter has not yet run on a GPU; the tests have run it as far as a machine without one allows.
"""

from typing import Any

from nnx.errors import BackendError
from nnx.host import as_host
from nnx.port import Backend, Memory, require

INSTALL = "pip install 'nnx-array[cuda13]', or 'nnx-array[cuda12]' for a driver of CUDA 12"


class CuPy(Backend):
    """CuPy's arrays on "cuda" or "cuda:N"."""

    name = "cupy"

    def __init__(self, device: str | None = None) -> None:
        kind, _, index = (device or "cuda").partition(":")
        if kind != "cuda" or not (index or "0").isdecimal():
            raise BackendError(f"CuPy computes on 'cuda' or 'cuda:N' only; given device={device!r}")
        self._cupy = cupy = require("cupy", INSTALL)
        try:
            self._device = cupy.cuda.Device(int(index) if index else None)
            with self._device:
                cupy.asnumpy(cupy.ones(2) + 1)  # importing works without a driver: a tiny computation decides
                self.detail = cupy.cuda.runtime.getDeviceProperties(self._device.id)["name"].decode()
        except Exception as error:  # CUDA's, NVRTC's and the loader's errors have no common base
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise BackendError(
                f"CuPy {cupy.__version__} is installed, but cannot compute on {device or 'cuda'} ({reason}); "
                "it needs an NVIDIA GPU and a driver for its CUDA version"
            ) from error
        import array_api_compat.cupy as xp

        self.xp = xp
        self.version = cupy.__version__
        self.device = f"cuda:{self._device.id}"

    def asarray(self, x: Any, dtype: str | None = None) -> Any:
        """Return x as a CuPy array on the device; GPU arrays of other libraries come over DLPack."""
        cupy = self._cupy
        with self._device:
            if not isinstance(x, cupy.ndarray):
                on_gpu = hasattr(x, "__dlpack_device__") and int(x.__dlpack_device__()[0]) == 2  # kDLCUDA
                x = cupy.from_dlpack(x) if on_gpu else as_host(x)
            return cupy.asarray(x, dtype=dtype)

    def to_numpy(self, x: Any) -> Any:
        """Return x on the host."""
        return self._cupy.asnumpy(x)

    def synchronize(self) -> None:
        """Wait for the current stream."""
        with self._device:
            self._cupy.cuda.get_current_stream().synchronize()

    def memory(self) -> Memory:
        """Return the bytes in use and those that CuPy's pool holds, which never shrinks by itself."""
        with self._device:
            pool = self._cupy.get_default_memory_pool()
            return Memory(pool.used_bytes(), pool.total_bytes())
