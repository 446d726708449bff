"""The GEMM floor of a GPU: the matrix products of a step as one CUDA graph, each by its fastest algorithm.

The host launches one graph for each step, so that its own time does not count. The products lie in memory as those of
nnx's own step: with samples as rows.
"""

from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import Any, cast

import numpy as np

from nnx.backends.cupy.adapter import CuPy
from nnx.backends.cupy.cublaslt import Matmul
from nnx.backends.cupy.gpu import ALIGNED, Gpu
from nnx.backends.cupy.step import Argument, Product
from nnx.backends.cupy.timing import choose_fastest
from nnx.bench.case import Case, Data
from nnx.bench.clocks import cupy_events
from nnx.bench.contestant import Contestant
from nnx.compiler.schedule import Memory
from nnx.port.precision import FLOAT32, check_dtype
from nnx.port.registry import backend, described

BFLOAT16 = "bfloat16"


def products(case: Case, factors: str) -> Iterator[Product]:
    """Give the products of a step in order. BLAS has matrices by columns: W[l] and dW[l] are transposed there.

    Parameters
    ----------
    case : Case
    factors : str
        The dtype of the factors; the results have that of the case.
    """
    m = case.m
    layers = [*enumerate(pairwise(case.sizes), 1)]

    def at(name: str, l: int, dtype: str = factors) -> Argument:
        return Argument(Memory(name, l), 0, dtype)

    for l, (n_prev, n) in layers:  # Z[l] = W[l] A[l-1]
        Z = at("Z", l, case.dtype)
        yield Product(True, False, n, m, n_prev, at("W", l), n_prev, at("A", l - 1), n_prev, Z, n)
    for l, (n_prev, n) in reversed(layers):
        W, A, dZ = at("W", l), at("A", l - 1), at("dZ", l)
        dW, dA = at("dW", l, case.dtype), at("dA", l - 1, case.dtype)
        yield Product(False, True, n_prev, n, m, A, n_prev, dZ, n, dW, n_prev)  # dW[l] = dZ[l] A[l-1]^T
        if l > 1:
            yield Product(False, False, n_prev, m, n, W, n_prev, dZ, n, dA, n_prev)  # dA[l-1] = W[l]^T dZ[l]


class StepProducts:
    """The products of a step on a GPU, in memory of their own, as a CUDA graph.

    Parameters
    ----------
    gpu : Gpu
    case : Case
    precision : str
        "float32": that of the case's dtype.

    Attributes
    ----------
    memory : dict of Memory to array
        The numbers of each matrix, by columns. The factors are random, since zeros take a GPU less time.
    graph : cupy.cuda.Graph
        Launches all products.
    """

    def __init__(self, gpu: Gpu, case: Case, precision: str = FLOAT32) -> None:
        self.gpu, self.memory = gpu, dict[Memory, Any]()
        self._rng = np.random.default_rng(0)
        with gpu.use():
            self._workspace = gpu.empty(gpu.lt.workspace)
            calls = [self._call(p, precision) for p in products(case, factors(case, precision))]
            for matmul, addresses in calls:
                alignments = ALIGNED, ALIGNED, ALIGNED
                choose_fastest(gpu, matmul, alignments, addresses, self._workspace.data.ptr)

            def enqueue(stream: Any) -> None:
                for matmul, addresses in calls:
                    matmul(gpu.lt, addresses, self._workspace.data.ptr, stream.ptr)

            self.graph = gpu.captured(enqueue)

    def _call(self, p: Product, precision: str) -> tuple[Matmul, tuple[int, int, int]]:
        a, b, c = self._matrix(p.a, p.m * p.k), self._matrix(p.b, p.k * p.n), self._matrix(p.c, p.m * p.n)
        return Matmul(self.gpu.lt.library, p, precision), (a, b, c)

    def _matrix(self, argument: Argument, size: int) -> int:
        """Return the address of a matrix, which is made when it is first met."""
        if argument.memory not in self.memory:
            numbers = self._rng.standard_normal(size, np.float32)
            if argument.dtype == BFLOAT16:
                numbers = (numbers.view("uint32") >> 16).astype("uint16")
            else:
                numbers = numbers.astype(argument.dtype, copy=False)
            self.memory[argument.memory] = self.gpu.cupy.asarray(numbers)
        return int(self.memory[argument.memory].data.ptr)

    def launch(self, count: int) -> None:
        """Ask the GPU for the products of so many steps."""
        with self.gpu.use() as stream:
            for _ in range(count):
                self.graph.launch(stream)


def factors(case: Case, precision: str) -> str:
    """Return the dtype of the factors: bfloat16 ones are rounded before."""
    return BFLOAT16 if precision == BFLOAT16 else case.dtype


def floor(case: Case, data: Data, precision: str = FLOAT32) -> Contestant:
    """Return the floor of a GPU. Its samples are random, as its weights are."""
    check_dtype(precision, case.dtype)
    found = cast("CuPy", backend("cupy", None, precision))
    step = StepProducts(found.gpu.again(), case, precision)
    library, detail = described(found)
    return Contestant(
        lambda: step.launch(case.K * case.steps),  # of members the products of one after the other
        cupy_events(),
        dict,
        library,
        found.device,
        detail,
        precision=None if precision == FLOAT32 else precision,
    )


tf32 = partial(floor, precision="tf32")
bfloat16 = partial(floor, precision=BFLOAT16)
