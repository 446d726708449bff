"""What a step costs a GPU, as far as its schedule tells: launches, products and bytes."""

from itertools import pairwise

import pytest
from conftest import long_but_for
from step_cases import CASES, case, digits
from test_cuda_kernels import NOT_RENDERED, render

import nnx
from nnx.backends.cupy.cost import cost
from nnx.bench.against import NETWORKS
from nnx.compiler.ir.operations import itemsize


def of(made, m=128, dtype="float32"):
    return cost(render(made, dtype, m)[0])


@pytest.mark.parametrize("m", long_but_for([32, 128, 1024], 32))
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


SMALL = {"weights": 8, "dropout": 9, "noise": 11, "layer norm": 9, "batch norm": 12, "residual": 13}
SMALL |= {"bins": 9, "waves behind": 14, "scaled": 12, "gaussian identity": 8, "several quantiles": 12}
"""Small steps with more kernels than 7. Less is better."""


@pytest.mark.parametrize("name", [name for name in CASES if name not in (*NOT_RENDERED, "everything")])
def test_every_step_has_few_kernels(name):
    found = of(CASES[name])
    assert found.kernels <= SMALL.get(name, 7)
    assert found.ratio < 1.8


def network(*layers):
    """784-512-512-10 with some layers before the activations."""
    hidden = [nnx.Dense(512), *layers, nnx.Activate("relu")]
    return nnx.Network(784, [*hidden, *hidden, nnx.Dense(10)], "softmax")


NOISE = nnx.Network(784, [nnx.GaussianNoise(0.1), *network().layers], "softmax")
WITH = {
    "l2": (network(), nnx.Regularization(l2=1e-3), 9, 1.01),
    "clip_norm": (network(), nnx.Regularization(clip_norm=1.0), 11, 1.26),
    "max_norm": (network(), nnx.Regularization(max_norm=1.0), 16, 1.21),
    "dropout": (network(nnx.Dropout(0.3)), None, 11, 1.01),
    "noise": (NOISE, None, 13, 1.01),
    "layer norm": (network(nnx.LayerNorm()), None, 13, 1.15),
    "batch norm": (network(nnx.BatchNorm()), None, 17, 1.41),
}
"""Steps with the kernels and the bytes over the least ones that they have at most; without these it is 9 and 1.01."""


@pytest.mark.parametrize("name", WITH)
def test_what_layers_and_regularization_cost(name):
    net, regularization, kernels, ratio = WITH[name]
    found = of(case(net, nnx.Adam(), regularization, Y="indices"))
    assert found.kernels <= kernels
    assert 1 <= found.ratio <= ratio
