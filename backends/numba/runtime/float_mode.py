"""How a thread's processor computes with numbers below the smallest normal one."""

# mypy: ignore-errors

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy import int32

from nnx.backends.numba.runtime.options import SHARED, X86

FLUSH_TO_ZERO = 0x8040 if X86 else 0
"""The bits of x86's register MXCSR that make numbers below the smallest normal one 0. Elsewhere nothing changes."""


def _call_with_pointer(context, builder, name, word):
    """Call an LLVM function of x86 with the address of an int32."""
    byte_pointer = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [byte_pointer])
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    builder.call(function, [builder.bitcast(word, byte_pointer)])


@intrinsic
def float_mode(context):
    """Return this thread's MXCSR; 0 on other processors than x86."""

    def made(context, builder, signature, args):
        word = cgutils.alloca_once_value(builder, ir.Constant(ir.IntType(32), 0))
        if X86:
            _call_with_pointer(context, builder, "llvm.x86.sse.stmxcsr", word)
        return builder.load(word)

    return types.int32(), made


@intrinsic
def set_float_mode(context, bits):
    """Set this thread's MXCSR."""

    def made(context, builder, signature, args):
        if X86:
            word = cgutils.alloca_once_value(builder, args[0])
            _call_with_pointer(context, builder, "llvm.x86.sse.ldmxcsr", word)
        return context.get_dummy_value()

    return types.none(types.int32), made


@njit(**SHARED)
def flush_to_zero():
    """Let this thread take numbers below the smallest normal one for 0; return its mode before.

    Adam's m and v of units that are no longer active fade to such numbers, and each costs a hundred times as much.
    """
    before = float_mode()
    set_float_mode(int32(before | int32(FLUSH_TO_ZERO)))
    return before
