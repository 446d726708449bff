"""The products of a step as BLAS takes them: no factor is copied, and every argument is right."""

import numpy as np
import pytest
from conftest import long_but_for
from cuda_host import outputs
from cuda_kernels_on_host import needs_compiler
from step_cases import digits

from nnx.backends.cupy.step import Argument, Product
from nnx.backends.cupy.step_renderer import rendered, scheduled
from nnx.compiler import TraceError, own_outputs, trace
from nnx.compiler.schedule import Memory


def function_of(function, *arrays):
    """A function of parameters and a batch, rendered."""
    return rendered(scheduled(own_outputs(trace(function, *arrays)), is_step=False))


def products(step):
    return [call for call in step.calls if isinstance(call, Product)]


def test_the_products_of_a_network():
    step = rendered(scheduled(trace(*digits(128, (784, 512, 512, 10)))))
    assert [str(product) for product in products(step)] == [
        "gemm TN 512x128x784", "gemm TN 512x128x512", "gemm TN 10x128x512",
        "gemm NT 512x10x128", "gemm NN 512x128x10", "gemm NT 512x512x128", "gemm NN 512x128x512",
        "gemm NT 784x512x128",
    ]  # fmt: skip
    W, X, Z = products(step)[0].a, products(step)[0].b, products(step)[0].c
    assert (W.memory, W.offset, X.memory, X.offset) == (Memory("input", 0), 0, Memory("input", 5), 0)
    assert Z.memory.kind == "buffer"
    parts = [
        product.c.offset for product in products(step) if product.c.memory == products(step)[-1].c.memory
    ]
    assert parts == [664576, 401920, 0]  # dW3, dW2, dW1, straight into dtheta


def test_alignment_in_bytes():
    memory = Memory("input", 0)
    assert [Argument(memory, n, "float32").alignment for n in (0, 1, 2, 6, 64, 128)] == [
        256,
        4,
        8,
        8,
        256,
        256,
    ]
    assert [Argument(memory, n, "float64").alignment for n in (0, 1, 6, 64)] == [256, 8, 16, 256]


FORMS = {
    "as they are": lambda W, X: W @ X,
    "transposed": lambda W, X: X.T @ W.T,
    "both ways": lambda W, X: (W.T @ (W @ X)) @ X.T,
    "parts": lambda W, X: W[2:5, 1:] @ X[1:, :],
    "one row": lambda W, X: W[:1, :] @ X,
    "one column": lambda W, X: W @ X[:, :1],
    "one of each": lambda W, X: W[:1, :] @ X[:, 2:3],
    "an outer product": lambda W, X: W[:, :1] @ X[:1, :],
    "of sums": lambda W, X: (W + 1.0) @ (X * 2.0),
    "of a part of a vector": lambda W, X: (W @ X)[1:3, :] @ X.T,
}


@needs_compiler
@pytest.mark.parametrize("name", long_but_for(FORMS, "as they are", "of sums"))
@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.long)])
def test_a_product_reads_and_writes_its_matrices(rng, name, dtype):
    W, X = rng.standard_normal((6, 7)).astype(dtype), rng.standard_normal((9, 7)).astype(dtype).T
    step = function_of(FORMS[name], W, X)
    assert products(step) or name == "an outer product"
    (found,) = outputs(step, [W, X])
    np.testing.assert_allclose(found, FORMS[name](W, X), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("function", "shapes", "told"),
    [
        (lambda W, X: W[:, ::2] @ X[::2, :], [(6, 8), (8, 9)], "none for BLAS"),
        (lambda W, X: W @ X, [(6, 0), (0, 9)], "is empty"),
        (lambda W, X: W @ X, [(2, 6, 4), (2, 4, 9)], "no product of two matrices"),
    ],
)
def test_what_is_no_product_of_blas_is_an_error(function, shapes, told):
    with pytest.raises(TraceError, match=told):
        function_of(function, *map(np.zeros, shapes))


def test_integers_are_no_product_of_blas():
    with pytest.raises(TraceError, match="of one floating dtype"):
        function_of(lambda W, X: W @ X, np.ones((2, 3), "int32"), np.ones((3, 4), "int32"))
