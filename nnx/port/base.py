"""The port: everything that nnx asks of an array library beyond the standard.

An adapter is one class, found through the entry-point group ``nnx.backends``. Its instance is one library on
one device. Nothing here grows with the number of activations, losses, layers or optimizers.
"""

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from nnx.array.namespace import Array, Namespace
from nnx.errors import BackendError, first_line
from nnx.port.precision import FLOAT32, precision_note
from nnx.port.program import Program
from nnx.support.install import install
from nnx.support.limits import available
from nnx.support.starting import ctrl_c_kept


class Memory(NamedTuple):
    """Bytes in use, at the peak, and those that can still be had; None where the library or system does not tell."""

    in_use: int | None
    peak: int | None
    free: int | None = None


class Backend(ABC):
    """One array library on one device.

    Parameters
    ----------
    device : str or None
        "cpu", "cuda", "cuda:1", ... as the library has them; None: the library's best.
    precision : {"float32", "tf32", "bfloat16"}
        Of an adapter that has other precisions than float32; others have no such parameter. See `nnx.backend`.

    Raises
    ------
    BackendError
        When the library is missing, too old, or cannot compute on the device: what is missing, and how to
        get it.

    Attributes
    ----------
    name : str
        The entry point's name.
    device : str
        Where its arrays live.
    precision : str
        Of the products of float32 matrices in what it compiles.
    xp : namespace
        The standard's functions, as array-api-compat gives them.
    """

    name: str
    device: str
    xp: Namespace
    precision: str = FLOAT32

    @abstractmethod
    def __init__(self, device: str | None = None) -> None: ...

    @abstractmethod
    def asarray(self, x: Any, dtype: str | None = None) -> Array:
        """Return x on the device: no copy where possible.

        Parameters
        ----------
        x : array of any library, or anything NumPy takes
            NumPy arrays may be read-only.
        dtype : {"float32", "float64", "int32"} or None
            None: that of x.
        """

    @abstractmethod
    def to_numpy(self, x: Array) -> Any:
        """Return x, one of this backend's arrays, as a NumPy array. It waits until x is computed."""

    def compile(self, function: Callable[..., Any]) -> Program:
        """Return a pure function of arrays as this library runs it: see `Program`. Here: called as it is."""
        return Program(function)

    def describe(self) -> str:
        """Return "library version on device: more", for people; more is the GPU's name, say."""
        return f"{self.name} on {self.device}"

    def memory(self) -> Memory:
        """Return the bytes in use on the device, their peak, and the free ones. Here: the process's."""
        return process_memory()

    def __repr__(self) -> str:
        return f"<nnx backend {self.describe().partition(': ')[0]}{precision_note(self.precision)}>"


def require(module: str, extra: str, more: str = "") -> Any:
    """Import and return a library, or raise a BackendError that says how to install it: by an extra of nnx."""
    try:
        with ctrl_c_kept():
            return import_module(module)
    except Exception as error:  # a half-installed library may raise anything
        raise BackendError(
            f"{module} cannot be imported ({first_line(error)}); install it: {install(extra)}{more}"
        ) from error


def only_cpu(name: str, device: str | None) -> str:
    """Return "cpu", or raise a BackendError when another device was asked of a library that has none."""
    if device not in (None, "cpu"):
        raise BackendError(
            f"{name} computes on the CPU only; given device={device!r}. For a CUDA GPU ask for the backend "
            "cupy or torch"
        )
    return "cpu"


def process_memory() -> Memory:
    """Return the resident bytes of this process, their peak, and those that it may still take."""
    try:
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        statm = Path("/proc/self/statm")
        in_use = int(statm.read_text().split()[1]) * resource.getpagesize() if statm.exists() else None
    except ImportError:  # not a Unix
        return Memory(None, None, available())
    return Memory(in_use, max(peak, in_use or 0), available())  # the two are sampled apart
