"""The outputs: a link A[L] = g[L](Z[L]) together with the loss that it belongs to.

These four are the canonical pairs, whose derivative is always ∂loss/∂Z[L] = A[L] - Y. Each loss is computed
from Z[L], never from log(A[L]): it is finite wherever |Z| < sqrt(the largest number of the dtype), which is
1.8e19 in float32.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from nnx import activations
from nnx.arrays import Array, array_namespace, device
from nnx.errors import InputError, unknown


@dataclass(frozen=True)
class Output:
    """A link and its loss.

    Parameters
    ----------
    name : str
        The link's name.
    loss_name : str
        The loss's name, for people.
    link : callable
        Z[L] (..., n[L], m) -> A[L] of the same shape.
    loss : callable
        Z[L], Y (..., n[L], m) -> the loss of each sample, summed over the outputs: (..., m).
    classes : bool
        Whether the targets may be class indices.
    exclusive : bool
        Whether a sample is of one class only: its targets sum to 1.
    lowest, highest : float
        The range of the targets.
    """

    name: str
    loss_name: str
    link: Callable[[Array], Array]
    loss: Callable[[Array, Array], Array]
    classes: bool = False
    exclusive: bool = False
    lowest: float = -math.inf
    highest: float = math.inf


def _binary_cross_entropy(Z: Array, Y: Array) -> Array:
    # -y log a - (1-y) log(1-a) = log(1 + e^z) - y z,   log(1 + e^z) = max(z, 0) + log(1 + e^-|z|)
    xp = array_namespace(Z)
    softplus = xp.maximum(Z, 0.0) + xp.log1p(xp.exp(-xp.abs(Z)))
    return xp.sum(softplus - Y * Z, axis=-2)


def _softmax(Z: Array) -> Array:
    xp = array_namespace(Z)
    E = xp.exp(Z - xp.max(Z, axis=-2, keepdims=True))  # softmax(Z) = softmax(Z - max): no overflow
    return E / xp.sum(E, axis=-2, keepdims=True)


def _cross_entropy(Z: Array, Y: Array) -> Array:
    # -sum_k y_k log a_k,   log a_k = z_k - log(sum_j e^z_j)
    xp = array_namespace(Z)
    Z = Z - xp.max(Z, axis=-2, keepdims=True)
    log_A = Z - xp.log(xp.sum(xp.exp(Z), axis=-2, keepdims=True))
    return -xp.sum(Y * log_A, axis=-2)


def _half_squared_error(Z: Array, Y: Array) -> Array:
    # 1/2 (a - y)^2,   a = z
    xp = array_namespace(Z)
    return xp.sum(0.5 * (Z - Y) ** 2, axis=-2)


def _ceiling(Z: Array) -> float:
    # e^z is followed up to the fourth root of the largest number, 4.3e9 in float32, and continued by its
    # tangent: the loss, its derivative A - Y, and the derivative's square in Adam stay finite.
    return 0.25 * math.log(float(array_namespace(Z).finfo(Z.dtype).max))


def _exp(Z: Array) -> Array:
    xp = array_namespace(Z)
    return xp.exp(xp.minimum(Z, _ceiling(Z)))


def _half_poisson_deviance(Z: Array, Y: Array) -> Array:
    # y log(y/a) - (y - a),   a = e^z,   0 log 0 = 0
    xp = array_namespace(Z)
    C = xp.minimum(Z, _ceiling(Z))
    A = xp.exp(C) * (1 + (Z - C))
    Y_log_Y = Y * xp.log(xp.where(Y > 0, Y, 1.0))
    return xp.sum(A - Y * Z + Y_log_Y - Y, axis=-2)


OUTPUTS: dict[str, Output] = {
    output.name: output
    for output in (
        Output(
            "sigmoid",
            "binary cross-entropy",
            activations.sigmoid.g,
            _binary_cross_entropy,
            classes=True,
            lowest=0,
            highest=1,
        ),
        Output(
            "softmax",
            "cross-entropy",
            _softmax,
            _cross_entropy,
            classes=True,
            exclusive=True,
            lowest=0,
            highest=1,
        ),
        Output("identity", "half squared error", activations.identity.g, _half_squared_error),
        Output("exp", "half Poisson deviance", _exp, _half_poisson_deviance, lowest=0),
    )
}
"""Every output by the name of its link."""


def output(name: str) -> Output:
    """Return the output with this link, or raise an InputError that names the nearest.

    Examples
    --------
    >>> output("softmax").loss_name
    'cross-entropy'
    """
    if not isinstance(name, str) or name not in OUTPUTS:
        raise unknown("output", name, OUTPUTS)
    return OUTPUTS[name]


def are_indices(output: Output, n: int, Y: Array) -> bool:
    """Whether targets Y have the shape of class indices, (m,) or (..., 1, m), not of values for n outputs."""
    return output.classes and n > 1 and (Y.ndim == 1 or Y.shape[-2] == 1)


def targets(output: Output, Z: Array, Y: Array) -> Array:
    """Return the targets as an array that fits Z[L]: (..., n[L], m), of Z's dtype.

    Parameters
    ----------
    output : Output
        Decides whether class indices have a meaning.
    Z : array (..., n[L], m)
        The last layer's pre-activations.
    Y : array
        (..., n[L], m); or (m,) when n[L] = 1; or, for sigmoid and softmax with n[L] > 1, class indices
        0..n[L]-1 of an integer dtype, (m,) or (..., 1, m). The values are not looked at (`nnx.Trainer`
        does, before it trains): an index outside the classes gives a column of zeros.

    Raises
    ------
    InputError
        When the shape fits none of these.
    """
    xp = array_namespace(Z, Y)
    n, m = Z.shape[-2:]
    given = tuple(Y.shape)
    indices = Y.ndim > 0 and are_indices(output, n, Y) and xp.isdtype(Y.dtype, "integral")
    if Y.ndim == 1 and (n == 1 or indices):
        Y = xp.expand_dims(Y, axis=0)
    if Y.ndim < 2 or tuple(Y.shape[-2:]) != (1 if indices else n, m):
        raise InputError(wrong_targets(output, n, m, given))
    if indices:  # y -> the column with 1 in row y, else 0
        classes = xp.arange(n, dtype=xp.int32, device=device(Y))
        Y = xp.expand_dims(classes, axis=-1) == xp.astype(Y, xp.int32)
    return Y if Y.dtype == Z.dtype else xp.astype(Y, Z.dtype)


def wrong_targets(output: Output, n: int, m: int, given: tuple[int, ...], name: str = "Y") -> str:
    """Return the message for targets whose shape does not fit n outputs and m samples."""
    vector = f", or class indices ({m},)" if output.classes and n > 1 else f", or ({m},)" if n == 1 else ""
    hint = f"; its transpose {name}.T would fit" if given[::-1] == (n, m) and given != (n, m) else ""
    return f"{name} has shape {given}; expected (n[L], m) = ({n}, {m}){vector} for the output {output.name!r}{hint}"
