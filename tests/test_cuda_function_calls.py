"""Functions without a state on CuPy's backend, on a stand-in: predictions, losses, metrics."""

import logging

import numpy as np
import pytest
from cuda_kernels_on_host import needs_compiler
from cupy_on_host import installed

import nnx

pytestmark = needs_compiler

NETWORK = nnx.mlp([6, 9, 4])
THETA = NETWORK.init(0)


@pytest.fixture
def gpu(monkeypatch, caplog):
    """The backend and the module of CuPy. Whatever is called in a test must be rendered."""
    backend, cupy, _ = installed(monkeypatch)
    with caplog.at_level(logging.DEBUG, logger="nnx"):
        yield backend, cupy
    texts = [record.getMessage() for record in caplog.get_records("call")]
    assert [text for text in texts if "single operations" in text] == []


def samples(m, seed=0):
    return np.random.default_rng(seed).standard_normal((m, 6)).astype("float32").T


@pytest.mark.parametrize("layout", ["samples", "features", "every other", "odd address"])
def test_arguments_of_any_layout(gpu, layout):
    backend, _ = gpu
    X, forward = samples(40), backend.compile(NETWORK.forward)
    given = backend.asarray(X)
    if layout == "features":
        given = backend.asarray(np.ascontiguousarray(X))
    elif layout == "every other":
        given = backend.asarray(np.repeat(X, 2, axis=1))[:, ::2]
    elif layout == "odd address":
        memory = backend.asarray(np.zeros(6 * 40 + 1, "float32"))
        given = memory[1:].reshape(40, 6).T
        given[...] = X
    A = forward(backend.asarray(THETA), given)
    np.testing.assert_allclose(A, NETWORK.forward(THETA, X), rtol=1e-5, atol=1e-6)


def test_results_are_new_arrays_and_no_memory_stays_in_use(gpu):
    backend, cupy = gpu
    forward, theta = backend.compile(NETWORK.forward), backend.asarray(THETA)
    X = backend.asarray(samples(1000))
    first = forward(theta, X)
    used, held = cupy.used, np.array(first)
    second = forward(theta, backend.asarray(samples(1000, seed=1)))
    np.testing.assert_array_equal(first, held)
    assert not np.array_equal(first, second)
    del second
    assert cupy.used <= used


def test_other_numbers_of_samples_compile_nothing(gpu):
    backend, cupy = gpu
    forward, theta = backend.compile(NETWORK.forward), backend.asarray(THETA)
    forward(theta, backend.asarray(samples(32)))
    compiled = len(cupy.compiled)
    for m in (5, 32, 70):
        A = forward(theta, backend.asarray(samples(m)))
        np.testing.assert_allclose(A, NETWORK.forward(THETA, samples(m)), rtol=1e-5, atol=1e-6)
    assert len(cupy.compiled) == compiled


@pytest.mark.long
def test_a_function_of_one_sample(gpu):
    """Each sum over samples has one term, and is stored where its unit is."""
    backend, _ = gpu

    def counts(theta, X, y):
        xp = nnx.array_namespace(X)
        units = xp.arange(6, dtype=y.dtype)[:, None]
        return xp.sum(xp.astype(units == y, X.dtype) * X, axis=1), xp.argmax(X, axis=0)

    for m in (1, 2):
        X, y = samples(m), np.arange(m) + 3
        found = backend.compile(counts)(backend.asarray(THETA), backend.asarray(X), backend.asarray(y))
        for ours, expected in zip(found, counts(THETA, X, y), strict=True):
            np.testing.assert_allclose(ours, expected, rtol=1e-6)


def test_a_loss_and_its_gradient(gpu):
    backend, _ = gpu
    X, y = samples(50), np.random.default_rng(0).integers(0, 4, 50)
    program = backend.compile(lambda theta, X, y: NETWORK.loss_and_gradient(theta, X, y))
    J, dtheta = program(backend.asarray(THETA), backend.asarray(X), backend.asarray(y))
    expected, gradient = NETWORK.loss_and_gradient(THETA, X, y)
    np.testing.assert_allclose(J, expected, rtol=1e-6)
    np.testing.assert_allclose(dtheta, gradient, rtol=1e-4, atol=1e-7)
