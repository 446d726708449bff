"""The layers beside Dense, on every backend: derivatives, what training and inference are, random numbers."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
from conftest import differences

import nnx
from nnx.array.random import bits, fold, normal
from nnx.model.layers import Context

KEY = np.array([12345, -678], "int32")

BLOCKS = {
    "prelu": [nnx.PReLU()],
    "dropout": [nnx.Dropout(0.4)],
    "noise": [nnx.GaussianNoise(0.3)],
    "activate": [nnx.Activate("silu")],
    "layer norm": [nnx.LayerNorm()],
    "batch norm": [nnx.BatchNorm()],
    "feature scale": [nnx.FeatureScale(6.0)],
    "ntk dense": [nnx.NTKDense(6, "selu", bias_rate=0.1), nnx.NTKDense(4, "mish")],
    "bins": [nnx.PiecewiseLinear(3, 2, columns=[0, 2], edges=[[-0.5, 0.1, 0.2, 0.4], [-0.1, 0.3]])],
    "encoding": [nnx.PiecewiseLinear(2, None, edges=[[-0.5, 0.1, 0.4], [-0.1, 0.3], [0.2], [-9.0, 9.0]])],
    "periodic": [nnx.Periodic(2, 3, sigma=0.5, columns=[0, 1, 3])],
    "periodic lite": [nnx.Periodic(2, 3, sigma=0.5, lite=True)],
    "residual": [nnx.Residual([nnx.Dense(6, "tanh"), nnx.Dropout(0.2), nnx.Dense(4)])],
    "nested": [
        nnx.Residual(
            [
                nnx.BatchNorm(),
                nnx.Residual([nnx.LayerNorm(), nnx.Dense(4, "tanh")]),
                nnx.PReLU(),
                nnx.Dense(4),
            ]
        )
    ],
}


def network(block, before=True):
    layers = [nnx.Dense(4, "tanh")] if before else []
    return nnx.Network(4, [*layers, *BLOCKS[block], nnx.Dense(3)], output="softmax")


def drawn(rng, net, lead=()):
    """Parameters away from their special first values."""
    first = net.init(0, "float64")
    theta = first + 0.3 * rng.standard_normal((*lead, net.P))
    for name in net.fixed:
        theta[..., net.places[name]] = first[net.places[name]]
    for name in net.statistics:
        theta[..., net.places[name]] = (
            rng.random((*lead, net.places[name].stop - net.places[name].start)) + 0.5
        )
    return theta


def given(backend, *arrays):
    return [backend.asarray(a, "float64" if a.dtype.kind == "f" else "int32") for a in arrays]


@pytest.mark.parametrize(
    "before", [True, pytest.param(False, marks=pytest.mark.long)], ids=["inside", "first"]
)
@pytest.mark.parametrize("block", BLOCKS)
def test_gradient_is_that_of_central_differences(backend, block, before, rng):
    net = network(block, before)
    theta, X, Y = drawn(rng, net), rng.standard_normal((4, 7)), rng.integers(0, 3, 7)
    found = net.loss_and_gradient(*given(backend, theta, X, Y), key=backend.asarray(KEY))[1]
    expected = differences(lambda t: net.loss_and_gradient(t, X, Y, key=KEY)[0], theta)
    for name in net.fixed:
        expected[net.places[name]] = 0
    np.testing.assert_allclose(backend.to_numpy(found), expected, rtol=1e-6, atol=1e-8)
    for name in net.statistics + net.fixed:
        assert not backend.to_numpy(found)[net.places[name]].any()


@pytest.mark.parametrize("block", BLOCKS)
def test_a_stack_gives_what_single_calls_give(backend, block, rng):
    net = network(block)
    theta, X, Y = drawn(rng, net, (2,)), rng.standard_normal((4, 7)), rng.integers(0, 3, 7)
    key = backend.asarray(KEY)
    J, dtheta = net.loss_and_gradient(*given(backend, theta, X, Y), key=key)
    A = net.forward(*given(backend, theta, X))
    for k in range(2):
        Jk, dthetak = net.loss_and_gradient(*given(backend, theta[k], X, Y), key=key)
        np.testing.assert_allclose(backend.to_numpy(J)[k], backend.to_numpy(Jk), rtol=1e-12)
        np.testing.assert_allclose(
            backend.to_numpy(dtheta)[k], backend.to_numpy(dthetak), rtol=1e-10, atol=1e-13
        )
        Ak = net.forward(*given(backend, theta[k], X))
        np.testing.assert_allclose(backend.to_numpy(A)[k], backend.to_numpy(Ak), rtol=1e-12)


EMBEDDINGS = "bins", "encoding", "periodic", "periodic lite"


@pytest.mark.parametrize(
    "block", [pytest.param(b, marks=pytest.mark.long) if b in EMBEDDINGS else b for b in BLOCKS]
)
def test_training_is_the_same_on_every_backend_and_cut_in_pieces(backend, block, rng):
    X, Y = rng.standard_normal((4, 30)), rng.integers(0, 3, 30)

    def train(where, **options):
        trainer = nnx.Trainer(network(block), nnx.Adam(0.01), backend=where, dtype="float64", seed=3)
        history = trainer.fit(X, Y, epochs=3, batch_size=13, **options)
        return trainer.theta, history["loss"]

    expected = train("numpy")
    found = train(backend)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-10)
    if network(block).whole_batches:
        with pytest.raises(nnx.InputError, match=r"micro_batch cannot be used with BatchNorm.*LayerNorm"):
            train(backend, micro_batch=5)
    else:
        found = train(backend, micro_batch=5)  # the masks, too, are those of the whole batch
        np.testing.assert_allclose(found[0], expected[0], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("block", ["dropout", "noise", "nested", "prelu"])
def test_no_layer_reads_on_the_host(backend, block):
    from unreadable_arrays import wrap

    from nnx.train.step import initial_state, training_step

    net = network(block)
    optimizer = nnx.Adam()
    state = initial_state(net, optimizer, backend.asarray(net.init(), "float32"))
    batch = backend.asarray(np.ones((4, 5)), "float32"), backend.asarray(np.zeros(5), "int32")
    training_step(net, optimizer)(wrap(state, backend.xp), wrap(batch, backend.xp))


def test_random_numbers_are_the_same_everywhere(backend):
    key = fold(fold(backend.asarray(KEY), 7), backend.asarray(3, "int32"))
    expected = fold(fold(KEY, 7), np.asarray(3, "int32"))
    np.testing.assert_array_equal(backend.to_numpy(key), expected)
    np.testing.assert_array_equal(backend.to_numpy(bits(key, 5, 8)), bits(expected, 5, 8))
    part = bits(key, 5, 3, backend.asarray(4, "int32"))
    np.testing.assert_array_equal(backend.to_numpy(part), bits(expected, 5, 8)[:, 4:7])


def test_random_numbers_look_random():
    """Uniform in every bit, and without correlation between neighbours, steps, layers and seeds."""
    numbers = np.array(
        [
            bits(fold(fold(np.array(nnx.array.host.key(seed), "int32"), np.asarray(t, "int32")), l), 64, 64)
            for seed in range(5)
            for t in range(10)
            for l in range(4)
        ]
    )
    count = numbers.size
    for bit in range(32):
        assert abs(((numbers >> bit) & 1).mean() - 0.5) < 5 * 0.5 / count**0.5
    u = numbers / 2.0**31
    for a, b in ((u[:, 1:], u[:, :-1]), (u[..., 1:], u[..., :-1]), (u[1:], u[:-1]), (u[4:], u[:-4])):
        assert abs((a * b).mean()) * 3 < 5 / a.size**0.5  # the variance of a uniform number is 1/3
    z = normal(KEY, 400, 500, 0, np.zeros(1))
    assert abs(z.mean()) < 5 / z.size**0.5
    assert z.std() == pytest.approx(1, abs=0.01)
    assert (abs(z) < 1).mean() == pytest.approx(0.6827, abs=0.005)


def test_dropout_drops_its_share_and_scales_the_rest(backend):
    A = backend.asarray(np.ones((100, 200)), "float64")
    layer = nnx.Dropout(0.3)
    out, kept = layer.forward({}, A, Context(training=True, key=backend.asarray(KEY)))
    out = backend.to_numpy(out)
    assert set(np.unique(out)) == {0.0, 1 / 0.7}
    assert (out == 0).mean() == pytest.approx(0.3, abs=0.02)
    dA, _ = layer.backward({}, kept, A, True)
    np.testing.assert_array_equal(backend.to_numpy(dA), out)  # where a was dropped, so is its derivative
    for context in (Context(), Context(training=True)):
        assert layer.forward({}, A, context)[0] is A
    assert nnx.Dropout(0.0).forward({}, A, Context(training=True, key=backend.asarray(KEY)))[0] is A


def test_masks_change_from_step_to_step_and_layer_to_layer():
    layer, A = nnx.Dropout(0.5), np.ones((50, 50))
    masks = [
        layer.forward({}, A, Context(True, fold(KEY, np.asarray(t, "int32"))).of(l))[1]
        for t in range(3)
        for l in range(3)
    ]
    for i, a in enumerate(masks):
        for b in masks[i + 1 :]:
            assert (a == b).mean() == pytest.approx(0.5, abs=0.05)


def test_batch_norm_is_exact_at_inference(backend, rng):
    """The running statistics, made by hand; a sample's output does not depend on the others."""
    net = nnx.Network(3, [nnx.BatchNorm(momentum=0.25), nnx.Dense(2)], output="identity")
    X, Y = 5 + 2 * rng.standard_normal((3, 20)), rng.standard_normal((2, 20))
    trainer = nnx.Trainer(net, nnx.GradientDescent(1e-30), backend=backend, dtype="float64")
    trainer.fit(X, Y, epochs=2, batch_size=10, shuffle=False)
    mean, variance = np.zeros((3, 1)), np.ones((3, 1))
    for part in 2 * [X[:, :10], X[:, 10:]]:
        mean = 0.75 * mean + 0.25 * part.mean(axis=1, keepdims=True)
        variance = 0.75 * variance + 0.25 * part.var(axis=1, ddof=1, keepdims=True)
    p = trainer.parameters
    np.testing.assert_allclose(p["mean0"], mean, rtol=1e-12)
    np.testing.assert_allclose(p["variance0"], variance, rtol=1e-12)
    expected = p["W1"] @ ((X - mean) / np.sqrt(variance + 1e-5)) + p["b1"]
    np.testing.assert_allclose(trainer.predict(X), expected, rtol=1e-11)
    np.testing.assert_allclose(trainer.predict(X[:, :1]), expected[:, :1], rtol=1e-11)


def test_batch_norm_refuses_a_single_sample(rng):
    trainer = nnx.Trainer(network("batch norm"), backend="numpy")
    X, Y = rng.standard_normal((4, 9)), rng.integers(0, 3, 9)
    with pytest.raises(
        nnx.InputError, match=r"each batch would have a single sample \(m = 9, batch_size = 1\)"
    ):
        trainer.fit(X, Y, batch_size=1)
    with pytest.raises(nnx.InputError, match="single sample"):
        trainer.fit(X[:, :1], Y[:1])
    with pytest.raises(nnx.InputError, match="BatchNorm cannot train on a batch of one sample"):
        trainer.network.loss_and_gradient(trainer.theta, X[:, :1].astype("float32"), Y[:1])
    trainer.fit(X, Y, batch_size=3)


def torch_twin(layers, sizes):
    torch = pytest.importorskip("torch", reason="torch is not installed: nothing to compare with")
    made = {
        "batch norm": lambda n: torch.nn.BatchNorm1d(n),
        "layer norm": lambda n: torch.nn.LayerNorm(n),
        "prelu": lambda n: torch.nn.PReLU(n),
    }
    return torch, [made[name](n) for name, n in zip(layers, sizes, strict=True)]


@pytest.mark.needs("torch")
@pytest.mark.parametrize("block", ["batch norm", "layer norm", "prelu"])
def test_twenty_steps_agree_with_torch(block, rng):
    """The layer between two Dense ones, under gradient descent, against PyTorch's own layer and autograd."""
    torch, (layer,) = torch_twin([block], [4])
    net = network(block)
    X, Y = rng.standard_normal((4, 40)), rng.integers(0, 3, 40)
    trainer = nnx.Trainer(net, nnx.GradientDescent(0.1), backend="numpy", dtype="float64")
    twin = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Tanh(), layer, torch.nn.Linear(4, 3)).double()
    p = trainer.parameters
    with torch.no_grad():
        for i, l in ((0, 1), (3, 2)):
            twin[i].weight.copy_(torch.from_numpy(p[f"W{l}"]))
            twin[i].bias.copy_(torch.from_numpy(p[f"b{l}"][:, 0]))
    optimizer = torch.optim.SGD(twin.parameters(), 0.1)
    rows, labels = torch.from_numpy(X.T.copy()), torch.from_numpy(Y)
    for _ in range(10):
        for part in (slice(0, 20), slice(20, 40)):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(twin(rows[part]), labels[part]).backward()
            optimizer.step()
    trainer.fit(X, Y, epochs=10, batch_size=20, shuffle=False)
    assert trainer.steps == 20
    p = trainer.parameters
    np.testing.assert_allclose(p["W1"], twin[0].weight.detach().numpy(), rtol=0, atol=1e-9)
    np.testing.assert_allclose(p["W2"], twin[3].weight.detach().numpy(), rtol=0, atol=1e-9)
    twin.eval()
    with torch.no_grad():
        expected = torch.softmax(twin(rows), dim=1).numpy().T
    np.testing.assert_allclose(trainer.predict(X), expected, rtol=0, atol=1e-9)


def test_names_and_descriptions():
    net = nnx.Network(
        4,
        [
            nnx.Dropout(0.1),
            nnx.LayerNorm(),
            *BLOCKS["nested"],
            nnx.LayerNorm(),
            nnx.LayerNorm(),
            nnx.Dense(3),
        ],
        output="softmax",
    )
    assert net.n == (4, 4, 4, 3)
    assert net.L == 3
    assert list(net.shapes) == [
        "gamma0", "beta0", "gamma0_2", "beta0_2", "mean0", "variance0", "gamma0_3", "beta0_3", "W1", "b1", "a1",
        "W2", "b2", "gamma2", "beta2", "gamma2_2", "beta2_2", "W3", "b3",
    ]  # fmt: skip
    assert net.decayed == ("W1", "W2", "W3")
    assert net.statistics == ("mean0", "variance0")
    again = nnx.Network.from_description(json.loads(json.dumps(net.describe())))
    assert repr(again) == repr(net)
    assert again.shapes == net.shapes
    theta = net.init()
    np.testing.assert_array_equal(net.flatten(net.unflatten(theta)), theta)


@pytest.mark.parametrize("hidden", ["prelu", nnx.PReLU(0.1)])
def test_prelu_in_an_mlp(hidden):
    net = nnx.mlp([4, 5, 6, 2], hidden=hidden)
    assert list(net.shapes) == ["W1", "b1", "a1", "W2", "b2", "a2", "W3", "b3"]
    assert float(net.unflatten(net.init())["a1"][0, 0]) == pytest.approx(0.25 if hidden == "prelu" else 0.1)


def test_a_layer_of_ones_own(backend, rng, monkeypatch, tmp_path):
    """Forward and backward are enough; registered, it is saved and loaded."""
    monkeypatch.setitem(nnx.LAYERS, "Scale", None)  # taken out again when the test is over
    del nnx.LAYERS["Scale"]

    @dataclass(frozen=True)
    class Scale(nnx.Layer):
        factor: float = 2.0

        def forward(self, params, A_prev, context):
            return self.factor * A_prev, None

        def backward(self, params, kept, dA, need_dA_prev):
            return self.factor * dA, {}

    net = nnx.Network(4, [nnx.Dense(3, "tanh"), Scale(3.0), nnx.Dense(3)], output="softmax")
    theta, X, Y = drawn(rng, net), rng.standard_normal((4, 7)), rng.integers(0, 3, 7)
    found = net.loss_and_gradient(*given(backend, theta, X, Y))[1]
    expected = differences(lambda t: net.loss_and_gradient(t, X, Y)[0], theta)
    np.testing.assert_allclose(backend.to_numpy(found), expected, rtol=1e-6, atol=1e-8)
    nnx.Trainer(net, backend=backend).save(tmp_path / "own.safetensors")
    with pytest.raises(nnx.ModelFileError, match=r"unknown layer 'Scale'.*register_layer"):
        nnx.Trainer.load(tmp_path / "own.safetensors", backend=backend)
    nnx.register_layer(Scale)
    assert nnx.Trainer.load(tmp_path / "own.safetensors", backend=backend).network.layers[1] == Scale(3.0)
    with pytest.raises(nnx.InputError, match="nnx has a layer named 'Dense' itself"):
        nnx.register_layer(type("Dense", (nnx.Layer,), {}))
    with pytest.raises(nnx.InputError, match=r"subclass of nnx\.Layer"):
        nnx.register_layer(3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nnx.Dropout(1.0), r"Dropout's rate must be in \[0, 1\), not 1.0"),
        (lambda: nnx.Dropout("much"), "not 'much'"),
        (lambda: nnx.GaussianNoise(-1), "std must be"),
        (lambda: nnx.BatchNorm(momentum=0), r"momentum must be in \(0, 1\], not 0"),
        (lambda: nnx.LayerNorm(epsilon=0), "epsilon"),
        (lambda: nnx.LayerNorm(epsilon=float("nan")), "epsilon"),
        (lambda: nnx.Residual([]), "needs the layers of its block"),
        (lambda: nnx.Residual([3]), "expected a layer"),
        (
            lambda: nnx.Network(4, [nnx.Residual([nnx.Dense(5)]), nnx.Dense(1)], "sigmoid"),
            "as it begins, 4; .* 5",
        ),
        (lambda: nnx.Network(4, nnx.Dense(5), "sigmoid"), "must be a list of layers"),
        (lambda: nnx.Network(4, [nnx.Dense(5), nnx.Dropout()], "softmax"), "last layer must be a Dense"),
        (lambda: nnx.Network(4, ["relu", nnx.Dense(5)], "softmax"), "expected a layer such as"),
    ],
)
def test_bad_layers(make, message):
    with pytest.raises(nnx.InputError, match=message):
        make()
