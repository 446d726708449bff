"""The products of a compiled step: each thread's share of them, in pieces or whole, is NumPy's."""

import numpy as np
import pytest

SIZES = [1, 2, 3, 8, 10, 16, 17, 20, 33, 64, 100, 128, 300, 784, 1024]


@pytest.fixture(scope="module")
def product():
    numba = pytest.importorskip("numba", reason="numba is not installed")
    pytest.importorskip("scipy.linalg")
    from nnx.backends import together

    product, where = together.product, together.where

    @numba.njit(error_model="numpy")
    def run(T, a, b, out, units):
        for t in range(T):
            product(t, T, where(a), where(b), where(out), units)

    return run


@pytest.mark.parametrize("small", [0, 100**3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_shares_of_a_product_are_numpys(product, dtype, small):
    rng = np.random.default_rng(0)
    units = np.asarray([1, 0, small], dtype)
    for _ in range(150):
        n, k, m = (int(size) for size in rng.choice(SIZES, 3))
        A, B = rng.standard_normal((n, k)).astype(dtype), rng.standard_normal((k, m)).astype(dtype)
        expected = A.astype("float64") @ B.astype("float64")
        for a in (A, np.ascontiguousarray(A.T).T):
            for b in (B, np.ascontiguousarray(B.T).T):
                for T in (1, 2, 3):
                    out = np.full((n, m), np.nan, dtype)
                    product(T, a, b, out, units)
                    error = np.abs(out - expected).max() / np.sqrt(k)
                    assert error < (1e-13 if dtype == "float64" else 3e-5), (n, k, m, a.strides, b.strides, T)
