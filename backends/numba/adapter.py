"""NumPy's arrays, and the training steps compiled by numba to one function."""

from collections.abc import Callable
from typing import Any

from nnx.backends.numba.blas import blas
from nnx.backends.numba.program import LIBRARY, NumbaProgram
from nnx.backends.numpy.adapter import NumPy
from nnx.errors import BackendError
from nnx.port.base import only_cpu, require
from nnx.port.program import Program
from nnx.support.blas_threads import look_again


class Numba(NumPy):  # type: ignore[misc]  # of nnx.backends, which mypy sees under another name
    """NumPy's arrays on the CPU; training steps are compiled, once for all networks of one form."""

    name = "numba"

    def __init__(self, device: str | None = None) -> None:
        self.device = only_cpu("numba", device)
        library = require("numba", "numba")
        require("scipy.linalg", "numba")  # numba finds BLAS there
        require("threadpoolctl", "numba")
        if library.config.DISABLE_JIT:
            raise BackendError("numba compiles nothing, since NUMBA_DISABLE_JIT is set; unset it")
        self._version = library.__version__
        blas()  # if NNX_BLAS cannot be met, that is said now
        look_again()

    def describe(self) -> str:
        """Return numba's version, and the library of products."""
        return (
            f"numba {self._version} on cpu: every step compiled, once for a form on a machine; "
            f"products by {blas().name}"
        )

    def compile(self, function: Callable[..., Any]) -> Program:
        """Return the function with its steps compiled; all else is a list of NumPy's calls: see `NumbaProgram`."""
        return NumbaProgram(function, LIBRARY)  # type: ignore[no-any-return]
