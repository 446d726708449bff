"""Whose matrix products a compiled step calls: of SciPy's BLAS, or, on Intel's processors, of MKL if it is installed.

MKL's take a tenth to a third less time there than OpenBLAS's. It has one thread, as any BLAS in a compiled step.
"""

import ctypes
import logging
import platform
import re
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, NamedTuple

_log = logging.getLogger("nnx")

SEQUENTIAL = 1
"""What MKL calls its layer of one thread."""

SYMBOLS = {"float32": "nnx_sgemm", "float64": "nnx_dgemm"}
"""By these names compiled steps call `gemm`, with the arguments that BLAS has in Fortran."""


class Blas(NamedTuple):
    """A library of matrix products.

    Attributes
    ----------
    name : str
        With its version, where it tells it.
    gemm : dict of int
        For each dtype where the function lies in memory.
    path : str or None
        The file; None: SciPy's.
    alone : bool
        Whether it has one thread, whatever it is told.
    """

    name: str
    gemm: dict[str, int]
    path: str | None = None
    alone: bool = False


@lru_cache(maxsize=1)
def blas() -> Blas:
    """Return the library whose products are called in this process."""
    return (_of_intel() and mkl()) or scipys()


def scipys() -> Blas:
    """Return SciPy's BLAS: OpenBLAS, as a rule."""
    from numba.extending import get_cython_function_address as address

    return Blas(
        "SciPy's BLAS",
        {
            dtype: int(address("scipy.linalg.cython_blas", name.removeprefix("nnx_")))
            for dtype, name in SYMBOLS.items()
        },
    )


@lru_cache(maxsize=1)
def mkl() -> Blas | None:
    """Return MKL, loaded; None where it is not installed (as a package of pip's), or cannot be loaded."""
    path = _mkl_file()
    if path is None:
        return None
    try:
        library = ctypes.CDLL(str(path))
        # Says which layer it has: another one, if somebody has called it before.
        alone = library.MKL_Set_Threading_Layer(SEQUENTIAL) == SEQUENTIAL
        gemm = {"float32": library.sgemm_, "float64": library.dgemm_}
    except (OSError, AttributeError) as error:
        _log.info("MKL is installed, but not used: %s", error)
        return None
    where = {dtype: _address(function) for dtype, function in gemm.items()}
    return Blas(f"MKL {distribution('mkl').version}", where, str(path), alone)


def _address(function: Any) -> int:
    return int(ctypes.cast(function, ctypes.c_void_p).value or 0)


def _mkl_file() -> Path | None:
    with suppress(PackageNotFoundError):
        for file in distribution("mkl").files or ():
            if re.fullmatch(r"libmkl_rt\.so\.\d+|libmkl_rt\.\d+\.dylib|mkl_rt\.\d+\.dll", file.name):
                return Path(str(file.locate())).resolve()
    return None


def _of_intel() -> bool:
    """Whether this is a processor of Intel's: on AMD's MKL takes slower ways."""
    with suppress(OSError):
        return "GenuineIntel" in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    return "GenuineIntel" in platform.processor()


def bind() -> None:
    """Let the linker know `SYMBOLS`, before a step is compiled or loaded."""
    import llvmlite.binding

    for dtype, address in blas().gemm.items():
        llvmlite.binding.add_symbol(SYMBOLS[dtype], address)
