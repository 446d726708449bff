"""NumPy, on the CPU: always there."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import array_api_compat.numpy as xp
import numpy as np

from nnx.array.gather import Pick
from nnx.array.host import as_host, quiet
from nnx.backends.calls.fewer_threads import SMALL
from nnx.backends.calls.program_cache import Recorded, picking
from nnx.backends.numba.threads import one_thread
from nnx.backends.numpy.calls import replay
from nnx.port.base import Backend, F, only_cpu


class NumPy(Backend):
    """NumPy's arrays on the CPU."""

    name = "numpy"
    xp = xp

    def __init__(self, device: str | None = None) -> None:
        self.device = only_cpu("NumPy", device)
        self.version = np.__version__
        self.detail = "always there"

    def asarray(self, x: Any, dtype: str | None = None) -> Any:
        """Return x as a NumPy array; arrays of other libraries come over DLPack."""
        return np.asarray(as_host(x), dtype=dtype)

    def capture(self, step: F) -> F:
        """Return the step recorded, and replayed into buffers that are used again; without NumPy's warnings."""
        return Recorded(quiet()(step), replay)  # type: ignore[no-any-return]

    def picker(self) -> Pick:
        """Return what picks samples, into memory that is used again."""

        def take(rows: Any, places: Any, out: Any) -> Any:
            # "raise" writes into another array first.
            return np.take(rows, places, axis=0, out=out, mode="clip")

        return picking(take)  # type: ignore[no-any-return]

    def threads(self, operations: float) -> AbstractContextManager[None]:
        """Return a context in which BLAS has one thread for small products, where threadpoolctl is installed."""
        one = one_thread() if operations < SMALL else None
        return nullcontext() if one is None else one()

    def to_numpy(self, x: Any) -> Any:
        """Return x itself."""
        return x
