"""The layers that embed numbers: against rtdl_num_embeddings, their bins, and bad input."""

import json
import pickle
from functools import partial

import numpy as np
import pytest

import nnx
from nnx.model.layers import Context


@pytest.fixture
def X(rng):
    """Samples as columns: four of numbers, one of 0 and 1, one with few values."""
    X = rng.standard_normal((6, 60))
    X[2], X[4] = X[2] > 0, np.round(X[4])
    return X


def torch_of(x):
    import torch

    return torch.from_numpy(np.array(x))


def gradients(module, x, dA):
    """The output of a module of PyTorch for rows x, and the derivatives of sum(output * dA) by x and its parameters."""
    x = torch_of(x).requires_grad_(True)
    A = module(x)
    (A.flatten(1) * torch_of(dA)).sum().backward()
    grads = {name: p.grad.numpy() for name, p in module.named_parameters()}
    return A.detach().flatten(1).numpy(), x.grad.numpy(), grads


@pytest.mark.needs("torch")
@pytest.mark.needs("rtdl_num_embeddings")
@pytest.mark.parametrize("activation", ["relu", "identity"])
def test_bins_are_those_of_the_papers_package(X, rng, activation, monkeypatch):
    import rtdl_num_embeddings as rtdl

    n, m, bins, d = 4, X.shape[1], 5, 3
    X = X[[0, 1, 3, 4]]
    layer = nnx.PiecewiseLinear.from_data(X, bins, width=d, activation=activation)
    edges = rtdl.compute_bins(torch_of(X.T), bins)
    assert [len(one) for one in layer.edges] == [len(one) for one in edges]
    for ours, theirs in zip(layer.edges, edges, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-6, atol=1e-7)  # its shares are in float32
    edges = [torch_of(one) for one in layer.edges]
    import torch

    monkeypatch.setattr(torch, "zeros", partial(torch.zeros, dtype=torch.float64))  # of its edges
    theirs = rtdl.PiecewiseLinearEmbeddings(edges, d, activation=activation == "relu", version="A").double()
    x = 1.5 * rng.standard_normal((n, m))  # beyond the edges, too
    params, dA = layer.draw(rng, n), rng.standard_normal((n * d, m))
    V = params["V"].reshape(n, d, bins)
    with np.errstate(all="ignore"):
        for f, one in enumerate(layer.edges):  # their last bin is the last number, whatever is between
            b, own = len(one) - 1, theirs.linear.weight.data[f]
            own[:] = 0
            own[: b - 1] = torch_of(V[f, :, : b - 1].T)
            own[-1] = torch_of(V[f, :, b - 1])
    theirs.linear.bias.data[:] = torch_of(params["b"].reshape(n, d))
    A, dx, grads = gradients(theirs, x.T, dA.T)
    found, kept = layer.forward(params, x, Context())
    np.testing.assert_allclose(found, A.T, rtol=1e-12, atol=1e-12)
    dX, found = layer.backward(params, kept, dA, True)
    np.testing.assert_allclose(dX, dx.T, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(found["b"].reshape(n, d), grads["linear.bias"], rtol=1e-12, atol=1e-12)
    dV = found["V"].reshape(n, d, bins)
    for f, one in enumerate(layer.edges):
        b = len(one) - 1
        expected = grads["linear.weight"][f].T
        np.testing.assert_allclose(dV[f, :, : b - 1], expected[:, : b - 1], rtol=1e-11, atol=1e-11)
        np.testing.assert_allclose(dV[f, :, b - 1], expected[:, -1], rtol=1e-11, atol=1e-11)


@pytest.mark.needs("torch")
@pytest.mark.needs("rtdl_num_embeddings")
@pytest.mark.parametrize(("activation", "lite"), [("relu", False), ("identity", False), ("relu", True)])
def test_waves_are_those_of_the_papers_package(X, rng, activation, lite):
    import rtdl_num_embeddings as rtdl

    n, k, d = 6, 4, 3
    options = {
        "n_frequencies": k,
        "frequency_init_scale": 0.5,
        "lite": lite,
        "activation": activation == "relu",
    }
    theirs = rtdl.PeriodicEmbeddings(n, d, **options).double()
    layer = nnx.Periodic(k, d, activation=activation, lite=lite)
    W = theirs.linear.weight.detach().numpy()
    W = W if lite else W.transpose(0, 2, 1).reshape(n * d, 2 * k)
    params = {"c": theirs.periodic.weight.detach().numpy().reshape(-1, 1), "V": W[:, :k], "U": W[:, k:]}
    params["b"] = theirs.linear.bias.detach().numpy().reshape(-1, 1)
    assert {name: p.shape for name, p in params.items()} == layer.shapes(n)
    dA = rng.standard_normal((n * d, X.shape[1]))
    A, dx, grads = gradients(theirs, X.T, dA.T)
    found, kept = layer.forward(params, X, Context())
    np.testing.assert_allclose(found, A.T, rtol=1e-12, atol=1e-12)
    dX, found = layer.backward(params, kept, dA, True)
    np.testing.assert_allclose(dX, dx.T, rtol=1e-11, atol=1e-11)
    dW = grads["linear.weight"]
    dW = dW if lite else dW.transpose(0, 2, 1).reshape(n * d, 2 * k)
    np.testing.assert_allclose(np.hstack([found["V"], found["U"]]), dW, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(found["b"].ravel(), grads["linear.bias"].ravel(), rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(found["c"].ravel(), grads["periodic.weight"].ravel(), rtol=1e-11, atol=1e-11)


def test_edges_are_the_quantiles(X):
    layer = nnx.PiecewiseLinear.from_data(X.T, 7, rows=True)
    assert layer.columns == (0, 1, 3, 4, 5)  # not the one of 0 and 1
    for c, edges in zip(layer.columns, layer.edges, strict=True):
        expected = np.unique(np.quantile(X[c], np.linspace(0, 1, 8)))
        np.testing.assert_allclose(edges, expected, rtol=1e-13)


def test_edges_that_are_one_in_the_dtype():
    X = 1.7e9 + np.arange(120.0)[None]  # 128 is float32's step there
    edges = nnx.PiecewiseLinear(4).fitted(X, dtype="float32").edges
    assert edges == ((1.7e9, 1.7e9 + 89.25),)
    assert len(nnx.PiecewiseLinear.from_data(X, 4).edges[0]) == 5
    X = np.array([[0.0, 1e-45, 0.5, 1.0, 1.0]], "float32")
    assert nnx.PiecewiseLinear.from_data(X, 4).edges == ((0.0, 0.5, 1.0),)


@pytest.mark.long
def test_columns_that_are_not_embedded_pass(X, rng, backend):
    layer = nnx.PiecewiseLinear.from_data(X, 4, width=None, columns=[1, 3])
    params = {name: backend.asarray(p, "float64") for name, p in layer.draw(rng, 6).items()}
    A = backend.to_numpy(layer.forward(params, backend.asarray(X, "float64"), Context())[0])
    assert A.shape == (2 * 4 + 4, 60)
    np.testing.assert_array_equal(A[8:], X[[0, 2, 4, 5]])
    for f, c in enumerate((1, 3)):  # the papers' formula
        edges = np.array(layer.edges[f])
        e = (X[c] - edges[:-1, None]) / np.diff(edges)[:, None]
        e[1:] = np.maximum(e[1:], 0)
        e[:-1] = np.minimum(e[:-1], 1)
        np.testing.assert_allclose(A[4 * f : 4 * f + 4], e, rtol=1e-12, atol=1e-14)


def test_the_bins_stay_as_they_are_and_are_saved(X, rng, tmp_path):
    layer = nnx.PiecewiseLinear.from_data(X, 4, width=3)
    net = nnx.Network(6, [layer, nnx.Dense(1)], output="identity")
    assert net.fixed == ("left0", "inverse0", "low0", "high0")
    assert net.decayed == ("V0", "W1")
    trainer = nnx.Trainer(net, nnx.AdamW(0.05, weight_decay=0.1), backend="numpy", dtype="float64")
    before = trainer.parameters
    average = nnx.MovingAverage(0.9)
    trainer.fit(X, np.sin(3 * X[0]), epochs=30, batch_size=20, callbacks=average)
    for name in net.fixed:
        np.testing.assert_array_equal(trainer.parameters[name], before[name])
        np.testing.assert_allclose(average.theta[net.places[name]], before[name][:, 0], rtol=1e-12)
    assert trainer.history["loss"][-1] < 0.5 * trainer.history["loss"][0]
    trainer.save(tmp_path / "model.safetensors")
    again = nnx.Trainer.load(tmp_path / "model.safetensors", backend="numpy")
    np.testing.assert_array_equal(again.predict(X), trainer.predict(X))
    assert again.network.layers[0].edges == layer.edges
    for other in (
        pickle.loads(pickle.dumps(net)),
        nnx.Network.from_description(json.loads(json.dumps(net.describe()))),
    ):
        np.testing.assert_array_equal(other.init(3), net.init(3))


def test_members_train_as_alone(X):
    Y = np.sin(3 * X[0])
    net = nnx.Network(6, [nnx.Periodic(3, 4), nnx.Dense(1)], output="identity")
    together = nnx.Trainer(net, nnx.Adam(0.01), backend="numpy", dtype="float64", seed=[3, 4], members=2)
    together.fit(X, Y, epochs=4, batch_size=15)
    for k, seed in enumerate((3, 4)):
        alone = nnx.Trainer(net, nnx.Adam(0.01), backend="numpy", dtype="float64", seed=seed)
        alone.fit(X, Y, epochs=4, batch_size=15)
        np.testing.assert_allclose(together.theta[k], alone.theta, rtol=1e-9, atol=1e-12)


def test_lbfgs_trains_it_and_max_norm_leaves_the_bins(X):
    layer = nnx.PiecewiseLinear.from_data(X, 4)
    net = nnx.Network(6, [layer, nnx.Dense(1)], output="identity")
    own = nnx.Regularization(l2=0.01)
    trainer = nnx.Trainer(net, nnx.LBFGS(), backend="numpy", dtype="float64", regularization=own)
    before = trainer.parameters
    trainer.fit(X, np.sin(3 * X[0]), epochs=10)
    assert trainer.history["loss"][-1] < trainer.history["loss"][0]
    np.testing.assert_array_equal(trainer.parameters["left0"], before["left0"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nnx.PiecewiseLinear(1), "bins must be .* not 1"),
        (lambda: nnx.PiecewiseLinear(4, 0), "width"),
        (lambda: nnx.PiecewiseLinear(activation="rely"), "relu"),
        (lambda: nnx.PiecewiseLinear(columns=[2, 1]), "columns must be ascending"),
        (lambda: nnx.PiecewiseLinear(columns=[]), "columns must be ascending"),
        (lambda: nnx.PiecewiseLinear(2, edges=[[0.0, 1.0, 1.0]]), "edges must be 1 to 3 ascending numbers"),
        (lambda: nnx.PiecewiseLinear(2, edges=[[0.0, 1.0, 2.0, 3.0]]), "edges must be 1 to 3"),
        (lambda: nnx.PiecewiseLinear(2, edges=[[0.0, np.nan]]), "a finite number"),
        (lambda: nnx.PiecewiseLinear(2, edges=[[0.0, 1.0]], columns=[0, 1]), "edges are of 1 columns"),
        (lambda: nnx.PiecewiseLinear.from_data([[0.0, np.nan, 1.0]]), "X has NaN or infinity"),
        (lambda: nnx.PiecewiseLinear.from_data([[0.0, np.inf, 1.0]]), "X has NaN or infinity"),
        (lambda: nnx.PiecewiseLinear.from_data(np.zeros(3)), r"X has shape \(3,\); expected \(n, m\)"),
        (lambda: nnx.PiecewiseLinear.from_data(np.zeros((2, 3))), "more than two distinct values"),
        (lambda: nnx.PiecewiseLinear.from_data(np.eye(3), columns=[5]), "embeds column 5, .* 3 columns"),
        (lambda: nnx.Network(2, [nnx.PiecewiseLinear(4), nnx.Dense(1)], "identity").init(), "from_data"),
        (lambda: nnx.Network(2, [nnx.Periodic(columns=[2]), nnx.Dense(1)], "identity"), "2 columns"),
        (lambda: nnx.Periodic(sigma=0), "sigma"),
        (lambda: nnx.Periodic(frequencies=0), "frequencies"),
        (lambda: nnx.Periodic(lite="no"), "lite"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(nnx.InputError, match=message):
        make()


def test_bins_cannot_decay(X):
    net = nnx.Network(6, [nnx.PiecewiseLinear.from_data(X, 4), nnx.Dense(1)], output="identity")
    with pytest.raises(nnx.InputError, match="left0 is not learned"):
        nnx.Trainer(net, regularization=nnx.Regularization(l2=0.1, decayed=("left0",)), backend="numpy")
