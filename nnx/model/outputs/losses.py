"""The losses and their derivatives ∂loss/∂Z[L], computed from Z[L] (..., n[L], m) and Y of the same shape.

(Of `quantile` and `gaussian`, which have several outputs for each target, Y is (..., targets, m); see `parts`.)

A loss has one number a sample, the sum over the outputs: (..., m). None takes the log of A[L]. So at finite Z none is
NaN, and none is infinite unless its value is beyond the dtype's range. (The log of a softmax's share is at least the
dtype's least number.) The four canonical losses need no derivative here: it is A[L] - Y.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import TypeAlias

from nnx.array.namespace import Array, array_namespace
from nnx.model.activations.functions import softplus
from nnx.model.outputs.links import below_largest, ceiling

Function: TypeAlias = Callable[[Array, Array], Array]
"""Z, Y -> the loss (..., m), or its derivative (..., n[L], m)."""


def binary_cross_entropy(Z: Array, Y: Array) -> Array:
    """Return -y log a - (1-y) log(1-a), a = sigmoid(z)."""
    # = log(1 + e^z) - y z
    return array_namespace(Z).sum(softplus.g(Z) - Y * Z, axis=-2)


def cross_entropy(Z: Array, Y: Array) -> Array:
    """Return -sum_k y_k log a_k, a = softmax(z)."""
    # log a_k = z_k - log(sum_j e^z_j)
    xp = array_namespace(Z)
    Z = below_largest(Z)
    log_A = Z - xp.log(xp.sum(xp.exp(Z), axis=-2, keepdims=True))
    return -xp.sum(Y * log_A, axis=-2)


def half_squared_error(Z: Array, Y: Array) -> Array:
    """Return 1/2 (a - y)^2, a = z."""
    return array_namespace(Z).sum(0.5 * (Z - Y) ** 2, axis=-2)


def half_poisson_deviance(Z: Array, Y: Array) -> Array:
    """Return y log(y/a) - (y - a), a = e^z, 0 log 0 = 0; beyond the ceiling of e^z its tangent."""
    xp = array_namespace(Z)
    C = xp.minimum(Z, ceiling(Z))
    A = xp.exp(C)
    Y_log_Y = Y * xp.log(xp.where(Y > 0, Y, 1.0))
    # The tangent's part is (a - y)(z - c): no difference of two numbers that are both infinite.
    return xp.sum(A - Y * C + (A - Y) * (Z - C) + Y_log_Y - Y, axis=-2)


def absolute_error(Z: Array, Y: Array) -> Array:
    """Return |z - y|, which is least at the median of the targets, not at their mean."""
    xp = array_namespace(Z)
    return xp.sum(xp.abs(Z - Y), axis=-2)


def absolute_error_derivative(Z: Array, Y: Array) -> Array:
    """Return the sign of z - y; 0 at 0, by convention."""
    return array_namespace(Z).sign(Z - Y)


@lru_cache  # one loss is one function: outputs with it are equal
def huber(delta: float) -> tuple[Function, Function]:
    """Return 1/2 r^2 where |r| <= delta, else delta (|r| - delta/2), r = z - y, and its derivative.

    P. J. Huber, Robust estimation of a location parameter, Annals of Mathematical Statistics 35 (1964), 73-101,
    https://doi.org/10.1214/aoms/1177703732.
    """

    def loss(Z: Array, Y: Array) -> Array:
        # c (|r| - c/2), c = min(|r|, delta)
        xp = array_namespace(Z)
        R = xp.abs(Z - Y)
        C = xp.minimum(R, delta)
        return xp.sum(C * (R - 0.5 * C), axis=-2)

    def derivative(Z: Array, Y: Array) -> Array:  # r, clipped to [-delta, delta]
        xp = array_namespace(Z)
        return xp.maximum(xp.minimum(Z - Y, delta), -delta)

    return loss, derivative


def hinge(Z: Array, Y: Array) -> Array:
    """Return max(0, 1 - s z), s = 2y - 1: that of support vector machines.

    C. Cortes, V. Vapnik, Support-vector networks, Machine Learning 20 (1995), 273-297,
    https://doi.org/10.1007/BF00994018.
    """
    xp = array_namespace(Z)
    return xp.sum(xp.maximum(1 - (2 * Y - 1) * Z, 0.0), axis=-2)


def hinge_derivative(Z: Array, Y: Array) -> Array:
    """Return -s where s z < 1, else 0 (at 1: 0, by convention)."""
    S = 2 * Y - 1
    return array_namespace(Z).where(S * Z < 1, -S, 0.0)


def parts(Z: Array, count: int) -> list[Array]:
    """Return the first, second, ... outputs of all targets, (..., targets, m) each: so many consecutive rows of Z."""
    t = Z.shape[-2] // count
    return [Z[..., i * t : (i + 1) * t, :] for i in range(count)]


@lru_cache
def quantile(quantiles: tuple[float, ...]) -> tuple[Function, Function]:
    """Return the sum over the quantiles of max(q r, (q - 1) r), r = y - z, and its derivative: the pinball loss.

    It is least where z is the q-quantile of the targets. R. Koenker, G. Bassett, Regression quantiles, Econometrica 46
    (1978), 33-50, https://doi.org/10.2307/1913643.
    """

    def loss(Z: Array, Y: Array) -> Array:
        xp, total = array_namespace(Z), 0.0
        for q, part in zip(quantiles, parts(Z, len(quantiles)), strict=True):
            R = Y - part
            total = total + xp.sum(xp.maximum(q * R, (q - 1) * R), axis=-2)
        return total

    def derivative(Z: Array, Y: Array) -> Array:
        # 1 - q where z > y, -q where z < y; 0 at y, by convention
        xp = array_namespace(Z)
        signs = [xp.sign(part - Y) for part in parts(Z, len(quantiles))]
        slopes = [S * (0.5 + (0.5 - q) * S) for q, S in zip(quantiles, signs, strict=True)]
        return slopes[0] if len(slopes) == 1 else xp.concat(slopes, axis=-2)

    return loss, derivative


@lru_cache
def gaussian(epsilon: float) -> tuple[Function, Function]:
    """Return 1/2 (log v + (y - a)^2 / v), v = e^s + epsilon, of outputs a and s, and its derivative.

    It is the negative log-likelihood of a normal distribution with mean a and variance v, without 1/2 log(2 pi):
    D. A. Nix, A. S. Weigend, Estimating the mean and variance of the target probability distribution, ICNN 1994,
    55-60, https://doi.org/10.1109/ICNN.1994.374138. Its epsilon bounds it from below, as in `torch.nn.GaussianNLLLoss`.
    """

    def terms(Z: Array, Y: Array) -> tuple[Array, Array, Array]:
        # log v = log(e^s + epsilon), without an overflow: max(s, c) + log(1 + e^-|s - c|), c = log epsilon
        xp = array_namespace(Z)
        A, S = parts(Z, 2)
        c = math.log(epsilon)
        return A - Y, S, xp.maximum(S, c) + xp.log1p(xp.exp(-xp.abs(S - c)))

    def loss(Z: Array, Y: Array) -> Array:
        xp = array_namespace(Z)
        R, _, log_V = terms(Z, Y)
        return xp.sum(0.5 * (log_V + R * R * xp.exp(-log_V)), axis=-2)

    def derivative(Z: Array, Y: Array) -> Array:
        # (a - y) / v,   1/2 (e^s / v) (1 - (a - y)^2 / v)
        xp = array_namespace(Z)
        R, S, log_V = terms(Z, Y)
        W = xp.exp(-log_V)  # 1/v, at most 1/epsilon
        return xp.concat([R * W, 0.5 * xp.exp(S - log_V) * (1 - R * R * W)], axis=-2)

    return loss, derivative


@lru_cache
def binary_focal(gamma: float) -> tuple[Function, Function]:
    """Return -y q^gamma log p - (1-y) p^gamma log q, p = sigmoid(z), q = 1 - p, and its derivative.

    T.-Y. Lin, P. Goyal, R. Girshick, K. He, P. Dollár, Focal loss for dense object detection, ICCV 2017,
    https://arxiv.org/abs/1708.02002, equation 4.
    """

    def parts(Z: Array) -> tuple[Array, Array, Array, Array]:
        # log p = min(z, 0) - log(1 + e^-|z|). Powers of p and q come from their logs, which are right where p and q
        # are tiny: never 0^0, nor 0 times infinity.
        xp = array_namespace(Z)
        rest = xp.log1p(xp.exp(-xp.abs(Z)))
        log_P, log_Q = xp.minimum(Z, 0.0) - rest, xp.minimum(-Z, 0.0) - rest
        return log_P, log_Q, xp.exp(gamma * log_P), xp.exp(gamma * log_Q)

    def loss(Z: Array, Y: Array) -> Array:
        log_P, log_Q, P_gamma, Q_gamma = parts(Z)
        return -array_namespace(Z).sum(Y * Q_gamma * log_P + (1 - Y) * P_gamma * log_Q, axis=-2)

    def derivative(Z: Array, Y: Array) -> Array:
        # (1-y) p^gamma (p - gamma q log q) - y q^gamma (q - gamma p log p), since ∂p/∂z = p q
        xp = array_namespace(Z)
        log_P, log_Q, P_gamma, Q_gamma = parts(Z)
        P, Q = xp.exp(log_P), xp.exp(log_Q)
        return (1 - Y) * P_gamma * (P - gamma * Q * log_Q) - Y * Q_gamma * (Q - gamma * P * log_P)

    return loss, derivative


@lru_cache
def focal(gamma: float) -> tuple[Function, Function]:
    """Return -sum_k y_k (1 - p_k)^gamma log p_k, p = softmax(z), and its derivative: see `binary_focal`."""

    def parts(Z: Array) -> tuple[Array, Array, Array]:
        xp = array_namespace(Z)
        Z = below_largest(Z)
        E = xp.exp(Z)
        S = xp.sum(E, axis=-2, keepdims=True)
        return E / S, (S - E) / S, Z - xp.log(S)  # p, 1 - p (never below 0), log p

    def loss(Z: Array, Y: Array) -> Array:
        _, Q, log_P = parts(Z)
        return -array_namespace(Z).sum(Y * Q**gamma * log_P, axis=-2)

    def derivative(Z: Array, Y: Array) -> Array:
        # ∂loss/∂p_k = y_k (gamma q^(gamma-1) log p - q^gamma / p) and ∂p_k/∂z_j = p_k ([j = k] - p_j), so
        # ∂loss/∂z_j = c_j - p_j sum_k c_k,   c = -y q^gamma (1 + gamma p r),   r = -log p / q, which is 1 at p = 1
        xp = array_namespace(Z)
        P, Q, log_P = parts(Z)
        R = xp.where(Q > 0, -log_P / xp.where(Q > 0, Q, 1.0), 1.0)
        C = -Y * Q**gamma * (1 + gamma * P * R)
        return C - P * xp.sum(C, axis=-2, keepdims=True)

    return loss, derivative
