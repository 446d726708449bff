"""The products of a compiled step: the threads' shares of them, in pieces, tiles or whole, are together NumPy's."""

import numpy as np
import pytest

SIZES = [1, 2, 3, 8, 10, 16, 17, 20, 33, 64, 100, 128, 300, 784, 1024]


@pytest.fixture(scope="module")
def products():
    numba = pytest.importorskip("numba", reason="numba is not installed")
    pytest.importorskip("scipy.linalg")
    from nnx.backends.numba import runtime

    product, where, by_samples = runtime.product, runtime.where, runtime.by_samples

    @numba.njit(error_model="numpy")
    def lies(x):
        return where(x, (0, x.size, x.shape[0], x.shape[1]))

    @numba.njit(error_model="numpy")
    def run(T, a, b, out, units):
        for t in range(T):
            product(t, T, lies(a), lies(b), lies(out), units, None)

    @numba.njit(error_model="numpy")
    def pick(T, a, rows, order, start, samples, out, units):
        """Write a samples^T, the samples picked out by the threads, if each can pick out its own."""
        if not by_samples(T, (0, out.size, out.shape[0], out.shape[1]), 0):
            return False
        for t in range(T):
            product(t, T, lies(a), lies(samples.T), lies(out), units, (rows, order, start))
        return True

    return run, pick


def check(run, a, B, out, units, threads):
    """B by rows and by columns, and each number of threads, give NumPy's a B."""
    expected = a.astype("float64") @ B.astype("float64")
    for b in (B, np.ascontiguousarray(B.T).T):
        for T in threads:
            out[...] = np.nan
            run(T, a, b, out, units)
            error = np.abs(out - expected).max() / np.sqrt(a.shape[1])
            assert error < (1e-13 if out.dtype == "float64" else 3e-5), (
                a.shape,
                b.shape,
                a.strides,
                b.strides,
                T,
            )


@pytest.mark.needs("numba")
@pytest.mark.parametrize("small", [-2, -1, 0, 100**3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_shares_of_a_product_are_numpys(products, dtype, small):
    run, _ = products
    rng = np.random.default_rng(0)
    units = np.asarray([1, 0, small], dtype)
    for _ in range(150):
        n, k, m = (int(size) for size in rng.choice(SIZES, 3))
        A, B = rng.standard_normal((n, k)).astype(dtype), rng.standard_normal((k, m)).astype(dtype)
        for a in (A, np.ascontiguousarray(A.T).T):
            check(run, a, B, np.full((n, m), np.nan, dtype), units, (1, 2, 3))


@pytest.mark.needs("numba")
@pytest.mark.parametrize("small", [-2, -1, 0, 100**3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_of_few_rows_and_many_numbers_are_numpys(products, dtype, small):
    run, _ = products
    rng = np.random.default_rng(0)
    units = np.asarray([1, 0, small], dtype)
    for n, k, m in ((20, 5000, 100), (20, 300, 5000), (33, 5000, 40), (20, 5000, 7), (20, 4100, 9000)):
        a, B = rng.standard_normal((n, k)).astype(dtype), rng.standard_normal((k, m)).astype(dtype)
        longer = np.full((n, m + 3), np.nan, dtype)[:, :m]  # its lines are
        check(run, a, B, longer, units, (1, 2))


@pytest.mark.needs("numba")
@pytest.mark.parametrize("small", [-2, -1, 0, 100**3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_samples_are_picked_out_within_a_product(products, dtype, small):
    _, pick = products
    rng = np.random.default_rng(5)
    units, seen = np.asarray([1, 0, small], dtype), set()
    for trial in range(150):
        n, k = (int(size) for size in rng.choice(SIZES, 2))
        m = int(rng.choice([*SIZES, 9, 25]))
        k = 2500 if trial % 10 == 0 else k
        W, rows = rng.standard_normal((n, k)).astype(dtype), rng.standard_normal((m + 40, k)).astype(dtype)
        order, start = rng.permutation(m + 40), int(rng.integers(40))
        chosen = rows[order[start : start + m]]
        for T in (1, 2, 3):
            samples, out = np.full((m, k), np.nan, dtype), np.full((n, m), np.nan, dtype)
            picked = pick(T, W, rows, order, start, samples, out, units)
            seen.add((T, picked))
            if picked:
                np.testing.assert_array_equal(samples, chosen)
                error = np.abs(out - W.astype("float64") @ chosen.T).max() / np.sqrt(k)
                assert error < (1e-13 if dtype == "float64" else 3e-5), (n, k, m, T)
    assert seen >= {(1, True), (2, True), (2, False), (3, True), (3, False)}


@pytest.fixture(scope="module")
def others():
    numba = pytest.importorskip("numba", reason="numba is not installed")
    pytest.importorskip("scipy.linalg")
    from nnx.backends.numba import runtime as by

    by_owner, summed, where, tiles, tile = by.by_owner, by.summed, by.where, by.tiles, by.tile
    tile_product, tile_of_one, turned, sound = by.tile_product, by.tile_of_one, by.turned, by.sound

    @numba.njit(error_model="numpy")
    def lies(x):
        return where(x, (0, x.size, x.shape[0], x.shape[1]))

    @numba.njit(error_model="numpy")
    def owned(T, a, b, out, more, units, is_turned):
        """Write a b to the first columns of out, whose lines may be longer."""
        d = (0, a.shape[0] * b.shape[1], a.shape[0], b.shape[1])
        parts = 0
        for t in range(T):
            parts = by_owner(t, T, lies(a), lies(b), where(out, d), more, units, is_turned, None)
        for t in range(T):
            summed(t, T, parts, out, more, d)
        return parts > 1

    @numba.njit(error_model="numpy")
    def in_tiles(T, a, b, d, dtheta, used, units):
        """Copy every piece to where it belongs, as soon as it is there, as the optimizer's loop would."""
        for t in range(T):
            i0, i1, j0, j1, R, C, packed = tiles(t, T, d, a.shape[1])
            for r in range(i0, i1, R):
                for c in range(j0, j1, C):
                    rows, columns = min(R, i1 - r), min(C, j1 - c)
                    at, line, first, each, pieces = tile(d, r, c, rows, columns, packed)
                    if a.shape[1] == 1:
                        tile_of_one(a, b, r, rows, c, columns, dtheta, at, line)
                    else:
                        tile_product(lies(a), lies(b), r, rows, c, columns, dtheta, at, line, units)
                    for q in range(pieces):
                        low, ahead = first + q * d[3], at + q * line
                        used[low : low + each] += dtheta[ahead : ahead + each]

    @numba.njit(error_model="numpy")
    def turn(T, a, out):
        for t in range(T):
            turned(t, T, a, out, (0, a.size, a.shape[0], a.shape[1]))

    @numba.njit(error_model="numpy")
    def all_sound(T, x):
        found = True
        for t in range(T):
            found = sound(t, T, x) and found
        return found

    return owned, in_tiles, turn, all_sound


def random_sizes(rng, few):
    n, k = (int(size) for size in rng.choice(SIZES, 2))
    m = int(rng.choice([size for size in SIZES if size <= 64] if few else SIZES))
    return n, k, m


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_shared_out_as_W_is(others, dtype):
    """W A and W^T dZ, each thread with its rows (or columns) of W."""
    rng = np.random.default_rng(1)
    units = np.asarray([1, 0, 100**3], dtype)
    splits = set()
    for trial in range(200):
        n, k, m = random_sizes(rng, few=True)
        line = m + 16 * (trial % 2)
        W = rng.standard_normal((n, k)).astype(dtype)
        for T in (1, 2, 3):
            for turned in (False, True):
                a = W.T if turned else W
                b = rng.standard_normal((a.shape[1], m)).astype(dtype)
                out, room = np.full((len(a), line), np.nan, dtype), (T - 1) * len(a) * m
                more = np.full(room + len(a) * 16, np.nan, dtype)
                splits.add((turned, others[0](T, a, b, out, more[:room], units, turned)))
                error = np.abs(out[:, :m] - a.astype("float64") @ b).max() / np.sqrt(a.shape[1])
                assert error < (1e-13 if dtype == "float64" else 3e-5), (n, k, m, T, turned)
                assert np.isnan(out[:, m:]).all()
                assert np.isnan(more[room:]).all()
    assert splits == {(False, False), (False, True), (True, False), (True, True)}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tiles_make_every_number_once(others, dtype):
    rng = np.random.default_rng(2)
    units = np.asarray([1, 0, 100**3], dtype)
    for trial in range(200):
        n, k, m = random_sizes(rng, few=trial % 2)
        k *= 12 if trial % 5 == 0 else 1
        dZ, A = rng.standard_normal((n, m)).astype(dtype), rng.standard_normal((k, m)).astype(dtype)
        for T in (1, 2, 3):
            dtheta, used = np.full(n * k + 7, np.nan, dtype), np.zeros(n * k + 7, dtype)
            others[1](T, dZ, A.T, np.asarray([5, 5 + n * k, n, k]), dtheta, used, units)
            error = np.abs(used[5:-2].reshape(n, k) - dZ.astype("float64") @ A.T).max() / np.sqrt(m)
            assert error < (1e-13 if dtype == "float64" else 3e-5), (n, k, m, T)
            assert not used[:5].any()
            assert not used[-2:].any()


def test_a_matrix_turned(others):
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((33, 1024)).astype("float32")  # A^T, row-major as it is
    for T in (1, 2, 3):
        out = np.full((33, 1040), np.nan, "float32")
        others[2](T, rows, out)
        np.testing.assert_array_equal(out[:, :1024], rows)
    for n, m in ((1, 1), (3, 2), (16, 8), (100, 33), (64, 1024)):
        A = rng.standard_normal((n, m)).astype("float32")
        for T in (1, 2, 3):
            out = np.full((m, n + 16), np.nan, "float32")  # its lines may be longer
            others[2](T, A.T, out)
            np.testing.assert_array_equal(out[:, :n], A.T)
            assert np.isnan(out[:, n:]).all()


@pytest.mark.needs("numba")
@pytest.mark.parametrize("bad", [None, np.nan, np.inf, -np.inf])
def test_whether_a_state_is_finite(others, bad):
    rng = np.random.default_rng(4)
    for size in (1, 5, 16, 100, 1001):
        for T in (1, 2, 3):
            x = rng.standard_normal(size) * 1e300
            if bad is not None:
                x[rng.integers(size)] = bad
            assert others[3](T, x) == (bad is None)
