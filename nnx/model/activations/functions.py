"""The activations g of hidden layers, each beside its derivative g'.

g' is computed from the activations A = g(Z) wherever that can be done. Then the forward pass need not save Z for the
backward pass. From A, g' is as exact as A is: where g levels off, to an ulp of A. The others save Z, or Z and A.
Both are right for every finite z, up to the largest of the dtype. If g(z) is finite, nothing overflows on the way.
(selu multiplies with 1.05: its largest values are infinite.) Where g' is not defined, it is PyTorch's.
"""

from collections.abc import Callable
from functools import cache, partial
from math import inf, pi, sqrt

from nnx.array.namespace import Array, array_namespace
from nnx.array.special import erfc
from nnx.errors import number
from nnx.model.activations.base import Activation


def _sigmoid(Z: Array) -> Array:
    # 1/(1 + e^-z). e^-|z| <= 1 cannot overflow: for z < 0 both parts are multiplied by e^z.
    xp = array_namespace(Z)
    e = xp.exp(-xp.abs(Z))
    return xp.where(Z >= 0, 1.0, e) / (1 + e)


def _tanh(Z: Array) -> Array:
    return array_namespace(Z).tanh(Z)


def _relu(Z: Array) -> Array:
    return array_namespace(Z).maximum(Z, 0.0)


def _relu_derivative(A: Array) -> Array:
    return array_namespace(A).astype(A > 0, A.dtype)


def _identity_derivative(A: Array) -> Array:
    return array_namespace(A).ones_like(A)


def _softplus(Z: Array) -> Array:
    # log(1 + e^z) = max(z, 0) + log(1 + e^-|z|)
    xp = array_namespace(Z)
    return xp.maximum(Z, 0.0) + xp.log1p(xp.exp(-xp.abs(Z)))


def _softplus_derivative(A: Array) -> Array:
    return -array_namespace(A).expm1(-A)  # sigmoid(z) = 1 - 1/(1 + e^z) = 1 - e^-a


def _softsign(Z: Array) -> Array:
    return Z / (1 + array_namespace(Z).abs(Z))


def _softsign_derivative(A: Array) -> Array:
    return (1 - array_namespace(A).abs(A)) ** 2  # 1/(1 + |z|) = 1 - |a|


def _hard_tanh(Z: Array) -> Array:
    return array_namespace(Z).clip(Z, -1.0, 1.0)


def _hard_tanh_derivative(A: Array) -> Array:
    xp = array_namespace(A)
    return xp.astype(xp.abs(A) < 1, A.dtype)


def _gate_derivative(V: Array, ZdV: Array) -> Array:
    # (z sigmoid(v))' = sigmoid(v) + z v' sigmoid(v) sigmoid(-v), with e = e^-|v|: nothing overflows or cancels
    xp = array_namespace(V)
    e = xp.exp(-xp.abs(V))
    return (xp.where(V >= 0, 1.0, e) + ZdV * e / (1 + e)) / (1 + e)


def _gelu(Z: Array) -> Array:
    return Z * (0.5 * erfc(Z * -sqrt(0.5)))  # Phi(z) = erfc(-z/sqrt(2))/2, which has no 1 + erf to cancel


def _gelu_derivative(Z: Array, A: Array) -> Array:
    # Phi(z) + z phi(z), phi(z) = e^(-z^2/2)/sqrt(2 pi); Phi(z) = a/z, and 1/2 near 0, where a may be too small
    xp = array_namespace(Z)
    near = xp.abs(Z) < 1e-30
    Phi = xp.where(near, 0.5, A / xp.where(near, 1.0, Z))
    C = xp.clip(Z, -40.0, 40.0)  # e^-800 is 0 in every dtype, and z^2 cannot overflow
    return Phi + C * xp.exp(-0.5 * C * C) / sqrt(2 * pi)


# (1 + tanh u)/2 = sigmoid(2u),   2u = sqrt(8/pi) (z + 0.044715 z^3) = c1 z + c3 z^3
_C1, _C3 = sqrt(8 / pi), sqrt(8 / pi) * 0.044715


def _clipped(Z: Array) -> Array:  # beyond 25 the sigmoid is 0 or 1 in every dtype, and z^3 cannot overflow
    return array_namespace(Z).clip(Z, -25.0, 25.0)


def _gelu_tanh(Z: Array) -> Array:
    C = _clipped(Z)
    return Z * _sigmoid(C * (_C1 + _C3 * C * C))


def _gelu_tanh_derivative(Z: Array) -> Array:
    C = _clipped(Z)
    return _gate_derivative(C * (_C1 + _C3 * C * C), C * (_C1 + 3 * _C3 * C * C))


def _gelu_sigmoid_argument(Z: Array) -> Array:  # beyond 500 e^-|v| is 0 in every dtype, and v cannot overflow
    return 1.702 * array_namespace(Z).clip(Z, -500.0, 500.0)


def _gelu_sigmoid(Z: Array) -> Array:
    return Z * _sigmoid(_gelu_sigmoid_argument(Z))


def _gelu_sigmoid_derivative(Z: Array) -> Array:
    V = _gelu_sigmoid_argument(Z)
    return _gate_derivative(V, V)  # z v' = v


def _mish_parts(Z: Array) -> tuple[Array, Array, Array]:
    # tanh(softplus(z)) = ((1 + e^z)^2 - 1)/((1 + e^z)^2 + 1) = p/(p + q), with e = e^-|z|:
    # p = e^2z + 2 e^z, q = 2;  for z >= 0 both times e^-2z.
    xp = array_namespace(Z)
    e = xp.exp(-xp.abs(Z))
    positive = Z >= 0
    sigmoid = xp.where(positive, 1.0, e) / (1 + e)
    return xp.where(positive, 1 + 2 * e, e * (e + 2)), xp.where(positive, 2 * e * e, 2.0), sigmoid


def _mish(Z: Array) -> Array:
    p, q, _ = _mish_parts(Z)
    return Z * (p / (p + q))


def _mish_derivative(Z: Array) -> Array:
    # t + z t', t = tanh(softplus(z)), t' = (1 - t^2) sigmoid(z), 1 - t = q/(p + q)
    p, q, sigmoid = _mish_parts(Z)
    t = p / (p + q)
    return t + Z * (q / (p + q)) * sigmoid * (1 + t)  # in this order: no product is larger than |z|


def _elu(Z: Array, alpha: float, scale: float = 1.0) -> Array:
    xp = array_namespace(Z)
    return scale * xp.maximum(Z, 0.0) + scale * alpha * xp.expm1(xp.minimum(Z, 0.0))


def _elu_derivative(A: Array, alpha: float, scale: float = 1.0) -> Array:
    # a and z have one sign, since alpha >= 0; scale alpha e^z = a + scale alpha
    return array_namespace(A).where(A > 0, scale, A + scale * alpha)


def _leaky_relu(Z: Array, alpha: float) -> Array:
    return array_namespace(Z).maximum(alpha * Z, Z)


def _leaky_relu_derivative(A: Array, alpha: float) -> Array:
    return alpha + (1 - alpha) * _relu_derivative(A)  # a and z have one sign, since alpha >= 0


sigmoid = Activation("sigmoid", g=_sigmoid, dg=lambda A: A * (1 - A))
"""1/(1 + e^-z), in (0, 1); g' = a(1 - a). For outputs: in hidden layers it saturates, prefer tanh."""

tanh = Activation("tanh", g=_tanh, dg=lambda A: 1 - A * A)
"""(e^z - e^-z)/(e^z + e^-z), in (-1, 1); g' = 1 - a^2. Centred, so nearly always better than sigmoid."""

relu = Activation("relu", g=_relu, dg=_relu_derivative, init="he")
"""max(0, z); g' = 1 where z > 0, else 0 (at 0: 0, by convention). The usual choice."""

identity = Activation("identity", g=lambda Z: Z, dg=_identity_derivative, keep="")
"""z; g' = 1. Only useful at the output: a chain of linear layers is one linear layer."""

softplus = Activation("softplus", g=_softplus, dg=_softplus_derivative)
"""log(1 + e^z), a smooth relu, always positive; g' = 1 - e^-a, which is sigmoid(z) (Dugas et al., 2000, NIPS).

Exact for every z; PyTorch's has z itself from z = 20 on, which is 2e-9 off.
"""

softsign = Activation("softsign", g=_softsign, dg=_softsign_derivative)
"""z/(1 + |z|), in (-1, 1); g' = (1 - |a|)^2. Levels off later than tanh (Glorot and Bengio, 2010, AISTATS)."""

hard_tanh = Activation("hard_tanh", g=_hard_tanh, dg=_hard_tanh_derivative)
"""z within [-1, 1], else the nearer end; g' = 1 where -1 < a < 1, else 0 (at -1 and 1: 0, by convention).

Collobert, Large scale machine learning, 2004, thesis.
"""

gelu = Activation("gelu", g=_gelu, dg=_gelu_derivative, keep="ZA", init="he")
"""z Phi(z), Phi the normal distribution function; g' = Phi + z phi, where Phi = a/z.

Hendrycks and Gimpel, 2016, https://arxiv.org/abs/1606.08415. This is the exact one, with the error function;
`gelu_tanh` is nearly the same and costs less.
"""

gelu_tanh = Activation("gelu_tanh", g=_gelu_tanh, dg=_gelu_tanh_derivative, keep="Z", init="he")
"""z (1 + tanh u)/2, u = sqrt(2/pi) (z + 0.044715 z^3): the approximation of gelu, within 0.0005.

Hendrycks and Gimpel, 2016, https://arxiv.org/abs/1606.08415, section 2; PyTorch's approximate="tanh". Computed as
z s, s = sigmoid(2u), which does not cancel; g' = s + 2 z u' s (1 - s).
"""

gelu_sigmoid = Activation("gelu_sigmoid", g=_gelu_sigmoid, dg=_gelu_sigmoid_derivative, keep="Z", init="he")
"""z s, s = sigmoid(1.702 z): the coarse approximation of gelu, within 0.021; g' = s + 1.702 z s (1 - s).

Hendrycks and Gimpel, 2016, https://arxiv.org/abs/1606.08415, section 2; "QuickGELU" in CLIP. PyTorch has no module of
it: `nnx.convert.to_torch` refuses it.
"""

silu = Activation(
    "silu", g=lambda Z: Z * _sigmoid(Z), dg=lambda Z: _gate_derivative(Z, Z), keep="Z", init="he"
)
"""z s, s = sigmoid(z), also called swish; g' = s + z s (1 - s).

Elfwing et al., 2017, https://arxiv.org/abs/1702.03118.
"""

mish = Activation("mish", g=_mish, dg=_mish_derivative, keep="Z", init="he")
"""z t, t = tanh(softplus(z)); g' = t + z (1 - t^2) sigmoid(z).

Misra, 2019, https://arxiv.org/abs/1908.08681.
"""

_SELU = {"alpha": 1.6732632423543772848, "scale": 1.0507009873554804934}

selu = Activation("selu", partial(_elu, **_SELU), partial(_elu_derivative, **_SELU), init="lecun")
"""scale elu(alpha), with the alpha = 1.6733 and scale = 1.0507 that keep the mean 0 and the variance 1 of the
activations from layer to layer; g' = scale where a > 0, else a + scale alpha (at 0: that, by convention).

Klambauer et al., 2017, https://arxiv.org/abs/1706.02515, eq. 2; weights of variance 1/n', as lecun draws them.
"""


@cache
def _with(
    alpha: float, name: str, default: float, g: Callable[..., Array], dg: Callable[..., Array], init: str
) -> Activation:
    """Return the Activation, the same object for the same alpha: nnx's own are recognized by identity."""
    spec = name if alpha == default else f"{name}({alpha!r})"
    return Activation(spec, partial(g, alpha=alpha), partial(dg, alpha=alpha), init=init)


def leaky_relu(alpha: float = 0.01) -> Activation:
    """Return max(alpha z, z); g' = 1 where z > 0, else alpha.

    Parameters
    ----------
    alpha : float
        The slope for z <= 0, in [0, 1), usually well below 1.

    Raises
    ------
    InputError
        When alpha is outside [0, 1): max(alpha z, z) would not be the leaky ReLU.
    """
    alpha = number("leaky_relu's alpha", alpha, "in [0, 1)", lambda x: 0 <= x < 1)
    return _with(alpha, "leaky_relu", 0.01, _leaky_relu, _leaky_relu_derivative, "he")


def elu(alpha: float = 1.0) -> Activation:
    """Return z where z > 0, else alpha (e^z - 1); g' = 1 where a > 0, else a + alpha (at 0: alpha).

    Clevert et al., 2015, https://arxiv.org/abs/1511.07289.

    Parameters
    ----------
    alpha : float
        -alpha is the limit for z -> -infinity; 0 or more. With 1, the default, g' has no step at 0.

    Raises
    ------
    InputError
        When alpha is negative: the sign of a would not be that of z; or when it is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> elu(2).g(np.array([-100.0, 0.0, 3.0]))
    array([-2.,  0.,  3.])
    """
    alpha = number("elu's alpha", alpha, "a number >= 0", lambda x: 0 <= x < inf)
    return _with(alpha, "elu", 1.0, _elu, _elu_derivative, "he")
