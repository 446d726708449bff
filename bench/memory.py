"""The bytes that a process has in memory, or on a GPU, and their peak over a piece of work."""

import ctypes
import gc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")


def resident() -> int | None:
    """Return the resident bytes, after what is free has been given back; None where the system does not tell."""
    gc.collect()
    with suppress(OSError, AttributeError):  # another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)
    return _read("VmRSS")


def peak(run: Callable[[], Any]) -> int | None:
    """Return the peak of the resident bytes while this runs; None where it cannot be set back (not Linux).

    Examples
    --------
    >>> import numpy as np
    >>> before = resident()
    >>> after = peak(lambda: np.ones(2**22))
    >>> after is None or after - before > 2**24  # 32 MiB
    True
    """
    try:
        CLEAR.write_text("5")  # sets the peak back: man 5 proc
    except OSError:
        run()
        return None
    run()
    return _read("VmHWM")


def cupy_peak(cupy: Any) -> int:
    """Return the most bytes that CuPy's pool has held since the last call; what is free goes back to the GPU."""
    pool = cupy.get_default_memory_pool()
    found = int(pool.total_bytes())
    pool.free_all_blocks()
    return found


def torch_peak(torch: Any, device: str) -> int:
    """Return the most bytes that PyTorch's pool has held since the last call; what is free goes back to the GPU.

    A CUDA graph uses memory that counts as free, so that the bytes of the tensors would say too little.
    """
    found = int(torch.cuda.max_memory_reserved(device))
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    return found


def _read(name: str) -> int | None:
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return 1024 * int(found[0]) if found else None
