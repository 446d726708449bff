"""Batches that cannot be trained on are left out: those without weight, and a single sample before BatchNorm."""

import numpy as np
import pytest

import nnx

M, SIZE = 26, 4


def plain():
    return nnx.Network(3, [nnx.Dense(5, "tanh"), nnx.Dense(1)], "sigmoid")


def normed():
    return nnx.Network(3, [nnx.Dense(5), nnx.BatchNorm(), nnx.Activate("tanh"), nnx.Dense(1)], "sigmoid")


def new(backend, network=plain, optimizer=None, **options):
    # Adam makes much of rounding in the b before BatchNorm.
    optimizer = optimizer or (nnx.Adam(0.05) if network is plain else nnx.Momentum(0.05))
    return nnx.Trainer(network(), optimizer, backend=backend, dtype="float64", **options)


@pytest.fixture
def samples(rng):
    X = rng.standard_normal((3, M))
    w = rng.integers(1, 4, M) / 2
    w[0:4] = w[9:10] = w[12:20] = w[24:] = 0.0  # batches 0, 3, 4 and the last weigh nothing; one other sample
    return X, (X[0] > X[1] * X[2]) * 1.0, w


def as_list(X, Y, w, order=None):
    """The batches of one epoch, as they are handed in by hand."""
    order = np.arange(X.shape[1]) if order is None else order
    parts = [order[start : start + SIZE] for start in range(0, len(order), SIZE)]
    return [(X[:, part], Y[part], w[part]) for part in parts]


def weighing(batches):
    return [batch for batch in batches if batch[2].any()]


def same(one, other, history, expected):
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-12)
    for name in one.state:
        np.testing.assert_allclose(
            one.backend.to_numpy(one.state[name]),
            other.backend.to_numpy(other.state[name]),
            rtol=1e-9,
            atol=1e-12,
            err_msg=name,
        )


@pytest.mark.parametrize("how", ["arrays", "mapped", "list", "pieces", "list in pieces"])
def test_a_batch_without_weight_changes_nothing(backend, how, samples, tmp_path):
    """Neither the parameters, nor Adam's memory and its count of steps, nor the loss."""
    X, Y, w = samples
    batches = as_list(*samples)
    expected, given = new(backend), new(backend)
    history = expected.fit(weighing(batches), epochs=3)
    if how == "mapped":
        np.save(tmp_path / "X.npy", X.T)
        X = np.load(tmp_path / "X.npy", mmap_mode="r").T
    pieces = {"micro_batch": 3} if "pieces" in how else {}
    if "list" in how:
        found = given.fit(batches, epochs=3, **pieces)
    else:
        found = given.fit(X, Y, 3, SIZE, shuffle=False, sample_weight=w, **pieces)
    assert given.steps == expected.steps == 3 * len(weighing(batches))
    same(given, expected, found, history)


def test_a_batch_without_weight_in_any_order(backend, samples):
    X, Y, w = samples
    given, expected = new(backend, seed=3), new(backend, seed=3)
    rng = np.random.default_rng(3)
    epochs = [weighing(as_list(*samples, rng.permutation(M))) for _ in range(4)]
    assert any(len(epoch) < 7 for epoch in epochs)
    found = given.fit(X, Y, 4, SIZE, sample_weight=w)
    history = {"loss": [expected.fit(batches)["loss"][0] for batches in epochs]}
    same(given, expected, found, history)


@pytest.mark.parametrize("optimizer", [nnx.AdamW(0.05), nnx.Momentum(0.05), nnx.Lion(0.01)], ids=str)
def test_momentum_and_decay_rest_in_a_batch_without_weight(optimizer, samples):
    own = nnx.Regularization(l2=0.1, per_sample=True)
    given, expected = (new("numpy", normed, optimizer=optimizer, regularization=own) for _ in range(2))
    batches = as_list(*samples)
    same(given, expected, given.fit(batches, epochs=2), expected.fit(weighing(batches), epochs=2))


@pytest.mark.parametrize("m", [9, pytest.param(41, marks=pytest.mark.long)])
def test_a_single_sample_is_left_out_before_batch_norm(backend, m, rng, tmp_path):
    X = rng.standard_normal((3, m))
    Y = (X[0] > 0) * 1.0
    expected = new(backend, normed)
    history = expected.fit(X[:, :-1], Y[:-1], 5, SIZE, shuffle=False)
    np.save(tmp_path / "X.npy", X.T)
    ways = {
        "arrays": (X, Y, 5, SIZE),
        "mapped": (np.load(tmp_path / "X.npy", mmap_mode="r").T, Y, 5, SIZE),
        "list": ([(x, y) for x, y, _ in as_list(X, Y, np.ones(m))], None, 5),
    }
    for way in ways.values():
        given = new(backend, normed)
        same(given, expected, given.fit(*way, shuffle=False), history)
    shuffled = new(backend, normed)
    loss = shuffled.fit(X, Y, 20, SIZE)["loss"]
    assert loss[-1] < loss[0]
    assert shuffled.steps == 20 * (m // SIZE)


def test_no_batch_of_more_than_a_single_sample(rng):
    X, Y = rng.standard_normal((3, 4)), np.array([0, 1, 0, 1])
    for arrays, options in (((X, Y), {"batch_size": 1}), ((X[:, :1], Y[:1]), {})):
        with pytest.raises(
            nnx.InputError, match=r"each batch would have a single sample \(m = [41], batch_size"
        ):
            new("numpy", normed).fit(*arrays, **options)
    with pytest.raises(nnx.InputError, match=r"nothing to train on in epoch 1.*single sample.*BatchNorm"):
        new("numpy", normed).fit([(X[:, :1], Y[:1])] * 3)


@pytest.mark.parametrize("optimizer", [nnx.Adam(), nnx.LBFGS()], ids=str)
def test_nothing_that_weighs(optimizer, samples):
    X, Y, w = samples
    nothing = (X, Y, 0 * w)
    for batches, options in (
        ([nothing], {}),
        ([nothing] * (1 + isinstance(optimizer, nnx.Adam)), {}),
        ([nothing], {"micro_batch": 5}),
        ([(X, 0 * Y)], {"class_weight": {0: 0.0, 1: 1.0}}),
        ([(X, Y, 0)], {}),
    ):
        trainer = new("numpy", optimizer=optimizer)
        before = trainer.theta
        with pytest.raises(
            nnx.InputError, match=r"nothing to train on in .* 1: the weights of all samples are 0"
        ):
            trainer.fit(batches, epochs=2, **options)
        np.testing.assert_array_equal(trainer.theta, before)
    with pytest.raises(nnx.InputError, match="sample_weight is 0 for all of the 26 samples"):
        new("numpy", optimizer=optimizer).fit(X, Y, sample_weight=0)


def test_a_validation_without_weight(samples):
    X, Y, w = samples
    for validation in ([(X, Y, 0 * w)], (X, Y, 0 * w)):
        with pytest.raises(nnx.InputError, match=r"0 for all of the|weights of all samples are 0"):
            new("numpy").fit(X, Y, validation=validation)
    batches = as_list(*samples)
    given, expected = new("numpy"), new("numpy")
    metrics = ["accuracy", "roc_auc", "f1"]
    found, history = (
        one.fit(X, Y, 2, validation=which, metrics=metrics)
        for one, which in ((given, batches), (expected, (X, Y, w)))
    )
    assert found.keys() == history.keys()
    for name in history:
        np.testing.assert_allclose(found[name], history[name], rtol=1e-12)


@pytest.mark.parametrize("at", range(1, 14))
def test_a_fit_goes_on_at_any_step(at, samples, tmp_path):
    """Steps that are left out are counted as places in the epoch, so that a checkpoint says where it stands."""
    X, Y, w = samples

    class Stop(nnx.Callback):
        def on_step(self, trainer, progress):
            if trainer.steps == at:
                trainer.save(tmp_path / "then.safetensors")

    whole, gone_on = new("numpy", seed=1), new("numpy", seed=1)
    history = whole.fit(X, Y, 3, SIZE, sample_weight=w, callbacks=Stop())
    found = gone_on.fit(
        X, Y, 3, SIZE, sample_weight=w, resume=tmp_path / "then.safetensors", callbacks=Stop()
    )
    same(gone_on, whole, found, history)


def test_the_search_for_a_rate_leaves_them_out(rng):
    X = rng.standard_normal((3, 201))
    Y = (X[0] > 0) * 1.0
    assert nnx.find_learning_rate(new("numpy", normed), X, Y, batch_size=4).lowest > 0
    batches = [(X, Y, 0 * Y), (X, Y, 1 + Y)]
    one, other = (nnx.find_learning_rate(new("numpy"), given) for given in (batches, batches[1:]))
    assert one.costs == other.costs
