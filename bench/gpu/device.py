"""The GPU, and the libraries that compute on it."""

import re
from pathlib import Path
from typing import Any, cast

import nnx
from nnx.backends.cupy.adapter import CuPy
from nnx.bench.gpu.report import Report
from nnx.bench.gpu.sections import Options
from nnx.errors import BackendError
from nnx.port.registry import described

PROPERTIES = {
    "totalGlobalMem": "memory",
    "multiProcessorCount": "multiprocessors",
    "l2CacheSize": "l2",
    "major": "major",
    "minor": "minor",
}
"""Those of CUDA's properties of a device that a reader of the figures needs, and their names in the file."""

DRIVER = Path("/proc/driver/nvidia/version")
"""Where Linux tells the release of NVIDIA's driver."""


def describe(report: Report, options: Options) -> None:
    """Report the GPU's name and properties, and which of our backends can use it."""
    try:
        backend = cast("CuPy", nnx.backend("cupy"))
    except BackendError as error:
        report.add("cupy", "failed", str(error).partition(", or use the backend")[0])
        return
    (library, name), cuda = described(backend), backend.gpu.cupy.cuda
    properties = cuda.runtime.getDeviceProperties(backend.gpu.device.id)
    numbers: dict[str, Any] = {
        ours: int(properties[theirs]) for theirs, ours in PROPERTIES.items() if theirs in properties
    }
    numbers |= {
        "driver": driver_release(),
        "cuda_driver": int(cuda.runtime.driverGetVersion()),
        "cuda_runtime": int(cuda.runtime.runtimeGetVersion()),
        "cublaslt": int(backend.gpu.lt.library.cublasLtGetVersion()),
        "nvrtc": ".".join(map(str, cuda.nvrtc.getVersion())),
    }
    text = f"{name}; {library}; CUDA {numbers['cuda_runtime']}, the driver's {numbers['cuda_driver']}"
    report.add("cupy", "measured", text, name=name, **numbers)
    for other in ("torch", "jax"):
        try:
            report.add(other, "measured", nnx.backend(other, "cuda").describe())
        except BackendError as error:
            report.add(other, "skipped", str(error).split(";")[0])


def driver_release() -> str | None:
    """Return the release of NVIDIA's driver, such as "580.65.06"; None where the system does not tell."""
    found = re.search(r"\b\d{3}(\.\d+)+", DRIVER.read_text(encoding="utf-8")) if DRIVER.exists() else None
    return None if found is None else found.group()
