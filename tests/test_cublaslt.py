"""cuBLASLt's descriptors: what a product says of itself, asked of the library itself where it is installed."""

import ctypes
import gc
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from cublaslt_on_host import CublasLtOnHost
from cupy_on_host import CupyOnHost

import nnx
from nnx.backends.cupy import cublaslt
from nnx.backends.cupy.cublaslt import CuBlasLt, Heuristic, Matmul
from nnx.backends.cupy.step import Argument, Product
from nnx.compiler.schedule import Memory

TYPE, ROWS, COLUMNS, LD = 0, 2, 3, 4  # cublasLtMatrixLayoutAttribute_t


def product(a="float32", c="float32", transpose_a=True, transpose_b=False, offset=0):
    """A product of (512, 784) and (784, 128)."""
    x, y, z = (Argument(Memory("buffer", k), offset, dtype) for k, dtype in enumerate((a, a, c)))
    lda, ldb = 784 if transpose_a else 512, 128 if transpose_b else 784
    return Product(transpose_a, transpose_b, 512, 128, 784, x, lda, y, ldb, z, 600)


@pytest.fixture
def library():
    """libcublasLt, which makes descriptors without a GPU."""
    try:
        return cublaslt.library()
    except nnx.BackendError as error:
        pytest.skip(str(error))


def asked(library, kind, handle, attribute, number=ctypes.c_int32):
    """An attribute of a descriptor."""
    value, written = number(), ctypes.c_size_t()
    ask = getattr(library, f"cublasLt{kind}GetAttribute")
    ask.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
    given = ctypes.byref(value), ctypes.sizeof(value), ctypes.byref(written)
    assert ask(handle, attribute, *given) == 0
    assert written.value == ctypes.sizeof(value)
    return value.value


@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
def test_a_product_is_described(library, transpose_a, transpose_b):
    matmul = Matmul(library, product(transpose_a=transpose_a, transpose_b=transpose_b))
    assert asked(library, "MatmulDesc", matmul._description, cublaslt.TRANSPOSE_A) == transpose_a
    assert asked(library, "MatmulDesc", matmul._description, cublaslt.TRANSPOSE_B) == transpose_b
    sizes = ROWS, COLUMNS, LD
    layouts = matmul._layouts
    found = [tuple(asked(library, "MatrixLayout", x, k, ctypes.c_int64) for k in sizes) for x in layouts]
    a = (784, 512, 784) if transpose_a else (512, 784, 512)
    b = (128, 784, 128) if transpose_b else (784, 128, 784)
    assert found == [a, b, (512, 128, 600)]


def test_a_product_of_members_is_a_batch(library):
    batch = product()._replace(members=5, strides=(401408, 0, 1 << 40))
    layouts = Matmul(library, batch)._layouts
    assert [asked(library, "MatrixLayout", x, cublaslt.BATCH_COUNT) for x in layouts] == [5, 5, 5]
    strides = [asked(library, "MatrixLayout", x, cublaslt.BATCH_STRIDE, ctypes.c_int64) for x in layouts]
    assert strides == [401408, 0, 1 << 40]


@pytest.mark.parametrize(
    ("a", "c", "precision", "compute", "types"),
    [
        ("float32", "float32", "float32", 68, [0, 0, 0]),
        ("float32", "float32", "tf32", 77, [0, 0, 0]),
        ("float32", "float32", "bfloat16", 68, [0, 0, 0]),
        ("bfloat16", "float32", "bfloat16", 68, [14, 14, 0]),
        ("float64", "float64", "tf32", 70, [1, 1, 1]),
    ],
)
def test_precision_is_that_of_the_products(library, a, c, precision, compute, types):
    matmul = Matmul(library, product(a, c), precision)
    assert asked(library, "MatmulDesc", matmul._description, 0) == compute
    assert asked(library, "MatmulDesc", matmul._description, 1) == types[2]
    assert [asked(library, "MatrixLayout", x, TYPE) for x in matmul._layouts] == types


def test_what_an_algorithm_may_count_on(library):
    matmul = Matmul(library, product())
    preference = matmul._preference(1 << 20, (256, 4, 8))
    assert asked(library, "MatmulPreference", preference, 1, ctypes.c_uint64) == 1 << 20
    assert [asked(library, "MatmulPreference", preference, k) for k in (5, 6, 7, 8)] == [256, 4, 8, 8]
    assert asked(library, "MatmulPreference", preference, 3) == 2  # sums of parts in float32


def test_numbers_are_those_of_the_header(library):
    header = Path(library._name).parent.parent / "include" / "cublasLt.h"
    if not header.exists():
        pytest.skip(f"{header} is not installed")
    text = header.read_text()
    names = {
        "CUBLASLT_MATMUL_DESC_TRANSA": cublaslt.TRANSPOSE_A,
        "CUBLASLT_MATMUL_DESC_TRANSB": cublaslt.TRANSPOSE_B,
        "CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES": cublaslt.WORKSPACE_BYTES,
        "CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK": cublaslt.REDUCTION_SCHEMES,
        "CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES": cublaslt.ALIGNMENTS[0],
        "CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES": cublaslt.ALIGNMENTS[3],
        "CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE": cublaslt.SUM_IN_COMPUTE_TYPE,
    }
    for name, number in names.items():
        assert re.search(rf"\b{name} = (\d+),", text)[1] == str(number), name


def test_the_result_of_a_heuristic_is_as_large_as_the_librarys():
    assert ctypes.sizeof(Heuristic) == 96


def test_descriptors_are_destroyed_with_the_product():
    library = CublasLtOnHost(CupyOnHost())
    matmul = Matmul(library, product())
    matmul.algorithms(CuBlasLt(library, "90"), (256, 256, 256))
    del matmul
    gc.collect()
    assert library.destroyed == 5  # the product, three layouts, a preference


def test_errors_say_what_was_not_to_be_had(monkeypatch):
    library = CublasLtOnHost(CupyOnHost())
    matmul = Matmul(library, product())
    lt = CuBlasLt(library, "90")
    what = r"a product TN of \(512, 784\) and \(784, 128\) in float32"
    monkeypatch.setattr(library, "cublasLtMatmulAlgoGetHeuristic", lambda *_: 15)
    with pytest.raises(nnx.BackendError, match=rf"find an algorithm for {what}: not supported \(status 15\)"):
        matmul.algorithms(lt, (256, 256, 256))
    monkeypatch.setattr(library, "cublasLtMatmulAlgoGetHeuristic", lambda *_: 0)  # it finds none
    with pytest.raises(nnx.BackendError, match=f"no algorithm for {what}"):
        matmul.algorithms(lt, (256, 256, 256))


def test_without_the_library_it_says_what_to_install(monkeypatch):
    def load(name):
        raise RuntimeError(f"No such file: lib{name}.so.13\nand more")

    monkeypatch.setitem(
        __import__("sys").modules,
        "cuda",
        SimpleNamespace(pathfinder=SimpleNamespace(load_nvidia_dynamic_lib=load)),
    )
    cublaslt.library.cache_clear()
    try:
        with pytest.raises(
            nnx.BackendError, match=r"cannot be loaded \(No such file: libcublasLt.so.13\).*\[cuda13\]"
        ):
            cublaslt.library()
    finally:
        cublaslt.library.cache_clear()


@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="there is a GPU")
def test_without_a_gpu_a_handle_is_refused(library):
    with pytest.raises(nnx.BackendError, match="cannot be used on this GPU: not initialized"):
        CuBlasLt(library, "90")
