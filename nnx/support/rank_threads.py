"""The threads of a rank: those of a machine share its cores."""

import os
import sys
from contextlib import suppress

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
"""The variables by which libraries know how many threads they may have."""


def limit_threads(threads: int) -> None:
    """Let the libraries of this process have so many threads each, unless the user has set their number.

    Libraries that are not loaded yet read the variables, BLAS is told by threadpoolctl where it is installed. JAX takes
    the cores that the launcher binds a process to.
    """
    if any(name in os.environ for name in THREADS):
        return
    os.environ.update(dict.fromkeys(THREADS, str(threads)))
    with suppress(ImportError):
        from threadpoolctl import threadpool_limits

        threadpool_limits(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
