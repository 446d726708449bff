"""NumPy's calls shared out among threads: the same numbers as by one, whatever is cut, and failures are everybody's."""

import warnings
from contextlib import nullcontext

import numpy as np
import pytest

import nnx
from nnx.arrays import array_namespace

pytest.importorskip("threadpoolctl", reason="threadpoolctl is not installed: pip install 'nnx-array[numba]'")

from stacks import LAYERS

from nnx.backends import blas, shared, team
from nnx.backends.replay import replay, with_masks
from nnx.host import quiet
from nnx.recording import record
from nnx.step import initial_state, training_step

LAYOUTS = {
    "samples as rows": lambda X: np.ascontiguousarray(X.T).T,
    "features as rows": np.ascontiguousarray,
    "part of more": lambda X: np.concatenate([X, X], axis=1)[:, : X.shape[1]],
    "every other": lambda X: np.repeat(X, 2, axis=1)[:, ::2],
    "backwards": lambda X: np.ascontiguousarray(X[::-1])[::-1],
}


@pytest.fixture(params=[1, 2, 3])
def threads(request, monkeypatch):
    """So many threads, and everything shared out."""
    monkeypatch.setattr(team, "_threads", lambda: (request.param, nullcontext))
    monkeypatch.setattr(shared, "LONG", 1)
    monkeypatch.setattr(shared, "FLOPS", 1)
    monkeypatch.setattr(shared.Shared, "piece", 32)
    return request.param


def numpys(a, b, out, more=False):
    """NumPy's product."""
    out[...] = a @ b + (out if more else 0)


def recorded(net, optimizer, dtype, m=37, layout=np.asarray, weighted=False):
    """Return a step's recording and its arguments."""
    rng = np.random.default_rng(0)
    X = layout(rng.standard_normal((7, m)).astype(dtype))
    y, w = rng.integers(0, 5, m).astype(np.int32), rng.random(m).astype(dtype) if weighted else None
    state = initial_state(net, optimizer, net.init(0, dtype))
    return record(training_step(net, optimizer), state, (X, y, w)), state, (X, y, w)


def check(recording, state, batch, product):
    """See that three steps are those of NumPy's replay."""
    plain, parts = replay(recording), shared.Shared(with_masks(recording), product).function()
    theirs = ours = state
    tolerance = 2e-4 if batch[0].dtype == np.float32 else 1e-9
    for step in range(3):
        (theirs, J), (ours, K) = plain(theirs, batch), parts(ours, batch, over=step > 0)
        assert float(K) == pytest.approx(float(J), rel=tolerance)
        for name, x in theirs.items():
            np.testing.assert_allclose(ours[name], x, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "leaky_relu", "gelu"])
@pytest.mark.parametrize(
    "optimizer", [nnx.Adam(), nnx.GradientDescent(0.1), nnx.Momentum(0.01)], ids=lambda x: type(x).__name__
)
def test_a_step_in_parts_is_the_step(threads, activation, optimizer):
    net = nnx.mlp([7, 33, 37, 37, 5], hidden=activation)  # 37, as there are samples
    check(*recorded(net, optimizer, "float64", weighted=activation == "tanh"), numpys)


@pytest.mark.parametrize("layers", LAYERS)
def test_all_layers_go_in_parts(threads, layers):
    net = nnx.Network(7, LAYERS[layers](), output="softmax")
    check(*recorded(net, nnx.AdamW(0.01), "float64"), numpys)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("m", [1, 16, 20, 33])
def test_threads_may_be_more_than_there_are_samples_for(threads, m, dtype):
    mkl = blas.mkl()
    product = numpys if mkl is None else shared.product(mkl)
    check(*recorded(nnx.mlp([7, 33, 20, 5]), nnx.GradientDescent(0.1), dtype, m), product)


def test_no_thread_reads_what_another_has_written_over(threads):
    def mixed(Z, P):
        xp = array_namespace(Z)
        A = xp.tanh(Z)
        return A - xp.matmul(A, P)  # could be written where A is

    rng = np.random.default_rng(0)
    Z, P = rng.standard_normal((300, 37)), rng.standard_normal((37, 37))
    recording = record(mixed, Z, P)
    for _ in range(5):
        np.testing.assert_allclose(shared.Shared(recording, numpys).function()(Z, P), mixed(Z, P))


@pytest.mark.needs("mkl")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_mkls_product_takes_samples_as_they_lie(threads, layout, dtype):
    mkl = blas.mkl()
    if mkl is None:
        pytest.skip("MKL is not installed: pip install 'nnx-array[mkl]'")
    net = nnx.mlp([7, 33, 20, 5])
    check(*recorded(net, nnx.GradientDescent(0.1), dtype, layout=LAYOUTS[layout]), shared.product(mkl))


def test_what_fails_in_a_thread_is_raised_and_the_next_call_is_well(threads):
    calls = []

    def failing(a, b, out, more=False):
        calls.append(1)
        if len(calls) == 3 * threads:
            raise KeyboardInterrupt
        numpys(a, b, out, more)

    net = nnx.mlp([7, 33, 20, 5])
    recording, state, batch = recorded(net, nnx.GradientDescent(0.1), "float64")
    parts = shared.Shared(with_masks(recording), failing).function()
    with pytest.raises(KeyboardInterrupt):
        parts(state, batch)
    np.testing.assert_allclose(parts(state, batch)[0]["theta"], replay(recording)(state, batch)[0]["theta"])


def test_no_thread_warns_of_what_the_step_may_do(threads):
    net, optimizer = nnx.mlp([7, 33, 20, 5]), nnx.GradientDescent(0.1)
    recording, state, (X, y, w) = recorded(net, optimizer, "float32")
    parts = shared.Shared(with_masks(recording), numpys).function()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, J = quiet()(parts)(state, (X * np.float32(1e38), y, w))
    assert not np.isfinite(J)


def test_training_with_mkl_is_training(monkeypatch):
    if blas.mkl() is None:
        pytest.skip("MKL is not installed: pip install 'nnx-array[mkl]'")
    monkeypatch.setattr(shared, "WORTH", 0.0)
    made = []
    monkeypatch.setattr(shared, "product", lambda mkl, by=shared.product: made.append(mkl) or by(mkl))
    rng = np.random.default_rng(1)
    X, y = rng.standard_normal((300, 1000)).astype(np.float32), rng.integers(0, 5, 1000)
    found = {}
    for wish in ("mkl", "scipy"):
        monkeypatch.setenv("NNX_BLAS", wish)
        trainer = nnx.Trainer(nnx.mlp([300, 200, 5]), optimizer=nnx.Adam(), backend="numpy", seed=3)
        history = trainer.fit(X, y, epochs=3, batch_size=256)
        found[wish] = history["loss"], trainer.predict(X)
    assert made or team.threads() == 1
    np.testing.assert_allclose(found["mkl"][0], found["scipy"][0], rtol=1e-4)
    np.testing.assert_allclose(found["mkl"][1], found["scipy"][1], atol=1e-3)
