"""The error function, which the Array API standard lacks.

W. J. Cody, Rational Chebyshev approximations for the error function, Mathematics of Computation 23 (1969),
631-637, https://doi.org/10.1090/S0025-5718-1969-0247736-4, with the coefficients of his CALERF
(https://www.netlib.org/specfun/erf): one quotient of polynomials for each of |x| <= 0.5, up to 4, and
beyond. There is no branch on values: all three are computed, each within its range, and `where` chooses one.
"""

from math import pi, sqrt

from nnx.array.namespace import Array, array_namespace

_NEAR, _FAR = 0.5, 4.0
# Coefficients from the highest power down: numerators, and denominators, which begin with 1.
_A = (1.85777706184603153e-1, 3.16112374387056560, 1.13864154151050156e2, 3.77485237685302021e2,
      3.20937758913846947e3)  # fmt: skip
_B = (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3)
_C = (2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594, 6.61191906371416295e1,
      2.98635138197400131e2, 8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3,
      1.23033935479799725e3)  # fmt: skip
_D = (1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3,
      3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3)  # fmt: skip
_P = (1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1, 1.25781726111229246e-1,
      1.60837851487422766e-2, 6.58749161529837803e-4)  # fmt: skip
_Q = (1.0, 2.56852019228982242, 1.87295284992346047, 5.27905102951428412e-1, 6.05183413124413191e-2,
      2.33520497626869185e-3)  # fmt: skip


def erf(x: Array) -> Array:
    """Return the error function, 2/sqrt(pi) times the integral of e^-t^2 from 0 to x.

    To about 1 ulp: 3 at most in float64, mostly less than 1.

    Parameters
    ----------
    x : array
        Of any shape, float32 or float64.

    Returns
    -------
    array
        In [-1, 1], of x's shape and dtype.

    Examples
    --------
    >>> import numpy as np
    >>> erf(np.array([-1e300, 0.0, 1.0]))
    array([-1.        ,  0.        ,  0.84270079])
    """
    xp = array_namespace(x)
    y = xp.abs(x)
    return xp.where(y <= _NEAR, _erf_near(x), xp.sign(x) * (1 - _erfc_beyond(y)))


def erfc(x: Array) -> Array:
    """Return 1 - erf(x), to a few ulp unless it is too small for the dtype.

    Parameters
    ----------
    x : array
        Of any shape, float32 or float64.

    Returns
    -------
    array
        In [0, 2], of x's shape and dtype.

    Examples
    --------
    >>> import numpy as np
    >>> erfc(np.array([-1e300, 0.0, 10.0]))
    array([2.00000000e+00, 1.00000000e+00, 2.08848758e-45])
    """
    xp = array_namespace(x)
    y, sign = xp.abs(x), xp.sign(x)
    # Beyond: erfc y where x > 0, and 2 - erfc y where x < 0.
    return xp.where(y <= _NEAR, 1 - _erf_near(x), (1 - sign) + sign * _erfc_beyond(y))


def _erf_near(x: Array) -> Array:
    # erf x = x A(x^2)/B(x^2)   where |x| <= 0.5
    x = array_namespace(x).clip(x, -_NEAR, _NEAR)
    return x * _quotient(_A, _B, x * x)


def _erfc_beyond(y: Array) -> Array:
    # erfc y = e^-y^2 C(y)/D(y)                                 where 0.5 <= y <= 4
    #        = e^-y^2 (1/sqrt(pi) - w P(w)/Q(w))/y, w = 1/y^2   where y >= 4
    xp = array_namespace(y)
    y = xp.minimum(y, 30.0)  # e^-900 is 0 in every dtype, and y^2 cannot overflow
    far = xp.maximum(y, _FAR)
    w = 1 / (far * far)
    tail = (1 / sqrt(pi) - w * _quotient(_P, _Q, w)) / far
    middle = _quotient(_C, _D, xp.clip(y, _NEAR, _FAR))
    scaled = xp.where(y <= _FAR, middle, tail)  # e^y^2 erfc y
    # y^2 = s^2 + (y - s)(y + s), s^2 being exact with s = y to 4 bits: rounding y^2 would cost e^-y^2 digits.
    # (A compiler may take e^a e^b for e^(a+b), if they stand side by side.)
    s = xp.floor(16 * y) / 16
    return xp.exp(-s * s) * scaled * xp.exp(-(y - s) * (y + s))


def _quotient(numerator: tuple[float, ...], denominator: tuple[float, ...], x: Array) -> Array:
    return _polynomial(numerator, x) / _polynomial(denominator, x)


def _polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    value, *others = coefficients
    for c in others:  # Horner's rule
        value = value * x + c
    return value
