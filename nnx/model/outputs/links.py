"""The links of the last layer, A[L] = g[L](Z[L]), beside the sigmoid and the identity, which are activations, too."""

import math

from nnx.array.namespace import Array, array_namespace


def below_largest(Z: Array) -> Array:
    """Return z_k less the largest z of the sample, at least the dtype's least number: never infinite."""
    xp = array_namespace(Z)
    return xp.maximum(Z - xp.max(Z, axis=-2, keepdims=True), float(xp.finfo(Z.dtype).min))


def softmax(Z: Array) -> Array:
    """Return e^z_k / sum_j e^z_j over the outputs: probabilities that sum to 1."""
    xp = array_namespace(Z)
    E = xp.exp(below_largest(Z))  # softmax(Z) = softmax(Z - max): no overflow
    return E / xp.sum(E, axis=-2, keepdims=True)


def ceiling(Z: Array) -> float:
    """Return the Z from which on `exp` is continued: the log of the fourth root of the dtype's largest number.

    e^z is 4.3e9 there in float32: the Poisson loss, its derivative A - Y, and the derivative's square in Adam
    stay finite.
    """
    return 0.25 * math.log(float(array_namespace(Z).finfo(Z.dtype).max))


def exp(Z: Array) -> Array:
    """Return e^z, up to the ceiling."""
    xp = array_namespace(Z)
    return xp.exp(xp.minimum(Z, ceiling(Z)))


def log(A: Array) -> Array:
    """Return log a, the inverse of `exp` and, but for a number that all z of a sample share, of the softmax."""
    xp = array_namespace(A)
    return xp.log(xp.maximum(A, float(xp.finfo(A.dtype).smallest_normal)))


def logit(A: Array) -> Array:
    """Return log a/(1 - a), the inverse of the sigmoid."""
    return log(A) - log(1 - A)
