"""A thread of a step: how it computes with tiny numbers, and how it waits for the others.

The first element of an int64 array `sync` counts arrivals at barriers.
"""

# mypy: ignore-errors

import sys

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy import uint32

from nnx.backends.numba.runtime.options import SHARED, X86

FLUSH_TO_ZERO = 0x8040
"""The bits of x86's register MXCSR that make numbers below the smallest normal one 0.

Adam's m and v of units that are no longer active fade to such numbers, and each costs a hundred times as much.
"""

WINDOWS = sys.platform == "win32"
_yield = types.ExternalFunction("SwitchToThread" if WINDOWS else "sched_yield", types.int32())
_sleep = types.ExternalFunction("Sleep" if WINDOWS else "usleep", types.void(types.uint32))

SLEEP = 1 if WINDOWS else 20
"""How long a thread sleeps that has waited for long: milliseconds on Windows, elsewhere microseconds."""

LOOKS_BEFORE_YIELD, LOOKS_BEFORE_SLEEP = 2000, 2400
"""Looks after which a thread yields its core, and sleeps: Linux lets one that yields go on for up to 10 ms."""


@intrinsic
def change_float_mode(context, keep, add):
    """Keep some bits of this thread's register MXCSR, and add others; return all as they were. Only x86 has it."""

    def made(context, builder, signature, args):
        word, byte_pointer = ir.IntType(32), ir.IntType(8).as_pointer()
        place = cgutils.alloca_once_value(builder, ir.Constant(word, 0))

        def call(name):
            if X86:
                kind = ir.FunctionType(ir.VoidType(), [byte_pointer])
                function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.sse.{name}")
                builder.call(function, [builder.bitcast(place, byte_pointer)])

        call("stmxcsr")
        before, (keep, add) = builder.load(place), (builder.trunc(x, word) for x in args)
        builder.store(builder.or_(builder.and_(before, keep), add), place)
        call("ldmxcsr")
        return builder.zext(before, ir.IntType(64))

    return types.int64(types.int64, types.int64), made


def _atomic(act):
    """Return a function of an int64 array that does something with its first element, and returns it as it was."""

    @intrinsic
    def function(context, sync):
        def made(context, builder, signature, args):
            array = cgutils.create_struct_proxy(signature.args[0])(context, builder, args[0])
            return act(builder, array.data)

        return types.int64(sync), made

    return function


_one = ir.Constant(ir.IntType(64), 1)
_count_arrival = _atomic(lambda builder, place: builder.atomic_rmw("add", place, _one, "seq_cst"))
_arrivals = _atomic(lambda builder, place: builder.load_atomic(place, "acquire", 8))


@njit(**SHARED)
def barrier(sync, T, number):
    """Wait until all T threads have come to the barrier of this number, from 1; return the next number."""
    if T > 1:
        _count_arrival(sync)
        looks = 0
        while _arrivals(sync) < T * number:
            looks += 1
            if looks > LOOKS_BEFORE_SLEEP:
                _sleep(uint32(SLEEP))
            elif looks > LOOKS_BEFORE_YIELD:
                _yield()
    return number + 1
