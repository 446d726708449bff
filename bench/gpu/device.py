"""The GPU, and the libraries that compute on it."""

from typing import Any

import nnx
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


def describe(report: Report, options: Options) -> None:
    """Report the GPU's name and properties, and which of our backends can use it."""
    try:
        library, name = described(nnx.backend("cupy"))
    except BackendError as error:
        report.add("cupy", "failed", str(error))
        return
    import cupy

    runtime = cupy.cuda.runtime
    found: dict[str, Any] = runtime.getDeviceProperties(0)
    numbers = {ours: int(found[theirs]) for theirs, ours in PROPERTIES.items() if theirs in found}
    numbers |= {"driver": int(runtime.driverGetVersion()), "runtime": int(runtime.runtimeGetVersion())}
    text = f"{name}; {library}; CUDA {numbers['runtime']}, the driver's {numbers['driver']}"
    report.add("cupy", "measured", text, name=name, **numbers)
    for other in ("torch", "jax"):
        try:
            report.add(other, "measured", nnx.backend(other, "cuda").describe())
        except BackendError as error:
            report.add(other, "skipped", str(error).split(";")[0])
