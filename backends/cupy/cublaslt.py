"""cuBLASLt by ctypes: matrix products that can be part of a CUDA graph.

CuPy refuses cuBLAS while a stream captures, and has no binding of cuBLASLt. cuBLASLt keeps no state between calls: the
stream, the workspace and the algorithm are arguments of each product. Descriptors need no GPU; all else does.
"""

import ctypes
import threading
import weakref
from functools import lru_cache
from typing import Any

from nnx.backends.cupy.step import Product
from nnx.errors import BackendError, first_line
from nnx.support.install import install

COMPUTE_TYPES = {"float32": 68, "tf32": 77, "float64": 70}  # cublasComputeType_t
DATA_TYPES = {"float32": 0, "float64": 1, "bfloat16": 14}  # cudaDataType_t
TRANSPOSE_A, TRANSPOSE_B = 3, 4  # cublasLtMatmulDescAttributes_t
BATCH_COUNT, BATCH_STRIDE = 5, 6  # cublasLtMatrixLayoutAttribute_t
WORKSPACE_BYTES, REDUCTION_SCHEMES, ALIGNMENTS = 1, 3, (5, 6, 7, 8)  # cublasLtMatmulPreferenceAttributes_t
SUM_IN_COMPUTE_TYPE = 2  # cublasLtReductionScheme_t: a product divided along k adds its parts in float32
STATUSES = {
    1: "not initialized",
    3: "no memory",
    7: "invalid value",
    8: "this GPU is not supported",
    11: "access to memory failed",
    13: "execution failed",
    14: "internal error",
    15: "not supported",
    16: "license error",
}


HOPPER = 90
"""The compute capability from which on NVIDIA advises a workspace of 32 MiB for products; 4 MiB before it."""


class Heuristic(ctypes.Structure):
    """An algorithm for one product with the bytes of workspace that it needs: cublasLtMatmulHeuristicResult_t."""

    _fields_ = (
        ("algorithm", ctypes.c_uint64 * 8),
        ("workspace", ctypes.c_size_t),
        ("status", ctypes.c_int),
        ("waves", ctypes.c_float),
        ("reserved", ctypes.c_int * 4),
    )


@lru_cache
def library() -> Any:
    """Return libcublasLt with the types of its functions.

    Raises
    ------
    BackendError
        When it is not installed: what to install.
    """
    try:
        from cuda import pathfinder  # by which CuPy finds its own libraries

        found = ctypes.CDLL(pathfinder.load_nvidia_dynamic_lib("cublasLt").abs_path)
    except Exception as error:  # the loader's errors have no common base
        raise BackendError(
            f"cuBLASLt cannot be loaded ({first_line(error)}). It does the matrix products on a GPU; install it: "
            f"{install('cuda13')}, or with cuda12 for a driver of CUDA 12"
        ) from error
    p, i, size = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
    found.cublasLtCreate.argtypes = [p]
    found.cublasLtMatmulDescCreate.argtypes = [p, i, i]
    found.cublasLtMatrixLayoutCreate.argtypes = [p, i, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_int64]
    found.cublasLtMatmulPreferenceCreate.argtypes = [p]
    for name in ("MatmulDesc", "MatmulPreference", "MatrixLayout"):
        getattr(found, f"cublasLt{name}SetAttribute").argtypes = [p, i, p, size]
    for name in ("MatmulDesc", "MatmulPreference", "MatrixLayout"):
        getattr(found, f"cublasLt{name}Destroy").argtypes = [p]
    found.cublasLtMatmulAlgoGetHeuristic.argtypes = [*[p] * 7, i, p, p]
    found.cublasLtMatmul.argtypes = [*[p] * 14, size, p]
    return found


def check(status: int, what: str) -> None:
    """Raise a BackendError if a function of cuBLASLt did not succeed."""
    if status:
        raise BackendError(
            f"cuBLASLt cannot {what}: {STATUSES.get(status, 'unknown error')} (status {status})"
        )


class CuBlasLt:
    """cuBLASLt on the current GPU: `on_gpu` makes it, once for each GPU.

    Parameters
    ----------
    library : ctypes library
        See `library`.
    capability : str
        The GPU's, such as "90".

    Attributes
    ----------
    workspace : int
        Bytes that a product may use beside its matrices.
    lock : lock
        A thread holds it while it captures, or asks for algorithms: other threads may do neither, on any GPU.
    """

    lock = threading.RLock()

    def __init__(self, library: Any, capability: str) -> None:
        self.library, self.workspace = library, (32 if int(capability) >= HOPPER else 4) << 20
        self.handle = ctypes.c_void_p()
        check(library.cublasLtCreate(ctypes.byref(self.handle)), "be used on this GPU")


@lru_cache
def on_gpu(library: Any, number: int, capability: str) -> CuBlasLt:
    """Return cuBLASLt on a GPU, the current one. It is never destroyed: that would wait for the GPU."""
    return CuBlasLt(library, capability)


class Matmul:
    """A product: its descriptors and, after `choose`, its algorithm.

    Attributes
    ----------
    workspace : int
        Bytes of workspace that the algorithm needs.
    """

    def __init__(self, library: Any, product: Product, precision: str = "float32") -> None:
        self._library, self._product, dtype = library, product, product.c.dtype
        number = ctypes.c_double if dtype == "float64" else ctypes.c_float
        self._one, self._zero = number(1), number(0)
        self._description = self._made("MatmulDesc", compute_type(product, precision), DATA_TYPES[dtype])
        p = product
        self._set("MatmulDesc", self._description, TRANSPOSE_A, ctypes.c_int32(p.transpose_a))
        self._set("MatmulDesc", self._description, TRANSPOSE_B, ctypes.c_int32(p.transpose_b))
        a, b = (p.k, p.m) if p.transpose_a else (p.m, p.k), (p.n, p.k) if p.transpose_b else (p.k, p.n)
        self._layouts = [
            self._made("MatrixLayout", DATA_TYPES[x.dtype], *shape, ld)
            for x, shape, ld in ((p.a, a, p.lda), (p.b, b, p.ldb), (p.c, (p.m, p.n), p.ldc))
        ]
        if p.members > 1:
            for layout, stride in zip(self._layouts, p.strides, strict=True):
                self._set("MatrixLayout", layout, BATCH_COUNT, ctypes.c_int32(p.members))
                self._set("MatrixLayout", layout, BATCH_STRIDE, ctypes.c_int64(stride))
        self._algorithm: Heuristic | None = None
        self.workspace = 0

    def _made(self, kind: str, *arguments: int) -> Any:
        """Return a new descriptor, which is destroyed with this product."""
        made = ctypes.c_void_p()
        status = getattr(self._library, f"cublasLt{kind}Create")(ctypes.byref(made), *arguments)
        check(status, f"describe {self}")
        weakref.finalize(self, getattr(self._library, f"cublasLt{kind}Destroy"), made).atexit = False
        return made

    def _set(self, kind: str, descriptor: Any, attribute: int, value: Any) -> None:
        change = getattr(self._library, f"cublasLt{kind}SetAttribute")
        check(change(descriptor, attribute, ctypes.byref(value), ctypes.sizeof(value)), f"describe {self}")

    def algorithms(self, lt: CuBlasLt, alignments: tuple[int, int, int], count: int = 1) -> list[Heuristic]:
        """Return at most `count` algorithms, the likely fastest first. Never while a stream captures: CUDA 13.3 fails.

        Parameters
        ----------
        lt : CuBlasLt
        alignments : tuple of int
            Powers of two that divide the addresses of the factors and of the result, up to 256. Such an address need
            not be round: the weights of a layer are a slice of theta.
        count : int
        """
        preference = self._preference(lt.workspace, alignments)
        a, b, c = self._layouts
        found, returned = (Heuristic * count)(), ctypes.c_int()
        with lt.lock:
            status = self._library.cublasLtMatmulAlgoGetHeuristic(
                lt.handle, self._description, a, b, c, c, preference, count, found, ctypes.byref(returned)
            )
        check(status, f"find an algorithm for {self}")
        usable = [x for x in found[: returned.value] if x.status == 0]
        if not usable:
            raise BackendError(f"cuBLASLt has no algorithm for {self}")
        return usable

    def _preference(self, workspace: int, alignments: tuple[int, int, int]) -> Any:
        preference = self._made("MatmulPreference")
        wanted = [
            (WORKSPACE_BYTES, ctypes.c_uint64(workspace)),
            (REDUCTION_SCHEMES, ctypes.c_uint32(SUM_IN_COMPUTE_TYPE)),
        ]
        for attribute, nbytes in zip(ALIGNMENTS, (*alignments, alignments[2]), strict=True):
            wanted.append((attribute, ctypes.c_uint32(nbytes)))  # it assumes 256 unless it is told
        for attribute, value in wanted:
            self._set("MatmulPreference", preference, attribute, value)
        return preference

    def choose(self, algorithm: Heuristic) -> None:
        """Take an algorithm for all calls."""
        self._algorithm, self.workspace = algorithm, int(algorithm.workspace)

    def __call__(self, lt: CuBlasLt, addresses: tuple[int, int, int], workspace: int, stream: int) -> None:
        """Ask a stream for the product; `workspace` is the address of memory that nothing else uses meanwhile."""
        assert self._algorithm is not None, "no algorithm is chosen"
        (a, b, c), (at_a, at_b, at_c) = self._layouts, addresses
        status = self._library.cublasLtMatmul(
            lt.handle,
            self._description,
            *(ctypes.byref(self._one), at_a, a, at_b, b),
            *(ctypes.byref(self._zero), at_c, c, at_c, c),
            *(ctypes.byref(self._algorithm.algorithm), workspace, self.workspace, stream),
        )
        check(status, f"compute {self}")

    def __str__(self) -> str:
        p = self._product
        form = f"{'NT'[p.transpose_a]}{'NT'[p.transpose_b]}"
        text = f"a product {form} of ({p.m}, {p.k}) and ({p.k}, {p.n}) in {p.c.dtype}"
        return text if p.members == 1 else f"{text}, {p.members} times"


def compute_type(product: Product, precision: str) -> int:
    """Return how a product is computed: cuBLASLt rounds to TF32, and factors in bfloat16 are rounded before."""
    rounds = precision == "tf32" and product.a.dtype == "float32"
    return COMPUTE_TYPES["tf32" if rounds else product.c.dtype]
