"""exp, log and their kin in float32 without a branch or a call, of which the compiler makes vector instructions.

The C library computes them for one number after the other. The polynomials are those of S. L. Moshier's Cephes library,
https://www.netlib.org/cephes/; the errors are below 4 ulp.
"""

# The loops that follow use what they need, and numba finds all types itself.
# ruff: noqa: F401, F403, F405
# mypy: ignore-errors

from math import *

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numpy import bool_, float32, float64, int8, int16, int32, int64, uint8, uint16, uint32, uint64

from nnx.backends.numba.runtime.options import SHARED


def _same_bits(to, kind):
    """Return a function of a number that returns the number of a type with the same bits."""

    @intrinsic
    def function(context, x):
        def made(context, builder, signature, args):
            return builder.bitcast(args[0], kind)

        return to(x), made

    return function


bits, number = _same_bits(types.int32, ir.IntType(32)), _same_bits(types.float32, ir.FloatType())


@njit(**SHARED)
def _power(i):
    return number(int32(int32(i + int32(127)) << int32(23)))  # 2^i


@njit(**SHARED)
def _exp_parts(x):
    """Return e^r - 1 and n, where x = n log 2 + r and |r| <= log(2)/2; n also as a float32."""
    x = x if not (x > float32(89)) else float32(89)  # NaN stays
    x = x if not (x < float32(-104)) else float32(-104)
    t = x * float32(1.44269504) + float32(12582912)  # 1.5 2^23: what is added to it is rounded to an integer
    n = t - float32(12582912)
    r = x - n * float32(0.693359375) - n * float32(-2.12194440e-4)
    p = float32(1.9875691500e-4) * r + float32(1.3981999507e-3)
    p = p * r + float32(8.3334519073e-3)
    p = p * r + float32(4.1665795894e-2)
    p = p * r + float32(1.6666665459e-1)
    p = p * r + float32(5.0000001201e-1)
    return p * r * r + r, int32(bits(t) - int32(0x4B400000)), n


@njit(**SHARED)
def exp32(x):
    """Return e^x."""
    y, i, _ = _exp_parts(x)
    half = int32(i >> int32(1))  # 2^128 has no float32: in two steps
    return (y + float32(1)) * _power(half) * _power(int32(i - half))


@njit(**SHARED)
def expm1_32(x):
    """Return e^x - 1."""
    y, i, n = _exp_parts(x)
    half = int32(i >> int32(1))
    e = (y + float32(1)) * _power(half) * _power(int32(i - half)) - float32(1)
    return e if n != float32(0) else y


@njit(**SHARED)
def tanh32(x):
    """Return tanh x: a polynomial where |x| < 0.625, else 1 - 2/(e^2|x| + 1)."""
    z = x * x
    p = float32(-5.70498872745e-3) * z + float32(2.06390887954e-2)
    p = p * z + float32(-5.37397155531e-2)
    p = p * z + float32(1.33314422036e-1)
    p = p * z + float32(-3.33332819422e-1)
    a = abs(x)
    far = float32(1) - float32(2) / (exp32(a + a) + float32(1))
    far = far if x > float32(0) else -far
    return far if a >= float32(0.625) else p * z * x + x


@njit(**SHARED)
def log32(x):
    """Return log x = e log 2 + log(1 + f), where sqrt(1/2) <= 1 + f < sqrt(2)."""
    tiny = x < float32(1.1754944e-38)
    y = x * float32(8388608) if tiny else x
    i = bits(y)
    e = int32(int32(i - int32(0x3F3504F3)) >> int32(23))
    f = number(int32(i - int32(e << int32(23)))) - float32(1)
    n = float32(e) - (float32(23) if tiny else float32(0))
    z = f * f
    p = float32(7.0376836292e-2) * f + float32(-1.1514610310e-1)
    p = p * f + float32(1.1676998740e-1)
    p = p * f + float32(-1.2420140846e-1)
    p = p * f + float32(1.4249322787e-1)
    p = p * f + float32(-1.6668057665e-1)
    p = p * f + float32(2.0000714765e-1)
    p = p * f + float32(-2.4999993993e-1)
    p = p * f + float32(3.3333331174e-1)
    found = f * z * p + float32(-2.12194440e-4) * n - float32(0.5) * z + f + float32(0.693359375) * n
    found = x if x == float32(inf) else found
    found = float32(-inf) if x == float32(0) else found
    return found if x >= float32(0) else float32(nan)


@njit(**SHARED)
def log1p_32(x):
    """Return log(1 + x) = log u + (x - (u - 1))/u, u = 1 + x: what rounding took from u is given back."""
    u = float32(1) + x
    lost = (x - (u - float32(1))) / u
    return log32(u) + (lost if u > float32(0) and u < float32(inf) else float32(0))
