"""The library of matrix products in compiled steps: SciPy's BLAS, or MKL on Intel's processors where it is installed.

There MKL takes a tenth to a third less time than OpenBLAS. It has one thread, as any BLAS in a compiled step.
"""

import ctypes
import logging
import os
import platform
import re
import threading
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, NamedTuple

from nnx.errors import BackendError
from nnx.support.blas_threads import libraries
from nnx.support.install import install

_log = logging.getLogger("nnx")

SEQUENTIAL = 1
"""What MKL calls its layer of one thread."""

LONG = 1
"""The bit by which MKL says that its whole numbers have 64 bits; here they have 32."""


class Blas(NamedTuple):
    """A library of matrix products, and the address of gemm, as Fortran calls it, for each dtype."""

    name: str
    gemm: dict[str, int]
    is_mkl: bool = False


@lru_cache(maxsize=1)
def blas() -> Blas:
    """Return the library whose products are called in this process; NNX_BLAS may say "scipy" or "mkl"."""
    requested = os.environ.get("NNX_BLAS") or "auto"
    if requested not in ("auto", "scipy", "mkl"):
        raise BackendError(f"NNX_BLAS={requested}: expected 'scipy' or 'mkl'")
    found = mkl() if requested == "mkl" or (requested == "auto" and _of_intel()) else None
    if requested == "mkl" and found is None:
        told = "NNX_BLAS=mkl: MKL is not installed, or cannot be used in this process; "
        raise BackendError(told + install("mkl"))
    return found or scipys()


def scipys() -> Blas:
    """Return SciPy's BLAS: OpenBLAS, as a rule."""
    from numba.extending import get_cython_function_address as address

    gemm = {dtype: f"{letter}gemm" for dtype, letter in (("float32", "s"), ("float64", "d"))}
    return Blas("SciPy's BLAS", {k: int(address("scipy.linalg.cython_blas", x)) for k, x in gemm.items()})


_lock = threading.Lock()
"""MKL is loaded once: a second thread, or call, would find the library loaded by another, and leave it alone."""


@lru_cache(maxsize=1)  # to look for the package takes 10 ms
def mkl() -> Blas | None:
    """Return MKL, loaded; None where it is not installed (as a package of pip's), or is another's in this process."""
    with suppress(PackageNotFoundError), _lock:
        package = distribution("mkl")
        for file in package.files or ():
            if re.fullmatch(r"libmkl_rt\.so\.\d+|mkl_rt\.\d+\.dll", file.name):
                return _loaded(str(Path(str(file.locate())).resolve()), f"MKL {package.version}")
    return None


@lru_cache
def _loaded(path: str, name: str) -> Blas | None:
    try:
        if hasattr(os, "RTLD_NOLOAD"):
            with suppress(OSError):
                ctypes.CDLL(path, os.RTLD_NOLOAD)
                _log.info("another library has loaded MKL in this process: it is left as it is")
                return None
        library = ctypes.CDLL(path)
        # Each returns the setting now: the environment may have set another one.
        threads, numbers = library.MKL_Set_Threading_Layer(SEQUENTIAL), library.MKL_Set_Interface_Layer(0)
        if threads != SEQUENTIAL or numbers & LONG:
            _log.info("MKL is not used: it has several threads, or whole numbers of 64 bits")
            return None
        gemm = {"float32": library.sgemm_, "float64": library.dgemm_}
        return Blas(
            name, {dtype: ctypes.cast(f, ctypes.c_void_p).value or 0 for dtype, f in gemm.items()}, True
        )
    except (OSError, AttributeError) as error:
        _log.info("MKL is installed, but not used: %s", error)
        return None


def suits_blas(x: Any) -> bool:
    """Whether BLAS can take a matrix as it is: one stride is an element, the other at least a row or column."""
    (rows, columns), (down, right), item = x.shape, x.strides, x.itemsize
    by_rows = right == item and down >= columns * item and down % item == 0
    return bool(by_rows or (down == item and right >= rows * item and right % item == 0))


COPY_LIMITS = {"SkylakeX": 10**6, "Cooperlake": 10**6, "SapphireRapids": 10**6, "Haswell": -1, "Zen": -1}
"""The multiplications up to which OpenBLAS's products copy nothing, 100^3, on its processors with AVX-512 (AMD's, too).

-1: it always copies, with AVX2.
"""


@lru_cache(maxsize=1)
def copy_limit() -> int:
    """Return the limit of `COPY_LIMITS` for this processor; -2: MKL; 0: unknown."""
    try:
        if blas().is_mkl:
            return -2
        limits = {COPY_LIMITS.get(str(one.info().get("architecture")), 0) for one in libraries()}
    except ImportError:
        return 0
    return limits.pop() if len(limits) == 1 else 0


def _of_intel() -> bool:
    """Whether this is a processor of Intel's: on AMD's MKL takes slower ways."""
    with suppress(OSError):
        return "GenuineIntel" in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    return "GenuineIntel" in platform.processor()


def bind(symbols: Mapping[str, str]) -> None:
    """Let the linker know the products of each dtype by a name, before a step that calls them is compiled or loaded."""
    import llvmlite.binding

    for dtype, address in blas().gemm.items():
        llvmlite.binding.add_symbol(symbols[dtype], address)
