"""The products and copies of a compiled step: the parts of all threads together are NumPy's."""

from types import SimpleNamespace

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
def runtime():
    """Functions of the runtime, called for one thread after the other."""
    numba = pytest.importorskip("numba", reason="numba is not installed")
    pytest.importorskip("scipy.linalg")
    from nnx.backends.numba.runtime import copies, gemm, parts, tiles

    gemm_owner_computes, add_partial_sums, operand = (
        gemm.gemm_owner_computes,
        gemm.add_partial_sums,
        parts.operand,
    )
    transpose_, gather_ = copies.transpose, copies.gather

    @numba.njit(error_model="numpy")
    def whole(x):
        return operand(x, (0, x.size, x.shape[0], x.shape[1]))

    @numba.njit(error_model="numpy")
    def owner_computes(T, a, b, out, partial_sums, scalars, transposed):
        """Write a b to the first columns of out, whose rows may be longer."""
        d = (0, a.shape[0] * b.shape[1], a.shape[0], b.shape[1])
        count = 0
        for t in range(T):
            count = gemm_owner_computes(
                t, T, whole(a), whole(b), operand(out, d), partial_sums, scalars, transposed
            )
        for t in range(T):
            add_partial_sums(t, T, count, out, partial_sums, d)
        return count > 1

    @numba.njit(error_model="numpy")
    def use(arguments, low, high, ahead):
        dtheta, used = arguments
        used[low:high] += dtheta[ahead : ahead + high - low]

    tiles_of_one, tiles_of_many = (
        tiles.over_tiles(product, use) for product in (tiles.tile_outer, tiles.tile_gemm)
    )

    @numba.njit(error_model="numpy")
    def in_tiles(T, a, b, d, dtheta, used, scalars):
        """Copy every tile to where it belongs, as soon as it is there, as the optimizer's loop would."""
        m, given = a.shape[1], (dtheta, used)
        for t in range(T):
            if m == 1:
                tiles_of_one(t, T, given, d, m, a, b, dtheta, scalars)
            else:
                tiles_of_many(t, T, given, d, m, whole(a), whole(b), dtheta, scalars)

    @numba.njit(error_model="numpy")
    def transpose(T, a, out):
        for t in range(T):
            transpose_(t, T, a, out, (0, a.size, a.shape[0], a.shape[1]))

    @numba.njit(error_model="numpy")
    def gather(T, rows, order, start, out):
        for t in range(T):
            gather_(t, T, rows, order, start, out)

    return SimpleNamespace(
        owner_computes=owner_computes,
        in_tiles=in_tiles,
        transpose=transpose,
        gather=gather,
    )


def random_sizes(rng, few):
    n, k = (int(size) for size in rng.choice(SIZES, 2))
    m = int(rng.choice([size for size in SIZES if size <= 64] if few else SIZES))
    return n, k, m


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_divided_as_W_is(runtime, dtype):
    """W A and W^T dZ, each thread with its rows (or columns) of W."""
    rng = np.random.default_rng(1)
    scalars = np.asarray([1, 0, 100**3], dtype)
    splits = set()
    for trial in range(200):
        n, k, m = random_sizes(rng, few=True)
        line = m + 16 * (trial % 2)
        W = rng.standard_normal((n, k)).astype(dtype)
        for T in (1, 2, 3):
            for transposed in (False, True):
                a = W.T if transposed else W
                b = rng.standard_normal((a.shape[1], m)).astype(dtype)
                out, room = np.full((len(a), line), np.nan, dtype), (T - 1) * len(a) * m
                sums = np.full(room + len(a) * 16, np.nan, dtype)
                splits.add(
                    (transposed, runtime.owner_computes(T, a, b, out, sums[:room], scalars, transposed))
                )
                error = np.abs(out[:, :m] - a.astype("float64") @ b).max() / np.sqrt(a.shape[1])
                assert error < (1e-13 if dtype == "float64" else 3e-5), (n, k, m, T, transposed)
                assert np.isnan(out[:, m:]).all()
                assert np.isnan(sums[room:]).all()
    assert splits == {(False, False), (False, True), (True, False), (True, True)}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tiles_make_every_number_once(runtime, dtype):
    rng = np.random.default_rng(2)
    scalars = np.asarray([1, 0, 100**3], dtype)
    for trial in range(200):
        n, k, m = random_sizes(rng, few=trial % 2)
        k *= 12 if trial % 5 == 0 else 1
        dZ, A = rng.standard_normal((n, m)).astype(dtype), rng.standard_normal((k, m)).astype(dtype)
        for T in (1, 2, 3):
            dtheta, used = np.full(n * k + 7, np.nan, dtype), np.zeros(n * k + 7, dtype)
            runtime.in_tiles(T, dZ, A.T, np.asarray([5, 5 + n * k, n, k]), dtheta, used, scalars)
            error = np.abs(used[5:-2].reshape(n, k) - dZ.astype("float64") @ A.T).max() / np.sqrt(m)
            assert error < (1e-13 if dtype == "float64" else 3e-5), (n, k, m, T)
            assert not used[:5].any()
            assert not used[-2:].any()


def test_a_transposed_matrix(runtime):
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((33, 1024)).astype("float32")  # A^T, row-major as it is
    for T in (1, 2, 3):
        out = np.full((33, 1040), np.nan, "float32")
        runtime.transpose(T, rows, out)
        np.testing.assert_array_equal(out[:, :1024], rows)
    for n, m in ((1, 1), (3, 2), (16, 8), (100, 33), (64, 1024)):
        A = rng.standard_normal((n, m)).astype("float32")
        for T in (1, 2, 3):
            out = np.full((m, n + 16), np.nan, "float32")  # its lines may be longer
            runtime.transpose(T, A.T, out)
            np.testing.assert_array_equal(out[:, :n], A.T)
            assert np.isnan(out[:, n:]).all()


@pytest.mark.needs("numba")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gathered_samples(runtime, dtype):
    """Each thread gathers its part of them, out of rows that may be longer, to rows that are."""
    rng = np.random.default_rng(5)
    for m in (1, 9, 16, 25, 100):
        for k in (1, 20, 784):
            rows = rng.standard_normal((m + 40, k + 3)).astype(dtype)[:, :k]
            order, start = rng.permutation(m + 40), int(rng.integers(40))
            for T in (1, 2, 3):
                samples = np.full((m, k), np.nan, dtype)
                runtime.gather(T, rows, order, start, samples)
                np.testing.assert_array_equal(samples, rows[order[start : start + m]])
