"""How good predictions are, beside the cost."""

from nnx.arrays import Array, array_namespace
from nnx.outputs import Output, are_indices


def score_name(output: Output) -> str:
    """Return the name of the score that suits an output: "accuracy" for classes, else "r2"."""
    return "accuracy" if output.classes else "r2"


def score(output: Output, A: Array, Y: Array) -> float:
    """Return the accuracy or R2 (see `score_name`) of outputs A (n[L], m) against targets Y."""
    return accuracy(output, A, Y) if output.classes else r2(A, Y)


def decide(A: Array) -> Array:
    """Return the most probable class of each sample (m,): A (n[L], m) -> argmax, or a > 1/2 when n[L] = 1."""
    xp = array_namespace(A)
    return xp.astype(A[0, :] > 0.5, xp.int64) if A.shape[0] == 1 else xp.argmax(A, axis=0)


def accuracy(output: Output, A: Array, Y: Array) -> float:
    """Return the share of samples that are right in every output.

    Parameters
    ----------
    output : Output
        A softmax is right where its largest output is that of the targets; sigmoids where every output is on
        the targets' side of 1/2.
    A : array (n[L], m)
    Y : array (n[L], m), or class indices (m,) or (1, m)
    """
    xp = array_namespace(A, Y)
    n = A.shape[0]
    if are_indices(output, n, Y):
        right = decide(A) == xp.reshape(Y, (-1,))
    elif output.exclusive:
        right = decide(A) == xp.argmax(Y, axis=0)
    else:
        right = xp.all((A > 0.5) == (xp.reshape(Y, (n, -1)) > 0.5), axis=0)
    return float(xp.mean(xp.astype(right, xp.float64)))


def r2(A: Array, Y: Array) -> float:
    """Return 1 - sum (y - a)^2 / sum (y - mean y)^2, its mean over the outputs.

    As scikit-learn's `r2_score`: where an output's targets are all equal it is 1 if A hits them, else 0.

    Parameters
    ----------
    A : array (n[L], m)
    Y : array (n[L], m), or (m,) when n[L] = 1
    """
    xp = array_namespace(A, Y)
    A = xp.astype(A, xp.float64)
    Y = xp.astype(xp.reshape(Y, A.shape), xp.float64)
    residual = xp.sum((Y - A) ** 2, axis=-1)
    total = xp.sum((Y - xp.mean(Y, axis=-1, keepdims=True)) ** 2, axis=-1)
    flat = total == 0
    share = xp.where(
        flat,
        xp.astype(residual > 0, xp.float64),
        residual / xp.where(flat, xp.ones_like(total), total),
    )
    return float(xp.mean(1 - share))
