"""CuPy, on a CUDA GPU."""

from collections.abc import Callable
from typing import Any

from nnx.array.host import as_host
from nnx.backends.cupy.checks import Obstacle, capability_obstacle, failed
from nnx.backends.cupy.cublaslt import library, on_gpu
from nnx.backends.cupy.gpu import Gpu
from nnx.backends.cupy.program import CudaProgram
from nnx.errors import BackendError
from nnx.port.base import Backend, Memory, require
from nnx.port.precision import FLOAT32, check_capability, precision_note
from nnx.port.program import Program
from nnx.support.processes import not_forked, whole

CUDA_KINDS = 2, 13
"""DLPack's numbers of a GPU's memory (kDLCUDA) and of memory that a GPU shares with the host (kDLCUDAManaged)."""


class CuPy(Backend):
    """CuPy's arrays on "cuda" or "cuda:N", which becomes the current device of the thread.

    Attributes
    ----------
    gpu : Gpu
        The device, for what is to run on it beside the programs.
    """

    name = "cupy"

    def __init__(self, device: str | None = None, precision: str = FLOAT32) -> None:
        kind, _, index = (device or "cuda").partition(":")
        if kind != "cuda" or not (index or "0").isdecimal():
            raise BackendError(f"CuPy computes on 'cuda' or 'cuda:N' only; given device={device!r}")
        not_forked("CUDA")
        self._cupy = cupy = require("cupy", "cuda13", ", or with cuda12 for a driver of CUDA 12")
        number = int(index) if index else None
        try:
            import array_api_compat.cupy as xp

            self._device = cupy.cuda.Device(number)
            # What runs between the steps runs where the arrays are, too; the `with`s below serve other threads.
            self._device.use()
            capability = str(self._device.compute_capability)
            runtime = cupy.cuda.runtime
            self._name = runtime.getDeviceProperties(self._device.id)["name"].decode()
            obstacle = capability_obstacle(capability, self._name, runtime.runtimeGetVersion())
            if obstacle is None:
                # Importing works without a driver, and adding without cuBLAS: a tiny product decides.
                cupy.asnumpy(cupy.ones((2, 2)) @ cupy.ones((2, 2)))
        except Exception as error:  # CUDA's, NVRTC's and the loader's errors have no common base
            raise self._unusable(device, failed(cupy, error, number or 0)) from error
        if obstacle is not None:
            raise self._unusable(device, obstacle)
        self.xp, self.device, self.precision = xp, f"cuda:{self._device.id}", precision
        if precision != FLOAT32:  # cuBLASLt may multiply in float32, and say nothing
            check_capability(f"CuPy on {self.device}", precision, f"{capability[:-1]}.{capability[-1]}")
        self.gpu = Gpu(cupy, self._device, on_gpu(library(), self._device.id, capability))

    def _unusable(self, device: str | None, obstacle: Obstacle) -> BackendError:
        version = self._cupy.__version__
        return BackendError(
            f"CuPy {version} is installed, but cannot compute on {device or 'cuda'} {obstacle}"
        )

    def describe(self) -> str:
        """Return CuPy's version, the GPU's name, and the products' precision."""
        return f"cupy {self._cupy.__version__} on {self.device}: {self._name}{precision_note(self.precision)}"

    @whole
    def asarray(self, x: Any, dtype: str | None = None) -> Any:
        """Return x as a CuPy array on the device; GPU arrays of other libraries come over DLPack."""
        cupy = self._cupy
        with self.gpu.use():
            if not isinstance(x, cupy.ndarray):
                kind = int(x.__dlpack_device__()[0]) if hasattr(x, "__dlpack_device__") else None
                x = cupy.from_dlpack(x) if kind in CUDA_KINDS else as_host(x)
            return cupy.asarray(x, dtype=dtype)

    @whole
    def to_numpy(self, x: Any) -> Any:
        """Return x on the host."""
        with self.gpu.use():
            return self._cupy.asnumpy(x)

    def compile(self, function: Callable[..., Any]) -> Program:
        """Return the function as kernels and products. Training steps are CUDA graphs."""
        return CudaProgram(function, self.gpu, self.precision)  # type: ignore[no-any-return]

    def memory(self) -> Memory:
        """Return the bytes in use, those that CuPy's pool holds, which never shrinks by itself, and the free ones."""
        with self._device:
            pool = self._cupy.get_default_memory_pool()
            return Memory(pool.used_bytes(), pool.total_bytes(), self.gpu.free_bytes)
