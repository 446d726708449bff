"""Derivatives with respect to X: on every backend, against central differences and PyTorch; of members; integrated."""

import numpy as np
import pytest
from test_layers import BLOCKS, drawn, given, network

import nnx


def change(function, X, h=1e-6):
    """The central differences of each sample's number, (m,), by each of its features: (n, m)."""
    steps = h * np.eye(len(X))[:, :, None]
    return np.array([(function(X + step) - function(X - step)) / (2 * h) for step in steps])


def each_loss(net, theta, X, Y):
    """The loss of each sample: J of samples one by one."""
    return np.array([net.forward_and_loss(theta, X[:, [i]], Y[:, [i]])[1] for i in range(X.shape[1])])


@pytest.mark.parametrize("block", BLOCKS)
def test_the_gradient_is_that_of_central_differences(block, rng):
    net, k = network(block, before=False), np.array([0, 2, 1, 2])
    theta, X, Y = drawn(rng, net), rng.standard_normal((4, 4)), rng.dirichlet(np.ones(3), 4).T
    found = net.input_gradient(theta, X, output=k)
    np.testing.assert_allclose(found, change(lambda x: net.forward(theta, x)[k, range(4)], X), atol=1e-8)
    found = net.input_gradient(theta, X, Y)
    np.testing.assert_allclose(found, change(lambda x: each_loss(net, theta, x, Y), X), atol=1e-8)


@pytest.mark.parametrize(("output", "loss"), [(name, None) for name in nnx.OUTPUTS] + [("identity", "huber")])
def test_it_is_the_gradient_of_every_output_before_and_behind_the_link(output, loss, rng):
    net = nnx.mlp([3, 4, 2], output=output, loss=loss)
    theta, X, Y = drawn(rng, net), rng.standard_normal((3, 5)), np.eye(2)[:, [0, 1, 0, 0, 1]]
    logits = nnx.Network(3, net.layers, "identity")
    for k in (0, 1):
        expected = change(lambda x, k=k: net.forward(theta, x)[k], X)
        np.testing.assert_allclose(net.input_gradient(theta, X, output=k), expected, atol=1e-8)
        expected = change(lambda x, k=k: logits.forward(theta, x)[k], X)
        np.testing.assert_allclose(net.input_gradient(theta, X, output=k, of="Z"), expected, atol=1e-8)
    expected = change(lambda x: each_loss(net, theta, x, Y), X)
    np.testing.assert_allclose(net.input_gradient(theta, X, Y), expected, atol=1e-8)


EVERY = [layer for block in BLOCKS.values() for layer in (*block, nnx.Dense(4, "tanh"))]
DEEP = nnx.Network(4, [*EVERY, nnx.Dense(3)], "softmax")


def test_rows_of_a_loss_with_two_outputs_for_each_target(rng):
    trainer = nnx.Trainer(
        nnx.mlp([3, 4, 2], output="identity", loss="gaussian"), backend="numpy", dtype="float64"
    )
    X, y = rng.standard_normal((3, 5)), rng.standard_normal(5)
    expected = change(lambda x: each_loss(trainer.network, trainer.theta, x, y[None]), X)
    np.testing.assert_allclose(trainer.input_gradient(X.T, y, rows=True).T, expected, atol=1e-8)
    np.testing.assert_allclose(trainer.input_gradient(X, y), expected, atol=1e-8)


SMALL = nnx.Network(4, [nnx.Dense(4, "tanh"), nnx.BatchNorm(), nnx.Dense(3)], "softmax")


@pytest.mark.parametrize("net", [SMALL, pytest.param(DEEP, marks=pytest.mark.long)], ids=["small", "deep"])
def test_every_backend_has_numpys_gradients(backend, net, rng):
    def both(theta, X, k):
        return net.input_gradient(theta, X, output=k), net.input_gradient(theta, X, k)

    theta, X, k = drawn(rng, net, (2,)), rng.standard_normal((4, 7)), rng.integers(0, 3, 7).astype("int32")
    found = backend.compile(both)(*given(backend, theta, X, k))
    for mine, expected in zip(found, both(theta, X, k), strict=True):
        np.testing.assert_allclose(backend.to_numpy(mine), expected, rtol=1e-9, atol=1e-12)
    for alone, expected in zip(both(theta[0], X, k), both(theta, X, k), strict=True):
        np.testing.assert_allclose(alone, expected[0], rtol=1e-9, atol=1e-12)


@pytest.mark.long
def test_a_trainer_of_every_backend_computes_in_batches(backend, rng):
    batches_of_columns_and_of_rows(rng, backend)


def test_a_trainer_computes_in_batches_of_columns_and_of_rows(rng):
    batches_of_columns_and_of_rows(rng, "numpy")


def batches_of_columns_and_of_rows(rng, backend):
    trainer = nnx.Trainer(nnx.mlp([4, 5, 3], output="softmax"), backend=backend, dtype="float64")
    net, theta, X = trainer.network, trainer.theta, rng.standard_normal((4, 5))
    k = trainer.classify(X)
    expected = net.input_gradient(theta, X, output=k)
    for found in (
        trainer.input_gradient(X, batch_size=2, output=k),
        trainer.input_gradient(X.T, output=list(k), rows=True).T,
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-14)
    one = trainer.input_gradient(X[:, 1], output=2, of="Z")
    np.testing.assert_allclose(one, net.input_gradient(theta, X[:, 1:2], output=2, of="Z")[:, 0], rtol=1e-9)
    expected = net.input_gradient(theta, X, k)
    for found in (
        trainer.input_gradient(X, k, batch_size=3),
        trainer.input_gradient(X.T, k, rows=True).T,
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-14)


@pytest.mark.needs("torch")
def test_the_gradients_are_those_of_pytorchs_autograd(rng):
    torch = pytest.importorskip("torch")
    trainer = nnx.Trainer(
        nnx.mlp([4, 6, 5, 3], hidden="gelu", output="softmax"), backend="numpy", dtype="float64"
    )
    module = nnx.convert.to_torch(trainer.network, trainer.parameters, "float64", link=False).eval()
    X, y = rng.standard_normal((7, 4)), rng.integers(0, 3, 7)
    samples = torch.tensor(X, requires_grad=True)
    logits = module(samples)
    for of, values in (("Z", logits), ("A", torch.softmax(logits, 1))):
        (expected,) = torch.autograd.grad(values[:, 1].sum(), samples, retain_graph=True)
        np.testing.assert_allclose(
            trainer.input_gradient(X, output=1, of=of, rows=True), expected, rtol=1e-9, atol=1e-14
        )
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(y), reduction="sum")
    (expected,) = torch.autograd.grad(loss, samples)
    np.testing.assert_allclose(trainer.input_gradient(X, y, rows=True), expected, rtol=1e-9, atol=1e-14)


def test_members_have_gradients_of_their_own_and_the_ensemble_has_that_of_its_mean(rng):
    net = nnx.mlp([3, 4, 2], output="softmax")
    trainer = nnx.Trainer(net, backend="numpy", dtype="float64", members=3)
    X, Y = rng.standard_normal((3, 40)), rng.integers(0, 2, 40)
    found = trainer.input_gradient(X, output=1)
    assert found.shape == (3, 3, 40)
    for k in range(3):
        np.testing.assert_allclose(found[k], trainer.member(k).input_gradient(X, output=1), rtol=1e-9)
    losses = trainer.input_gradient(X, Y)
    np.testing.assert_allclose(losses[2], trainer.member(2).input_gradient(X, Y), rtol=1e-9)

    def mean(x):
        return trainer.ensemble.predict(x)[1]

    np.testing.assert_allclose(trainer.ensemble.input_gradient(X, output=1), change(mean, X), atol=1e-8)
    assert len(set(trainer.ensemble.select(X, Y, rounds=2))) > 1
    np.testing.assert_allclose(trainer.ensemble.input_gradient(X, output=1), change(mean, X), atol=1e-8)
    trainer.ensemble.weights = [0, 1, 0]
    np.testing.assert_allclose(trainer.ensemble.input_gradient(X, output=1), found[1], rtol=1e-12)


def test_integrated_gradients_add_up_to_the_difference_of_the_outputs(rng):
    trainer = nnx.Trainer(
        nnx.mlp([4, 8, 1], hidden="tanh", output="identity"), backend="numpy", dtype="float64"
    )
    start, x = rng.standard_normal((2, 4))
    nodes, weights = np.polynomial.legendre.leggauss(24)
    path = start[:, None] + (x - start)[:, None] * (nodes + 1) / 2
    parts = (x - start) * (trainer.input_gradient(path) @ weights) / 2
    np.testing.assert_allclose(parts.sum(), trainer.predict(x) - trainer.predict(start), atol=1e-9)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "the network has 3 outputs; give output=k, from 0 to 2, or Y"),
        ({"output": 3}, "output is 3; expected the number of an output, 0 to 2"),
        ({"output": -1}, "output is -1; expected"),
        ({"output": True}, "output is True; expected"),
        ({"output": "a"}, "output is 'a'; expected"),
        ({"output": [0, 1]}, "output has shape (2,); expected a number, or 5 of them"),
        ({"output": [0, 1, 2, 3, 0]}, "from 0 to 2"),
        ({"output": 1, "of": "B"}, "unknown of, what is differentiated, 'B'. Known: A, Z"),
        ({"output": 1, "Y": [0, 1, 2, 0, 1]}, "give Y for the derivative of the loss, or output"),
        ({"Y": [0, 1, 2, 0, 7]}, "7"),
    ],
)
def test_a_wrong_argument_is_said(arguments, said):
    trainer = nnx.Trainer(nnx.mlp([4, 3], output="softmax"), backend="numpy")
    with pytest.raises(nnx.InputError) as error:
        trainer.input_gradient(np.ones((4, 5)), **arguments)
    assert said in str(error.value)


def test_a_network_names_a_wrong_output():
    net = nnx.mlp([4, 3], output="softmax")
    theta, X = net.init(), np.ones((4, 5), "float32")
    for output, said in (
        (np.ones(5), "expected integers (5,)"),
        ([0, 1], "or an array (5,) of them"),
        (np.array([0, 5, 0, -1, 1]), "output holds 5; expected numbers of outputs, 0 to 2"),
        (np.array([0, 2, 0, -1, 1]), "output holds -1"),
    ):
        with pytest.raises(nnx.InputError) as error:
            net.input_gradient(theta, X, output=output)
        assert said in str(error.value)
    weights = np.full((3, 5), 0.5, "float32")
    whole = sum(net.input_gradient(theta, X, output=k) for k in range(3))
    np.testing.assert_allclose(net.input_gradient(theta, X, output=weights), whole / 2, atol=1e-7)


# --- estimators ------------------------------------------------------------------------------------------------------


@pytest.mark.needs("sklearn")
@pytest.mark.parametrize(
    "more", [{}, {"n_members": 3, "selection": "greedy", "early_stopping": True}], ids=["one", "members"]
)
@pytest.mark.parametrize("classes", [0, 2, 3])
def test_an_estimators_gradient_is_that_of_its_predictions(classes, more, rng):
    from scipy import sparse

    from nnx.sklearn import MLPClassifier, MLPRegressor

    X = rng.standard_normal((60, 4))
    kind, y = (MLPClassifier, np.arange(60) % classes) if classes else (MLPRegressor, X @ np.ones(4))
    with pytest.warns(Warning, match="converge"):
        made = kind(
            hidden_layer_sizes=(5,), activation="tanh", max_iter=2, backend="numpy", random_state=0, **more
        ).fit(X, y)
    predict = made.predict_proba if classes else lambda x: made.predict(x).reshape(-1, 1)
    for k in range(max(classes, 1)):
        expected = change(lambda x, k=k: predict(x.T)[:, k], X[:5].T).T
        np.testing.assert_allclose(made.input_gradient(X[:5], k), expected, atol=1e-8)
        np.testing.assert_allclose(made.input_gradient(sparse.csr_matrix(X[:5]), k), expected, atol=1e-8)
    if classes < 3:
        np.testing.assert_array_equal(
            made.input_gradient(X[:5]), made.input_gradient(X[:5], classes - 1 if classes else 0)
        )
    if classes:
        every = [made.input_gradient(X[:5], k) for k in range(classes)]
        each = made.predict_proba(X[:5]).argmax(axis=1)
        np.testing.assert_array_equal(
            made.input_gradient(X[:5], each), [every[k][i] for i, k in enumerate(each)]
        )
    with pytest.raises(nnx.InputError, match=f"output is {max(classes, 1)}"):
        made.input_gradient(X[:5], max(classes, 1))
    for label in ("a", ["a"] * 5, np.array(["a"] * 5)):
        with pytest.raises(nnx.InputError, match=r"output is .*the number of a class in classes_"):
            made.input_gradient(X[:5], label)


@pytest.mark.needs("sklearn")
def test_the_gradient_of_a_gaussian_is_that_of_the_mean(rng):
    from nnx.sklearn import MLPRegressor

    X = rng.standard_normal((60, 3))
    with pytest.warns(Warning, match="converge"):
        made = MLPRegressor("gaussian", max_iter=2, backend="numpy", random_state=0).fit(X, X @ np.ones(3))
    expected = change(lambda x: made.predict(x.T), X[:5].T).T
    np.testing.assert_allclose(made.input_gradient(X[:5]), expected, atol=1e-8)


@pytest.mark.needs("sklearn")
@pytest.mark.parametrize("n_members", [None, pytest.param(2, marks=pytest.mark.long)])
def test_quantiles_that_cross_have_the_gradient_of_the_sorted_ones(n_members, rng):
    from nnx.sklearn import MLPRegressor

    X = rng.standard_normal((40, 3))
    made = MLPRegressor(
        "quantile(0.1,0.5,0.9)",
        hidden_layer_sizes=(5,),
        activation="tanh",
        max_iter=1,
        backend="numpy",
        random_state=0,
        n_members=n_members,
    )
    with pytest.warns(Warning, match="converge"):
        made.fit(X, X[:, :2])
    one = made if n_members is None else made.members_[0]
    raw = one._rows(X[:9])[0].T.reshape(9, 3, 2)
    assert (raw.argsort(axis=1) != np.arange(3)[:, None]).any()  # they do cross
    for q, t in np.ndindex(3, 2):
        expected = change(lambda x, t=t, q=q: made.predict(x.T)[:, t, q], X[:9].T).T
        np.testing.assert_allclose(made.input_gradient(X[:9], 2 * q + t), expected, atol=1e-8)
    each = made.input_gradient(X[:9], np.arange(9) % 6)
    np.testing.assert_array_equal(each, [made.input_gradient(X[:9], i % 6)[i] for i in range(9)])
    with pytest.raises(nnx.InputError, match="output is 6; expected the number of an output, 0 to 5"):
        made.input_gradient(X[:9], 6)
