"""`pytest bench`: the pieces of a training step over m, for pytest-benchmark to save and compare.

One process, NumPy's backend unless NNX_BACKEND says otherwise. See CONTRIBUTING.md.
"""

import os

import numpy as np
import pytest

import nnx
from nnx.bench.case import Case
from nnx.train.step import initial_state, training_step

SIZES = (784, 512, 512, 10)


@pytest.fixture(params=[1, 16, 128, 1024], ids="m={}".format)
def case(request, benchmark):
    """Return a case; what has the same m is compared."""
    benchmark.group = f"m = {request.param}"
    return Case(SIZES, request.param, steps=4)


@pytest.fixture
def backend():
    """Return the backend."""
    return nnx.backend(os.environ.get("NNX_BACKEND", "numpy"))


def on(backend, case):
    """Return the network, theta, and a batch, on the backend."""
    network, data = case.network(), case.data()
    theta = backend.asarray(network.init(0, case.dtype), case.dtype)
    return network, theta, backend.asarray(data.X[: case.m].T), backend.asarray(data.y[: case.m])


def measure(benchmark, backend, function, *arguments):
    """Benchmark a function that the backend has compiled, with the wait for its result; the first call apart."""
    program = backend.compile(function)

    def call():
        found = program(*arguments)
        # One array on the host means that all are computed.
        backend.to_numpy(min(arrays(found), key=lambda x: x.size))
        return found

    call()
    return benchmark(call)


def arrays(found):
    """Return the arrays of a result: an array, a tuple or a dict of them."""
    if isinstance(found, dict):
        return [*found.values()]
    return list(found) if isinstance(found, tuple) else [found]


def test_forward(benchmark, backend, case):
    """A[L] of a batch."""
    network, theta, X, _ = on(backend, case)
    A = measure(benchmark, backend, network.forward, theta, X)
    assert A.shape == (10, case.m)


def test_forward_and_backward(benchmark, backend, case):
    """J and dtheta of a batch; less the forward, the backward."""
    network, theta, X, y = on(backend, case)
    J, dtheta = measure(benchmark, backend, network.loss_and_gradient, theta, X, y)
    assert np.isfinite(float(J))
    assert dtheta.shape == theta.shape


@pytest.mark.parametrize("method", ["gradient_descent", "adam"])
def test_optimizer(benchmark, backend, method):
    """An update of theta alone, which does not depend on m."""
    benchmark.group = "optimizer"
    case = Case(SIZES, 1, method)
    network, optimizer = case.network(), case.make_optimizer()
    theta = backend.asarray(network.init(0, case.dtype), case.dtype)
    state = initial_state(network, optimizer, theta)
    state["t"] = state["t"] + 1
    found = measure(benchmark, backend, optimizer.update, state, theta)
    assert found["theta"].shape == theta.shape


def test_step(benchmark, backend, case):
    """The whole step, in place: forward, backward, Adam."""
    network, theta, X, y = on(backend, case)
    optimizer = case.make_optimizer()
    program = backend.compile(training_step(network, optimizer))
    program.load(initial_state(network, optimizer, theta))

    def step():
        (J, *_) = program.run((X, y, None), None, 0, case.m, 1)
        return float(backend.to_numpy(J))

    step()
    assert np.isfinite(benchmark(step))


@pytest.mark.parametrize("shuffled", [False, True], ids=["in order", "shuffled"])
def test_epoch(benchmark, backend, case, shuffled):
    """`Trainer.fit` over one epoch of four steps, with all that it does before and after."""
    data = case.data()
    trainer = nnx.Trainer(case.network(), case.make_optimizer(), backend=backend)

    def epoch():
        return trainer.fit(data.X.T, data.y, epochs=1, batch_size=case.m, shuffle=shuffled)

    epoch()
    history = benchmark(epoch)
    assert np.isfinite(history["loss"][0])
