"""What a step costs a GPU, as far as its schedule tells: launches, products and bytes."""

from itertools import pairwise

import pytest
from step_cases import CASES, case, digits
from test_cuda_kernels import NOT_RENDERED, render

import nnx
from nnx.backends.cupy.cost import cost
from nnx.bench.against import NETWORKS
from nnx.compiler.ir.operations import itemsize


def of(made, m=128, dtype="float32"):
    return cost(render(made, dtype, m)[0])


@pytest.mark.parametrize("m", [32, 128, 1024])
@pytest.mark.parametrize("sizes", NETWORKS)
def test_networks_with_adam(sizes, m):
    """A layer has a kernel forward and one backward; J, db of the last layer, Adam and its factors one each."""
    layers, of_one = len(sizes) - 1, sizes[-1] == 1
    net = nnx.mlp(list(sizes), output="sigmoid" if of_one else "softmax")
    found = of(case(net, nnx.Adam(), Y=None if of_one else "indices"), m)
    assert (found.kernels, found.products) == (
        2 * layers + 3,
        3 * layers - 1 - of_one,
    )  # W^T dZ of one unit is no sum
    assert 1 <= found.ratio < 1.05


def test_the_bytes_of_a_network():
    """Adam reads theta, m, v and dtheta and writes three of them; between products each matrix is read and written."""
    n, m = (784, 512, 512, 10), 128
    found = of(lambda dtype, m: digits(m, n), m)
    P = sum(a * b + b for a, b in pairwise(n))
    matrices = 2 * 512 * m * (2 + 3) + 10 * m * 2  # Z to A; dA and A to dZ; Z to dZ of the last layer
    assert (
        0 <= found.least_bytes - 4 * (7 * P + matrices) < 20000
    )  # and biases, their derivatives, labels, losses
    assert found.flops == 2 * m * (2 * 784 * 512 + 3 * 512 * 512 + 3 * 512 * 10)
    doubled = of(lambda dtype, m: digits(m, n, dtype=dtype), m, "float64")
    assert doubled.product_bytes == 2 * found.product_bytes
    assert itemsize("float64") == 8


KERNELS = {
    "batch norm": 15,
    "dropout": 11,
    "noise": 14,
    "residual": 13,
    "layer norm": 9,
    "weights": 9,
    "l1": 9,
}
"""Steps with more kernels than one for each function between products. Less is better."""


@pytest.mark.parametrize("name", [name for name in CASES if name not in (*NOT_RENDERED, "everything")])
def test_every_step_has_few_kernels(name):
    found = of(CASES[name])
    assert found.kernels <= KERNELS.get(name, 7)
    assert found.ratio < 2


def test_clipping_and_norms_of_weights():
    """A sum of all is a kernel of its own; of each layer's rows, too."""
    net = nnx.mlp([300, 90, 10])
    plain = of(case(net, nnx.Momentum(), Y="indices"))
    clipped = of(case(net, nnx.Momentum(), nnx.Regularization(clip_norm=0.1), Y="indices"))
    assert clipped.kernels - plain.kernels <= 4
