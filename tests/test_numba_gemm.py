"""The products and copies of a compiled step: the parts of all threads together are NumPy's."""

import numpy as np
import pytest

SIZES = [1, 2, 3, 8, 10, 16, 17, 20, 33, 64, 100, 128, 300, 784, 1024]


@pytest.fixture(scope="module")
def product():
    numba = pytest.importorskip("numba", reason="numba is not installed")
    pytest.importorskip("scipy.linalg")
    from nnx.backends.numba.runtime.gemm import gemm_partition
    from nnx.backends.numba.runtime.parts import operand

    @numba.njit(error_model="numpy")
    def whole(x):
        return operand(x, (0, x.size, x.shape[0], x.shape[1]))

    @numba.njit(error_model="numpy")
    def run(T, a, b, out, scalars):
        for t in range(T):
            gemm_partition(t, T, whole(a), whole(b), whole(out), scalars)

    return run


def check(run, a, B, out, scalars, threads):
    """B by rows and by columns, and each number of threads, give NumPy's a B."""
    expected = a.astype("float64") @ B.astype("float64")
    for b in (B, np.ascontiguousarray(B.T).T):
        for T in threads:
            out[...] = np.nan
            run(T, a, b, out, scalars)
            error = np.abs(out - expected).max() / np.sqrt(a.shape[1])
            assert error < (1e-13 if out.dtype == "float64" else 3e-5), (
                a.shape,
                b.shape,
                a.strides,
                b.strides,
                T,
            )


@pytest.mark.needs("numba")
@pytest.mark.parametrize("copy_limit", [-2, -1, 0, 100**3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_parts_of_a_product_are_numpys(product, dtype, copy_limit):
    rng = np.random.default_rng(0)
    scalars = np.asarray([1, 0, copy_limit], dtype)
    for _ in range(150):
        n, k, m = (int(size) for size in rng.choice(SIZES, 3))
        A, B = rng.standard_normal((n, k)).astype(dtype), rng.standard_normal((k, m)).astype(dtype)
        for a in (A, np.ascontiguousarray(A.T).T):
            check(product, a, B, np.full((n, m), np.nan, dtype), scalars, (1, 2, 3))


@pytest.mark.needs("numba")
@pytest.mark.parametrize("copy_limit", [-2, -1, 0, 100**3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_of_few_rows_and_many_numbers_are_numpys(product, dtype, copy_limit):
    rng = np.random.default_rng(0)
    scalars = np.asarray([1, 0, copy_limit], dtype)
    for n, k, m in ((20, 5000, 100), (20, 300, 5000), (33, 5000, 40), (20, 5000, 7), (20, 4100, 9000)):
        a, B = rng.standard_normal((n, k)).astype(dtype), rng.standard_normal((k, m)).astype(dtype)
        longer = np.full((n, m + 3), np.nan, dtype)[:, :m]  # its lines are
        check(product, a, B, longer, scalars, (1, 2))


@pytest.fixture(scope="module")
def gather():
    """The runtime's gather, called for one thread after the other."""
    numba = pytest.importorskip("numba", reason="numba is not installed")
    from nnx.backends.numba.runtime import copies

    gather_ = copies.gather

    @numba.njit(error_model="numpy")
    def gather(T, rows, order, start, out):
        for t in range(T):
            gather_(t, T, rows, order, start, out)

    return gather


@pytest.mark.needs("numba")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gathered_samples(gather, dtype):
    """Each thread gathers its part of them, out of rows that may be longer, to rows that are."""
    rng = np.random.default_rng(5)
    for m in (1, 9, 16, 25, 100):
        for k in (1, 20, 784):
            rows = rng.standard_normal((m + 40, k + 3)).astype(dtype)[:, :k]
            order, start = rng.permutation(m + 40), int(rng.integers(40))
            for T in (1, 2, 3):
                samples = np.full((m, k), np.nan, dtype)
                gather(T, rows, order, start, samples)
                np.testing.assert_array_equal(samples, rows[order[start : start + m]])
