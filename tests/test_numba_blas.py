"""Whose products compiled steps call: what lies at the addresses multiplies, and who is chosen where."""

import ctypes
import subprocess
import sys
from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest

import nnx

pytest.importorskip("numba", reason="numba is not installed")
pytest.importorskip("scipy.linalg")

from nnx.backends.numba import blas, threads
from nnx.support import blas_threads


def fortran(address, a, b):
    """Return a b by a BLAS function in Fortran's manner: columns first, and all by reference."""
    kind = {"float32": ctypes.c_float, "float64": ctypes.c_double}[str(a.dtype)]
    (n, k), m = a.shape, b.shape[1]
    out = np.full((n, m), np.nan, a.dtype)
    given = [
        ctypes.c_char(b"n"), ctypes.c_char(b"n"), ctypes.c_int(m), ctypes.c_int(n), ctypes.c_int(k), kind(1), b,
        ctypes.c_int(m), a, ctypes.c_int(k), kind(0), out, ctypes.c_int(m),
    ]  # fmt: skip
    places = [x.ctypes.data if isinstance(x, np.ndarray) else ctypes.addressof(x) for x in given]
    ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 13)(address)(*places)
    return out


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("made", [blas.scipys, blas.mkl])
def test_a_product_of_each_library_is_numpys(made, dtype):
    library = made()
    if library is None:
        pytest.skip("MKL is not installed: pip install '.[mkl]'")
    rng = np.random.default_rng(0)
    for n, k, m in ((3, 4, 5), (64, 300, 17), (1, 1, 1)):
        a, b = rng.standard_normal((n, k)).astype(dtype), rng.standard_normal((k, m)).astype(dtype)
        np.testing.assert_allclose(
            fortran(library.gemm[dtype], a, b), a @ b, atol=1e-4 if dtype == "float32" else 1e-12
        )


@pytest.fixture
def anew():
    """What has been found out is found out again, before and after."""

    def clear():
        for function in (blas.blas, blas.mkl, blas_threads.libraries, blas.copy_limit):
            function.cache_clear()

    clear()
    yield
    clear()


def test_mkl_is_for_processors_of_intels(anew, monkeypatch):
    monkeypatch.setattr(blas, "_of_intel", lambda: False)
    assert not blas.blas().is_mkl
    blas.blas.cache_clear()
    monkeypatch.setattr(blas, "_of_intel", lambda: True)
    assert blas.blas().is_mkl == (blas.mkl() is not None)


def test_the_environment_may_say_whose_products(anew, monkeypatch):
    monkeypatch.setattr(blas, "_of_intel", lambda: True)
    monkeypatch.setenv("NNX_BLAS", "scipy")
    assert not blas.blas().is_mkl
    blas.blas.cache_clear()
    monkeypatch.setattr(blas, "_of_intel", lambda: False)
    monkeypatch.setenv("NNX_BLAS", "mkl")
    if blas.mkl() is None:
        with pytest.raises(nnx.BackendError, match=r"NNX_BLAS=mkl: MKL is not installed"):
            nnx.backend("numba")
    else:
        assert "products by MKL" in nnx.backend("numba").describe()
    blas.blas.cache_clear()
    monkeypatch.setenv("NNX_BLAS", "openblas")
    with pytest.raises(nnx.BackendError, match=r"NNX_BLAS=openblas: expected 'scipy' or 'mkl'"):
        nnx.backend("numba")


AT_ONCE = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
from nnx.backends.numba import blas
sys.setswitchinterval(1e-5)
together = threading.Barrier(4)
def find(_):
    together.wait()
    return blas.mkl()
with ThreadPoolExecutor(4) as pool:
    print(len({id(found) for found in pool.map(find, range(4))}))
"""


def test_threads_that_look_for_mkl_at_once_find_the_same():
    if blas.mkl() is None:
        pytest.skip("MKL is not installed: pip install '.[mkl]'")
    # In a process of its own: here it may have been loaded.
    done = subprocess.run([sys.executable, "-c", AT_ONCE], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1"]


def test_an_mkl_that_is_missing_or_cannot_be_loaded_is_not_used(anew, monkeypatch, tmp_path, caplog):
    class Broken:
        version = "0"

        class File:
            name = "libmkl_rt.so.2"

            def locate(self):
                return tmp_path / self.name

        files = (File(),)

    monkeypatch.setattr(blas, "_of_intel", lambda: True)
    monkeypatch.setattr(blas, "distribution", lambda name: Broken)
    (tmp_path / "libmkl_rt.so.2").write_bytes(b"no library")
    with caplog.at_level("INFO", "nnx"):
        assert not blas.blas().is_mkl
    assert "MKL is installed, but not used" in caplog.text

    def missing(name):
        raise PackageNotFoundError(name)

    blas.mkl.cache_clear()
    monkeypatch.setattr(blas, "distribution", missing)
    assert blas.mkl() is None


def test_steps_have_as_many_threads_beside_mkl_which_has_one(anew, monkeypatch):
    threadpoolctl = pytest.importorskip("threadpoolctl")
    if blas.mkl() is None:
        pytest.skip("MKL is not installed: pip install '.[mkl]'")
    monkeypatch.setattr(threads, "cores", lambda: 8)
    for wish in ("mkl", "scipy"):  # loaded it is in either case
        blas.blas.cache_clear()
        blas_threads.libraries.cache_clear()
        monkeypatch.setenv("NNX_BLAS", wish)
        with threadpoolctl.threadpool_limits(3):
            assert threads.threads() == 3
