"""CuPy's products of rounded factors, on a stand-in: the tests of all backends with bfloat16."""

import numpy as np
import pytest
from conftest import long_but_for
from cuda_kernels_on_host import needs_compiler
from cupy_on_host import installed
from nvrtc import compiled, needs_nvrtc
from step_cases import digits
from test_precision import (  # noqa: F401  # they are run here, too
    LAYERS,
    PRODUCTS,
    test_other_products_and_all_else_stay,
)
from test_precision import test_products_are_those_of_rounded_factors as rounded_products
from test_precision import test_the_gradient_is_that_of_rounded_factors as rounded_gradient

from nnx.backends.cupy.adapter import CuPy
from nnx.backends.cupy.calls import PRELUDE
from nnx.backends.cupy.rendering import render_step
from nnx.backends.cupy.step import Product

pytestmark = needs_compiler


@pytest.fixture
def bfloat16(monkeypatch):
    """CuPy on the host."""
    installed(monkeypatch)
    return CuPy(precision="bfloat16")


AS_KERNELS = [name for name in PRODUCTS if name != "stacked"]
"""The others run as calls."""


@pytest.mark.parametrize("name", long_but_for(AS_KERNELS, "a b"))
def test_products_are_those_of_rounded_factors(name, bfloat16, rng):
    rounded_products(name, bfloat16, rng)


@pytest.mark.parametrize("layers", long_but_for(LAYERS, "plain"))
def test_the_gradient_is_that_of_rounded_factors(layers, bfloat16, rng):
    rounded_gradient(layers, bfloat16, rng)


def test_products_of_a_step_read_rounded_factors():
    step, state, batch = digits()
    made = render_step(step, state, (*batch, None), 32, "bfloat16")
    products = [call for call in made.calls if isinstance(call, Product)]
    assert {(p.a.dtype, p.b.dtype, p.c.dtype) for p in products} == {("bfloat16", "bfloat16", "float32")}
    assert len(products) == 8
    assert len(made.calls) - len(products) <= 13


@needs_nvrtc
def test_its_kernels_compile():
    step, state, batch = digits()
    source = render_step(step, state, (*batch, None), 32, "bfloat16").source
    assert "spill" in compiled(PRELUDE.read_text(encoding="utf-8") + source, "sm_90")


@pytest.mark.long
def test_steps_with_rounded_factors_are_graphs(bfloat16):
    step, state, (X, Y) = digits()
    data = bfloat16.asarray(X), bfloat16.asarray(Y), None
    costs = {}
    for backend in (bfloat16, CuPy()):
        program = backend.compile(step)
        program.load({name: backend.asarray(x) for name, x in state.items()})
        costs[backend.precision] = np.array(program.run(data, None, 0, X.shape[-1], 4))
    assert bfloat16._cupy.launches == 6
    np.testing.assert_allclose(costs["bfloat16"], costs["float32"], rtol=0.02)
    assert not np.array_equal(costs["bfloat16"], costs["float32"])
