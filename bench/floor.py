"""The GEMM floor of a CPU: the matrix products of the steps, alone, into arrays that were allocated before."""

from itertools import pairwise
from typing import Any

import numpy as np

from nnx.bench.case import Case, Data
from nnx.bench.clocks import wall
from nnx.bench.contestant import Contestant


def products(case: Case, X: Any, random: Any, empty: Any) -> list[list[tuple[Any, Any, Any]]]:
    """Return the products (a, b, out) of every step of an epoch.

    They read the batches as all contestants do, in order and without a copy; of the other operands the values do not
    matter.
    """
    m, inner, dW1 = case.m, [], empty(case.sizes[1], case.sizes[0])
    W1, Z1, dZ1 = random(case.sizes[1], case.sizes[0]), empty(case.sizes[1], m), random(case.sizes[1], m)
    for n_prev, n in pairwise(case.sizes[1:]):
        W, A_prev, dZ = random(n, n_prev), random(n_prev, m), random(n, m)
        inner += [
            (W, A_prev, empty(n, m)),  # Z[l] = W[l] A[l-1]
            (dZ, A_prev.T, empty(n, n_prev)),  # dW[l] = dZ[l] A[l-1]^T
            (W.T, dZ, empty(n_prev, m)),  # dA[l-1] = W[l]^T dZ[l]
        ]
    return [[(W1, X[place].T, Z1), *inner, (dZ1, X[place], dW1)] for place in case.places()]


def numpy_floor(case: Case, data: Data) -> Contestant:
    """Return the floor of a CPU: NumPy's products."""
    rng = np.random.default_rng(0)

    def random(*shape: int) -> Any:
        return rng.standard_normal(shape, np.float32).astype(case.dtype, copy=False)

    def empty(*shape: int) -> Any:
        return np.zeros(shape, case.dtype)

    steps = products(case, data.X, random, empty)

    def epoch() -> None:
        for _ in range(case.K):  # of members the products of one after the other
            for step in steps:
                for a, b, out in step:
                    np.matmul(a, b, out=out)

    return Contestant(epoch, wall(), dict, f"numpy {np.__version__}")


def large_product(dtype: str, n: int = 2048, rounds: int = 5) -> float:
    """Return the additions and multiplications a second of NumPy's product of two n by n matrices: the fastest round.

    Examples
    --------
    >>> large_product("float32", n=64) > 0
    True
    """
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((n, n), np.float32).astype(dtype) for _ in range(2))
    out = np.empty_like(a)
    clock = wall()
    seconds = [float(clock(lambda: np.matmul(a, b, out=out))) for _ in range(rounds + 1)]
    return 2 * n**3 / min(seconds)
