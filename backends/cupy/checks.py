"""Why a GPU cannot be used, and what to do about it."""

from collections.abc import Callable
from typing import Any, NamedTuple

from nnx.backends.cupy.gpu import OUT_OF_MEMORY
from nnx.errors import first_line
from nnx.support.install import install

VOLTA, TURING = 70, 75
"""Compute capabilities, 7.0 and 7.5: the oldest that nnx can use, and the oldest that CUDA 13 compiles for."""

INSTALL = "install it: {}, or with cuda12 for a driver of CUDA 12"
"""The remedy where a library is missing."""


class Obstacle(NamedTuple):
    """Why a GPU cannot be used, and the remedy."""

    why: str
    remedy: str

    def __str__(self) -> str:
        return f"({self.why}); {self.remedy}"


def failed(cupy: Any, error: Exception, number: int) -> Obstacle:
    """Return why a first computation on a GPU failed."""
    return (
        driver_obstacle(cupy)
        or number_obstacle(cupy, number)
        or nvrtc_obstacle(cupy)
        or library_obstacle(error)
        or memory_obstacle(error)
        or Obstacle(first_line(error), "it needs an NVIDIA GPU and a driver for its CUDA version")
    )


def driver_obstacle(cupy: Any) -> Obstacle | None:
    """Return what is wrong with the driver, if CUDA can tell."""
    runtime = cupy.cuda.runtime
    driver, wanted = (_asked(runtime, name) for name in ("driverGetVersion", "runtimeGetVersion"))
    if driver == 0:
        return Obstacle(
            "there is no NVIDIA driver",
            "install one for an NVIDIA GPU, or use the backend 'numpy' or 'numba'",
        )
    if driver and wanted and driver // 1000 < wanted // 1000:  # within a major version any driver will do
        remedy = f"update the driver to one for CUDA {wanted // 1000}"
        if wanted // 1000 == 13 and driver // 1000 == 12:
            remedy += f", or uninstall CuPy and install the one for CUDA 12: {install('cuda12')}"
        return Obstacle(
            f"the driver is for CUDA {_version(driver)}, and CuPy for CUDA {_version(wanted)}", remedy
        )
    return None


def number_obstacle(cupy: Any, number: int) -> Obstacle | None:
    """Return what is wrong with the number of a GPU, if CUDA can count them."""
    count = _asked(cupy.cuda.runtime, "getDeviceCount")
    if count is None or number < count:
        return None
    found = "cuda:0 only" if count == 1 else f"cuda:0 to cuda:{count - 1}"
    return Obstacle(f"CUDA finds {found} here", "ask for one of these, or look at CUDA_VISIBLE_DEVICES")


def nvrtc_obstacle(cupy: Any) -> Obstacle | None:
    """Return what is wrong with NVRTC, CUDA's compiler."""
    nvrtc = getattr(cupy.cuda, "nvrtc", None)
    if nvrtc is None:
        return None
    try:
        nvrtc.getVersion()
    except Exception as error:  # the loader's errors have no common base
        return Obstacle(
            f"NVRTC, CUDA's compiler, cannot be loaded: {first_line(error)}",
            INSTALL.format(install("cuda13")),
        )
    return None


def library_obstacle(error: Exception) -> Obstacle | None:
    """Return what to say of a library of CUDA's that is missing: CuPy imports each when it is needed."""
    if not isinstance(error, ImportError):
        return None
    return Obstacle(
        f"a library of CUDA cannot be loaded: {first_line(error)}", INSTALL.format(install("cuda13"))
    )


def memory_obstacle(error: Exception) -> Obstacle | None:
    """Return what to say of a GPU whose memory is full before the first array."""
    if not isinstance(error, MemoryError) and getattr(error, "status", None) != OUT_OF_MEMORY:
        return None
    return Obstacle(first_line(error), "other programs use its memory: `nvidia-smi` lists them")


def capability_obstacle(capability: str, gpu: str, cuda: int) -> Obstacle | None:
    """Return what to say of a GPU that is too old for nnx, or for CUDA of this version.

    Examples
    --------
    >>> capability_obstacle("90", "NVIDIA H200", 13020)
    >>> print(capability_obstacle("61", "NVIDIA GeForce GTX 1080", 12090))
    (the NVIDIA GeForce GTX 1080 has compute capability 6.1); nnx needs 7.0 or newer: use the backend 'numpy' or 'numba'
    """
    why = f"the {gpu} has compute capability {capability[:-1]}.{capability[-1]}"
    if int(capability) < VOLTA:
        return Obstacle(why, "nnx needs 7.0 or newer: use the backend 'numpy' or 'numba'")
    if int(capability) < TURING and cuda >= 13000:
        remedy = f"uninstall CuPy and install the one for CUDA 12: {install('cuda12')}"
        return Obstacle(f"{why}, and CUDA 13 needs 7.5 or newer", remedy)
    return None


def _asked(runtime: Any, name: str) -> int | None:
    """Return a version as CUDA has it, such as 13020 for 13.2; None where it does not tell."""
    ask: Callable[[], int] | None = getattr(runtime, name, None)
    try:
        return None if ask is None else int(ask())
    except Exception:  # an error of CUDA's says no more than the one that is looked into
        return None


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"
