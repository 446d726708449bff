"""How numba compiles the functions, and constants that several of them use."""

import platform

from numpy import int64

PLAIN = {
    "error_model": "numpy",
    "fastmath": {"contract", "nsz"},
    "nogil": True,
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}
"""numba's options for a function that belongs to one step."""

SHARED = {**PLAIN, "cache": not __name__.startswith("nnx.")}
"""The options for a function that all steps share: numba keeps it on disk, for the module of the joined files."""

CALLED = {**PLAIN, "cache": True, "no_cpython_wrapper": False}
"""The options for a function that Python calls: the step."""

X86 = platform.machine() in ("x86_64", "AMD64")

ZERO, ONE, FOUR, EIGHT, LINE = int64(0), int64(1), int64(4), int64(8), int64(16)
"""Numbers of one type: numba compiles a function once more for a 4 or 8 as it stands. LINE: float32 in a cache line."""
