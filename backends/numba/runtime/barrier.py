"""How threads wait for each other: the first element of an int64 array `sync` counts arrivals at barriers."""

# mypy: ignore-errors

import sys

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy import uint32

from nnx.backends.numba.runtime.options import SHARED

WINDOWS = sys.platform == "win32"
_yield = types.ExternalFunction("SwitchToThread" if WINDOWS else "sched_yield", types.int32())
_sleep = types.ExternalFunction("Sleep" if WINDOWS else "usleep", types.void(types.uint32))

SLEEP = 1 if WINDOWS else 20
"""How long a thread sleeps that has waited for long: milliseconds on Windows, elsewhere microseconds."""

LOOKS_BEFORE_YIELD, LOOKS_BEFORE_SLEEP = 2000, 2400
"""Looks after which a thread yields its core, and sleeps: Linux lets one that yields go on for up to 10 ms."""


@intrinsic
def count_arrival(context, sync):
    """Add 1 to the first element of an int64 array, atomically."""

    def made(context, builder, signature, args):
        array = cgutils.create_struct_proxy(signature.args[0])(context, builder, args[0])
        return builder.atomic_rmw("add", array.data, ir.Constant(ir.IntType(64), 1), "seq_cst")

    return types.int64(sync), made


@intrinsic
def arrivals(context, sync):
    """Return the first element of an int64 array as other threads see it."""

    def made(context, builder, signature, args):
        array = cgutils.create_struct_proxy(signature.args[0])(context, builder, args[0])
        return builder.load_atomic(array.data, "acquire", 8)

    return types.int64(sync), made


@njit(**SHARED)
def barrier(sync, T, number):
    """Wait until all T threads have come to the barrier of this number, from 1; return the next number."""
    if T > 1:
        count_arrival(sync)
        looks = 0
        while arrivals(sync) < T * number:
            looks += 1
            if looks > LOOKS_BEFORE_SLEEP:
                _sleep(uint32(SLEEP))
            elif looks > LOOKS_BEFORE_YIELD:
                _yield()
    return number + 1
