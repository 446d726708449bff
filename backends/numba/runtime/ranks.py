"""The sum over the ranks of a run, within a compiled step: one thread calls back."""

# mypy: ignore-errors

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numpy import int64

from nnx.backends.numba.runtime.options import SHARED


@intrinsic
def _call(context, address, data, size):
    """Call the function at an address with two integers."""

    def made(context, builder, signature, args):
        long = ir.IntType(64)
        kind = ir.FunctionType(ir.VoidType(), [long, long])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), args[1:])
        return context.get_dummy_value()

    return types.none(types.int64, types.int64, types.int64), made


@njit(**SHARED)
def sum_over_ranks(address, x):
    """Put the sum of all ranks' vectors into x, by the function at an address: see `nnx.backends.numba.ranks`."""
    _call(address, int64(x.ctypes.data), int64(x.size))
