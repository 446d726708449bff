"""The members of a trainer as one predictor."""

import pickle
from copy import deepcopy

import numpy as np
import pytest

import nnx

OUTPUTS = {
    "softmax": (3, lambda X: (X[0] > 0) + (X[1] > 0)),
    "sigmoid": (1, lambda X: X[0] > 0),
    "identity": (2, lambda X: X[:2] ** 2),
    "exp": (1, lambda X: np.floor(np.abs(X[0]))),
}


@pytest.fixture(params=OUTPUTS)
def task(request, rng):
    n, target = OUTPUTS[request.param]
    X = rng.standard_normal((3, 60)).astype("float32")
    trainer = nnx.Trainer(
        nnx.mlp([3, 6, n], output=request.param), nnx.Adam([0.1, 0.01, 1e-3, 0.03]), "numpy", members=4
    )
    trainer.fit(X, target(X), epochs=5, batch_size=20)
    return trainer, X, target(X)


def test_mean_and_spread(task):
    trainer, X, _ = task
    A = trainer.predict(X)
    np.testing.assert_allclose(trainer.ensemble.predict(X), A.mean(axis=0), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(trainer.ensemble.spread(X), A.std(axis=0), rtol=1e-3, atol=1e-6)
    both = trainer.ensemble.predict_with_spread(X)
    np.testing.assert_array_equal(both, [trainer.ensemble.predict(X), trainer.ensemble.spread(X)])
    np.testing.assert_allclose(
        trainer.ensemble.predict(X.T, rows=True), A.mean(axis=0).T, rtol=1e-5, atol=1e-7
    )
    assert trainer.ensemble.predict(X[:, 0]).shape == A.shape[1:2]
    if not trainer.network.output.classes:
        with pytest.raises(nnx.InputError, match="there are no classes"):
            trainer.ensemble.classify(X)
        return
    mean, classes = A.mean(axis=0), trainer.ensemble.classify(X)
    np.testing.assert_array_equal(classes, mean.argmax(axis=0) if len(mean) > 1 else mean[0] > 0.5)
    np.testing.assert_array_equal(trainer.ensemble.classify(X.T, rows=True), classes)
    assert trainer.ensemble.classify(X[:, 0]) == classes[0]


def test_the_loss_of_members_alike_is_that_of_each(task):
    trainer, X, Y = task
    trainer.theta = np.stack([trainer.theta[0]] * 4)
    w = np.arange(60.0)
    for metrics in (None, ["accuracy"] if trainer.network.output.classes else ["mean_absolute_error"]):
        one = trainer.member(0).evaluate(X, Y, sample_weight=w, metrics=metrics)
        found = trainer.ensemble.evaluate(X, Y, sample_weight=w, metrics=metrics)
        assert found.keys() == one.keys()
        np.testing.assert_allclose([*found.values()], [*one.values()], rtol=1e-4)


def test_weights_are_shares(task):
    trainer, X, _ = task
    assert trainer.ensemble.weights == [0.25] * 4
    trainer.ensemble.weights = [0, 3, 1, 0]
    assert trainer.ensemble.weights == [0, 0.75, 0.25, 0]
    A = trainer.predict(X)
    for ensemble in (
        trainer.ensemble,
        pickle.loads(pickle.dumps(trainer.ensemble)),
        deepcopy(trainer.ensemble),
    ):
        np.testing.assert_allclose(ensemble.predict(X), 0.75 * A[1] + 0.25 * A[2], rtol=1e-5, atol=1e-7)


def greedy(A, Y, rounds):
    """Caruana's selection for the squared error, typed again: the counts of the best round."""
    bag, best = [], (np.inf, None)
    for _ in range(rounds):
        errors = [((A[[*bag, k]].mean(axis=0) - Y) ** 2).mean() for k in range(len(A))]
        bag.append(int(np.argmin(errors)))
        best = min(best, (min(errors), [*bag]), key=lambda found: found[0])
    return np.bincount(best[1], minlength=len(A)) / len(best[1])


def test_selection_is_caruanas(rng):
    X = rng.standard_normal((3, 80)).astype("float32")
    Y = X[0] * X[1]
    network = nnx.mlp([3, 8, 1], output="identity")
    trainer = nnx.Trainer(network, nnx.Adam([0.1, 0.01, 1e-4, 0.03, 0.05]), "numpy", members=5)
    trainer.fit(X[:, :40], Y[:40], epochs=20, batch_size=10)
    weights = trainer.ensemble.select(X[:, 40:], Y[40:])
    np.testing.assert_allclose(weights, greedy(trainer.predict(X[:, 40:])[:, 0], Y[40:], 10))
    assert trainer.ensemble.weights == weights
    chosen = trainer.ensemble.evaluate(X[:, 40:], Y[40:])["loss"]
    assert chosen <= trainer.evaluate(X[:, 40:], Y[40:])["loss"].min() + 1e-6


def test_selection_by_the_greatest(rng):
    X = rng.standard_normal((3, 80)).astype("float32")
    Y = (X[0] * X[1] > 0).astype(int)
    trainer = nnx.Trainer(nnx.mlp([3, 8, 1]), nnx.Adam([0.1, 0.01, 1e-4]), "numpy", members=3)
    trainer.fit(X, Y, epochs=20, batch_size=10)
    trainer.ensemble.select(X, Y, metric="accuracy")
    each = trainer.evaluate(X, Y)["accuracy"]
    assert trainer.ensemble.evaluate(X, Y)["accuracy"] >= each.max()


class Explodes(nnx.Callback):
    """Gives members a rate, after their first epoch, at which they diverge."""

    each_member = True

    def __init__(self, seeds=(1,)):
        self.seeds = seeds

    def on_epoch(self, trainer, progress):
        if trainer.seed in self.seeds and progress.epoch == 1:
            trainer.learning_rate = 1e38


def test_a_member_that_has_diverged_is_left_out(rng, tmp_path):
    X = rng.standard_normal((3, 40)).astype("float32")
    trainer = nnx.Trainer(nnx.mlp([3, 6, 1], output="identity"), nnx.GradientDescent(0.1), "numpy", members=3)
    with pytest.warns(
        nnx.LeftOutWarning, match="^member 1 diverged; the trainer's ensemble leaves out .* the cost became"
    ):
        trainer.fit(X, X[0], epochs=3, batch_size=10, callbacks=Explodes())
    trainer.save(tmp_path / "members.safetensors")
    for one in (trainer, nnx.Trainer.load(tmp_path / "members.safetensors", "numpy")):
        ensemble, A = one.ensemble, one.predict(X)
        assert ensemble.weights == [0.5, 0, 0.5]
        assert "mean of 2 of 3 members of Network(" in repr(ensemble)
        assert "member 1 diverged" in repr(ensemble)
        np.testing.assert_allclose(ensemble.predict(X), (A[0] + A[2]) / 2, rtol=1e-5, atol=1e-7)
        assert ensemble.select(X, A[1])[1] == 0  # though it would be the best
        with pytest.raises(nnx.InputError, match="was not written in a fit"):
            one.fit(X, X[0], epochs=9, resume=tmp_path / "members.safetensors")
        assert [error is None for error in one.errors] == [True, False, True]  # as before
        if one is trainer:  # both take it back in
            one.each[1].theta = np.full(trainer.network.P, 1e38)
        ensemble.weights = [1, 2, 1]
        assert ensemble.weights == [0.25, 0.5, 0.25]
        assert one.errors == [None] * 3
    with np.errstate(all="ignore"):
        assert not np.isfinite(trainer.ensemble.predict(X)).all()
        trainer.ensemble.weights = [1, 0, 1]
        assert np.isfinite(trainer.ensemble.predict(X)).all()
        assert trainer.ensemble.select(X, X[0])[1] == 0
    trainer.ensemble.weights = [1, 1, 1]
    trainer.each[2].learning_rate = 1e38
    with pytest.raises(nnx.DivergenceError):
        trainer.each[2].fit(X, X[0], epochs=2)  # alone
    assert trainer.ensemble.weights == [0.5, 0.5, 0]


@pytest.mark.parametrize(
    ("seeds", "ends", "kept", "weights"),
    [({1}, pytest.warns(nnx.LeftOutWarning, match="^member 1 div"), [3, 1, 3], [0.5, 0, 0.5]),
     ({0, 1, 2}, pytest.raises(nnx.DivergenceError), [1, 1, 1], [1 / 3] * 3)],
    ids=["one", "all"],
)  # fmt: skip
def test_best_epochs_of_members_that_have_diverged_predict_if_no_other_is_left(
    rng, seeds, ends, kept, weights
):
    X = rng.standard_normal((3, 40)).astype("float32")
    trainer = nnx.Trainer(nnx.mlp([3, 6, 1], output="identity"), nnx.GradientDescent(0.1), "numpy", members=3)
    with ends:
        trainer.fit(X, X[0], epochs=3, batch_size=10, callbacks=[Explodes(seeds), nnx.EarlyStopping("loss")])
    assert [error is None for error in trainer.errors] == [k not in seeds for k in range(3)]
    assert trainer.kept == kept
    assert trainer.ensemble.weights == weights
    trainer.theta = trainer.theta
    assert trainer.errors == [None] * 3


def test_an_ensemble_of_which_all_have_diverged_is_an_error(rng):
    X = 1e20 * rng.standard_normal((3, 40)).astype("float32")
    trainer = nnx.Trainer(nnx.mlp([3, 1], output="identity"), nnx.GradientDescent(1e38), "numpy", members=2)
    with pytest.raises(nnx.DivergenceError):
        trainer.fit(X, X[0], epochs=3)
    assert "mean of 0 of 2 members" in repr(trainer.ensemble)
    assert trainer.ensemble.weights == [0, 0]  # before their first epoch ended
    for use in (
        trainer.ensemble.predict,
        trainer.ensemble.spread,
        lambda X: trainer.ensemble.select(X, X[0]),
    ):
        with pytest.raises(nnx.InputError, match=r"no member left: all 2 members diverged. Train again"):
            use(X)
    trainer.each[1].theta = trainer.theta[1]
    assert trainer.ensemble.weights == [0, 1]


def test_wrong_ensembles_are_errors(rng):
    with pytest.raises(nnx.InputError, match="no members"):
        _ = nnx.Trainer(nnx.mlp([3, 1]), backend="numpy").ensemble
    ensemble = nnx.Trainer(nnx.mlp([3, 1]), backend="numpy", members=2).ensemble
    for weights in ([1], [0, 0], [1, -1], [[1, 1]]):
        with pytest.raises(nnx.InputError, match="weights must be 2 numbers"):
            ensemble.weights = weights
    with pytest.raises(nnx.InputError, match="rounds must be"):
        ensemble.select(np.ones((3, 4)), np.ones(4), rounds=0)
    with pytest.raises(nnx.InputError, match="sample_weight is 0 for all"):
        ensemble.evaluate(np.ones((3, 4)), np.ones(4), sample_weight=np.zeros(4))
