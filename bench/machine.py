"""What the figures were measured on: never a host's or a user's name, nor a path."""

import os
import platform
import subprocess
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from nnx.support.limits import cores

PACKAGES = (
    "nnx-array", "numpy", "numba", "mkl", "torch", "jax", "jaxlib", "optax", "scikit-learn", "scipy", "cupy",
    "cupy-cuda12x", "cupy-cuda13x", "nvidia-cublas", "nvidia-cublas-cu12",
)  # fmt: skip
VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_CORETYPE",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "XLA_FLAGS",
    "JAX_DEFAULT_MATMUL_PRECISION",
    "NVIDIA_TF32_OVERRIDE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)


def describe() -> dict[str, Any]:
    """Return the machine: its processor, the cores that this process may use, memory, system, Python.

    Examples
    --------
    >>> sorted(describe())
    ['cores', 'environment', 'memory', 'processor', 'python', 'system']
    """
    return {
        "processor": processor(),
        "cores": cores(),
        "memory": memory(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "environment": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def processor() -> str:
    """Return the processor's name; with its family and model where the name says little."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        pairs = (line.partition(":") for line in info.read_text(encoding="utf-8").splitlines())
        fields = {key.strip(): value.strip() for key, _, value in reversed(list(pairs))}
        if "model name" in fields:
            numbers = ", ".join(f"{key} {fields[key]}" for key in ("cpu family", "model") if key in fields)
            return f"{fields['model name']} ({numbers})" if numbers else fields["model name"]
    with suppress(OSError, subprocess.CalledProcessError):
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return platform.processor() or platform.machine()


def memory() -> int | None:
    """Return the bytes of the machine's memory; None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def versions() -> dict[str, str]:
    """Return the versions of what is installed of all that may take part."""
    found = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def blas() -> list[dict[str, Any]]:
    """Return the BLAS and the thread pools that this process has loaded; none where threadpoolctl is missing."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return []
    return [
        {
            "library": pool["internal_api"],
            "version": pool.get("version"),
            "architecture": pool.get("architecture"),
            "threads": pool["num_threads"],
        }
        for pool in threadpool_info()
    ]


def load() -> float | None:
    """Return how many programs wanted a core in the last minute, on average; None where the system does not tell."""
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):
        return None


def is_busy(load: float | None, machine: dict[str, Any]) -> bool:
    """Whether a load is one from which the figures suffer: half a core's for each core."""
    return load is not None and load > (machine.get("cores") or 1) / 2


def now() -> str:
    """Return the time, to a second, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
