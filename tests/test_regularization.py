"""Penalties, clipping, max-norm, label smoothing, and steps in micro-batches, on every backend."""

import numpy as np
import pytest
from conftest import differences, long_but_for, some_targets
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import nnx
from nnx.model.outputs import OUTPUTS
from nnx.train.step import cost_and_gradient, initial_state, micro_batch_step, training_step

EVERYTHING = nnx.Regularization(
    l1=0.01, l2=0.1, max_norm=0.8, clip_value=0.05, clip_norm=0.1, label_smoothing=0.1
)


def data(seed=0, m=20):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((4, m)), rng.integers(0, 3, m)


def new(backend="numpy", regularization=None, optimizer=None, net=None):
    net = net or nnx.mlp([4, 6, 3], "tanh", "softmax")
    optimizer = optimizer or nnx.GradientDescent(0.5)
    return nnx.Trainer(net, optimizer, backend=backend, dtype="float64", regularization=regularization)


def test_penalties_by_their_definition(backend):
    """J and its gradient, against J typed and central differences; the biases have none."""
    X, Y = data()
    trainer = new(backend, nnx.Regularization(l1=0.01, l2=0.1))
    net, theta = trainer.network, trainer.theta
    p = net.unflatten(theta)
    J, dtheta = trainer.session.gradient(
        trainer.state, (backend.asarray(X, "float64"), backend.asarray(Y, "int32"))
    )

    def typed(theta):
        W = [net.unflatten(theta)[name] for name in ("W1", "W2")]
        plain = net.loss_and_gradient(theta, X, Y)[0]
        return plain + sum(0.01 * abs(w).sum() + 0.05 * (w**2).sum() for w in W)

    assert float(backend.to_numpy(J)) == pytest.approx(float(typed(theta)), rel=1e-12)
    np.testing.assert_allclose(backend.to_numpy(dtheta), differences(typed, theta), rtol=1e-6, atol=1e-8)
    assert p["W1"].any()
    history = trainer.fit(X, Y, epochs=1)
    assert history["loss"] == [pytest.approx(float(typed(theta)), rel=1e-12)]


@pytest.mark.parametrize("weighted", [False, True])
def test_penalties_per_sample(backend, weighted, rng):
    """As scikit-learn's alpha: divided by the samples of the batch, or by their weights, also in pieces and stacks."""
    X, Y = data(m=20)
    own = nnx.Regularization(l1=0.3, l2=2.0, per_sample=True)
    w = rng.random(20) if weighted else None
    total = 20 if w is None else w.sum()
    batch = [backend.asarray(X, "float64"), backend.asarray(Y, "int32")]
    batch.append(None if w is None else backend.asarray(w, "float64"))
    one, same = new(backend, own), new(backend, nnx.Regularization(l1=0.3 / total, l2=2.0 / total))
    for found, expected in zip(
        *(t.session.gradient(t.state, tuple(batch)) for t in (one, same)), strict=True
    ):
        np.testing.assert_allclose(backend.to_numpy(found), backend.to_numpy(expected), rtol=1e-12)
    for batch_size, micro_batch in ((20, None), (20, 6), (15, 4)):
        runs = [new(backend, own), new(backend, own)]
        for run, pieces in zip(runs, ({}, {"micro_batch": micro_batch}), strict=True):
            run.fit(X, Y, epochs=2, batch_size=batch_size, shuffle=False, sample_weight=w, **pieces)
        np.testing.assert_allclose(runs[1].theta, runs[0].theta, rtol=1e-10)
    net, optimizer = one.network, nnx.GradientDescent(0.1)
    theta = backend.asarray(np.stack([net.init(seed, "float64") for seed in range(3)]), "float64")
    state = initial_state(net, optimizer, theta, own)
    after, _ = training_step(net, optimizer, own)(state, tuple(batch))
    pieces = micro_batch_step(net, optimizer, own)
    sums = pieces.first(state, tuple(batch), backend.asarray(0, "int32"))
    again, _ = pieces.update(state, sums)
    np.testing.assert_allclose(backend.to_numpy(again["theta"]), backend.to_numpy(after["theta"]), rtol=1e-10)
    single = initial_state(net, optimizer, theta[1, :], own)
    alone, _ = training_step(net, optimizer, own)(single, tuple(batch))
    np.testing.assert_allclose(
        backend.to_numpy(after["theta"])[1], backend.to_numpy(alone["theta"]), rtol=1e-10
    )
    with pytest.raises(nnx.InputError, match="per_sample must be True or False, not 1"):
        nnx.Regularization(per_sample=1)


def test_which_parameters_decay(backend):
    X, Y = data()
    net = nnx.Network(4, [nnx.Dense(5, "tanh"), nnx.BatchNorm(), nnx.PReLU(), nnx.Dense(3)], "softmax")
    for decayed, optimizer in (
        (None, nnx.AdamW(0.1, weight_decay=0.5)),
        (("W2", "gamma1"), nnx.AdamW(0.1, weight_decay=0.5)),
    ):
        runs = [
            new(backend, nnx.Regularization(decayed=decayed), optimizer, net),
            new(backend, None, nnx.Adam(0.1), net),
        ]
        for run in runs:
            run.fit(X, Y, epochs=1)
        first = net.unflatten(net.init(0, "float64"))
        for name, (with_decay, without) in {
            name: (runs[0].parameters[name], runs[1].parameters[name]) for name in net.shapes
        }.items():
            share = 0.1 * 0.5 if name in (decayed or ("W1", "W2")) else 0
            np.testing.assert_allclose(
                with_decay, without - share * first[name], rtol=1e-9, atol=1e-12, err_msg=name
            )


def test_clipping(backend):
    X, Y = data()
    trainer = new(backend)
    trainer.parameters = {name: 3 * p for name, p in trainer.parameters.items()}
    theta = trainer.theta
    g = trainer.network.loss_and_gradient(theta, X, Y)[1]
    by_value = np.clip(g, -0.05, 0.05)
    norm = np.sqrt((by_value**2).sum())
    assert abs(g).max() > 0.05
    assert norm > 0.1
    for own, expected in (
        (nnx.Regularization(clip_value=0.05), by_value),
        (nnx.Regularization(clip_norm=0.1), g * 0.1 / np.sqrt((g**2).sum())),
        (nnx.Regularization(clip_value=0.05, clip_norm=0.1), by_value * 0.1 / norm),
        (nnx.Regularization(clip_norm=1e6), g),
    ):
        clipped = new(backend, own)
        clipped.theta = theta
        clipped.fit(X, Y, epochs=1)
        np.testing.assert_allclose(clipped.theta, theta - 0.5 * expected, rtol=1e-10, atol=1e-13)
    huge = backend.asarray(np.array([3e30, -4e30]), "float32")  # whose square is infinite
    out = backend.to_numpy(nnx.Regularization(clip_norm=5.0).clipped(huge))
    np.testing.assert_allclose(out, [3, -4], rtol=1e-5)
    zero = backend.asarray(np.zeros(2), "float32")
    assert not backend.to_numpy(nnx.Regularization(clip_norm=5.0).clipped(zero)).any()


def test_max_norm(backend):
    X, Y = data()
    free, held = new(backend), new(backend, nnx.Regularization(max_norm=0.8))
    for trainer in (free, held):
        trainer.fit(X, Y, epochs=1)
    for name, p in free.parameters.items():
        norm = np.sqrt((p**2).sum(axis=1, keepdims=True))
        expected = p * np.minimum(1, 0.8 / norm) if name.startswith("W") else p
        np.testing.assert_allclose(held.parameters[name], expected, rtol=1e-12)
    assert (np.sqrt((free.parameters["W1"] ** 2).sum(axis=1)) > 0.8).any()


@pytest.mark.parametrize(("output", "K"), [("softmax", 3), ("sigmoid", 2)])
def test_label_smoothing(backend, output, K):
    """The same as training on the targets moved by hand; what is evaluated is not smoothed."""
    X, Y = data()
    net = nnx.mlp([4, 6, 3], "tanh", output)
    smooth = new(backend, nnx.Regularization(label_smoothing=0.2), net=net)
    hand = new(backend, net=net)
    targets = np.eye(3)[:, Y]
    found = smooth.fit(X, Y, epochs=3)
    expected = hand.fit(X, 0.8 * targets + 0.2 / K, epochs=3)
    np.testing.assert_allclose(smooth.theta, hand.theta, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(found["loss"], expected["loss"], rtol=1e-12)
    assert smooth.evaluate(X, Y)["loss"] == pytest.approx(hand.evaluate(X, targets)["loss"], rel=1e-11)


def test_label_smoothing_of_torch():
    torch = pytest.importorskip("torch", reason="torch is not installed: nothing to compare with")
    X, Y = data()
    net = nnx.mlp([4, 3], output="softmax")
    trainer = new(regularization=nnx.Regularization(label_smoothing=0.2), net=net)
    Z = torch.from_numpy((trainer.parameters["W1"] @ X + trainer.parameters["b1"]).T)
    expected = torch.nn.functional.cross_entropy(Z, torch.from_numpy(Y), label_smoothing=0.2)
    assert trainer.fit(X, Y, epochs=1)["loss"][0] == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize("output", long_but_for(OUTPUTS, "softmax", "exp"))
def test_a_step_in_micro_batches_is_the_whole_step(backend, output, rng):
    """With all of it: weights, noise, dropout, penalties, clipping, smoothing where there are classes."""
    own = nnx.Regularization(0.01, 0.1, 0.8, 0.5, 1.0, 0.1 if output in ("softmax", "sigmoid") else 0.0)
    net = nnx.Network(
        4, [nnx.GaussianNoise(0.1), nnx.Dense(6, "silu"), nnx.Dropout(0.3), nnx.Dense(3)], output
    )
    X, Y, w = rng.standard_normal((4, 21)), some_targets(rng, output, 3, 21), rng.random(21)
    runs = []
    for options in ({}, {"micro_batch": 4}, {"micro_batch": 7}, {"micro_batch": 100}):
        trainer = new(backend, own, nnx.Adam(0.01), net)
        history = trainer.fit(X, Y, epochs=2, batch_size=13, sample_weight=w, **options)
        runs.append((trainer.theta, history["loss"]))
    for theta, losses in runs[1:]:
        np.testing.assert_allclose(theta, runs[0][0], rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(losses, runs[0][1], rtol=1e-11)


def test_a_piece_is_all_that_is_computed_at_once(rng):
    """The widest array of a step with micro_batch=k has k columns."""
    from nnx.backends.numpy.adapter import NumPy
    from nnx.port.program import Program

    class Watching(NumPy):
        widest = 0

        def compile(self, function):
            def watched(state, *arguments):
                for argument in arguments:
                    if isinstance(argument, tuple):
                        self.widest = max(self.widest, argument[0].shape[-1])
                return function(state, *arguments)

            return Program(watched)

    X, Y = data(m=50)
    backend = Watching()
    new(backend).fit(X, Y, batch_size=40, micro_batch=6)
    assert backend.widest == 6


def test_a_stack_is_regularized_network_by_network(backend):
    X, Y = data()
    net = nnx.mlp([4, 6, 3], "tanh", "softmax")
    theta = np.stack([net.init(seed, "float64") * 3 for seed in range(3)])
    optimizer = nnx.AdamW(0.1, weight_decay=0.1)
    batch = backend.asarray(X, "float64"), backend.asarray(Y, "int32")
    step = training_step(net, optimizer, EVERYTHING)
    state = initial_state(net, optimizer, backend.asarray(theta, "float64"), EVERYTHING)
    pieces = micro_batch_step(net, optimizer, EVERYTHING)
    after, J = step(state, batch)
    cut = [(batch[0][:, :9], batch[1][:9]), (batch[0][:, 9:], batch[1][9:])]
    sums = pieces.first(state, cut[0], backend.asarray(0, "int32"))
    again, J_again = pieces.update(state, pieces.add(state, sums, cut[1], backend.asarray(9, "int32")))
    np.testing.assert_allclose(backend.to_numpy(again["theta"]), backend.to_numpy(after["theta"]), rtol=1e-10)
    np.testing.assert_allclose(backend.to_numpy(J_again), backend.to_numpy(J), rtol=1e-12)
    for k in range(3):
        one = initial_state(net, optimizer, backend.asarray(theta[k], "float64"), EVERYTHING)
        one, Jk = step(one, batch)
        np.testing.assert_allclose(
            backend.to_numpy(after["theta"])[k], backend.to_numpy(one["theta"]), rtol=1e-10
        )
        np.testing.assert_allclose(backend.to_numpy(J)[k], backend.to_numpy(Jk), rtol=1e-12)


def test_nothing_is_read_on_the_host(backend):
    from unreadable_arrays import wrap

    net = nnx.Network(4, [nnx.Dense(5, "tanh"), nnx.BatchNorm(), nnx.Dropout(0.1), nnx.Dense(3)], "softmax")
    optimizer = nnx.AdamW(nnx.schedules.Cosine(0.1, steps=10))
    state = initial_state(net, optimizer, backend.asarray(net.init(), "float32"), EVERYTHING)
    state = wrap(state, backend.xp)
    X, Y = data()
    batch = wrap((backend.asarray(X, "float32"), backend.asarray(Y, "int32")), backend.xp)
    weights = wrap(backend.asarray(np.ones(20), "float32"), backend.xp)
    training_step(net, optimizer, EVERYTHING)(state, (*batch, weights))
    cost_and_gradient(net, EVERYTHING)(state, batch)
    pieces = micro_batch_step(net, optimizer, EVERYTHING)
    sums = pieces.first(state, (*batch, weights), wrap(backend.asarray(0, "int32"), backend.xp))
    pieces.update(state, sums)


@settings(
    deadline=None,
    max_examples=20,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(m=st.integers(1, 30), batch=st.integers(1, 30), micro=st.integers(1, 30), seed=st.integers(0, 99))
def test_micro_batches_of_any_size(m, batch, micro, seed):
    X, Y = data(seed, m)
    whole, cut = new(), new()
    a = whole.fit(X, Y, epochs=2, batch_size=batch)
    b = cut.fit(X, Y, epochs=2, batch_size=batch, micro_batch=micro)
    np.testing.assert_allclose(cut.theta, whole.theta, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-11)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"l2": -1}, r"l2 must be at least 0 and finite, not -1"),
        ({"l1": float("nan")}, "l1 must be"),
        ({"label_smoothing": 1.0}, r"label_smoothing must be in \[0, 1\)"),
        ({"clip_norm": 0}, "clip_norm must be greater than 0 and finite, or None"),
        ({"max_norm": "big"}, "max_norm must be"),
        ({"decayed": "W1"}, "decayed must be a list"),
    ],
)
def test_numbers_out_of_range(options, message):
    with pytest.raises(nnx.InputError, match=message):
        nnx.Regularization(**options)


def test_what_does_not_fit_the_network():
    with pytest.raises(nnx.InputError, match=r"unknown parameter 'W7'\. Known: W1"):
        new(regularization=nnx.Regularization(decayed=["W7"]))
    net = nnx.Network(4, [nnx.Dense(3), nnx.BatchNorm(), nnx.Dense(3)], "softmax")
    with pytest.raises(nnx.InputError, match="mean1 is a running statistic"):
        new(regularization=nnx.Regularization(decayed=["mean1"]), net=net)
    with pytest.raises(nnx.InputError, match="label_smoothing needs targets that may lie"):
        new(regularization=nnx.Regularization(label_smoothing=0.1), net=nnx.mlp([4, 3], output="identity"))
    with pytest.raises(nnx.InputError, match=r"must be an nnx\.Regularization"):
        new(regularization={"l2": 1.0})
