"""What a user may do with a trainer, and what becomes of it."""

import copy
import pickle
from dataclasses import dataclass

import numpy as np
import pytest

import nnx


def data(m=60):
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((4, m)), rng.integers(0, 3, m)
    X[0] += Y
    return X, Y


def new(optimizer=None, net=None, **options):
    options = {"backend": "numpy", "seed": 2, **options}
    return nnx.Trainer(net or nnx.mlp([4, 8, 3], "tanh"), optimizer or nnx.Adam(0.01), **options)


@pytest.mark.parametrize("name", sorted(set(nnx.OPTIMIZERS) - {"lbfgs"}))
def test_every_optimizer_is_saved_and_resumed(backend, name, tmp_path):
    """To the same bits, also from the middle of an epoch."""
    X, Y = data()
    whole = new(name, backend=backend)
    history = whole.fit(X, Y, epochs=3, batch_size=16)

    def stop(progress):
        if progress.epoch == 2 and progress.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        new(name, backend=backend).fit(
            X, Y, epochs=3, batch_size=16, callbacks=[stop, nnx.Checkpoints(tmp_path, steps=1)]
        )
    again = new(name, backend=backend)
    found = again.fit(
        X, Y, epochs=3, batch_size=16, callbacks=nnx.Checkpoints(tmp_path, steps=1), resume=tmp_path
    )
    assert found == history
    np.testing.assert_array_equal(again.theta, whole.theta)
    again.save(tmp_path / "model.safetensors")
    loaded = nnx.Trainer.load(tmp_path / "model.safetensors", backend=backend)
    for trainer in (again, loaded):
        trainer.fit(X, Y, epochs=1, batch_size=16)
    np.testing.assert_array_equal(loaded.theta, again.theta)


def test_trainers_and_networks_are_pickled(rng):
    X, Y = data()
    net = nnx.Network(
        4, [nnx.Dense(6, "gelu"), nnx.Residual([nnx.BatchNorm(), nnx.Dense(6)]), nnx.Dense(3)], "softmax"
    )
    trainer = new(net=net, regularization=nnx.Regularization(l2=0.1))
    trainer.fit(X, Y, epochs=2, batch_size=16)
    for again in (pickle.loads(pickle.dumps(trainer)), copy.deepcopy(trainer)):
        np.testing.assert_array_equal(again.predict(X), trainer.predict(X))
        assert again.history == trainer.history
        again.fit(X, Y, epochs=1, batch_size=16)
    trainer.fit(X, Y, epochs=1, batch_size=16)
    np.testing.assert_array_equal(again.theta, trainer.theta)
    assert repr(pickle.loads(pickle.dumps(net))) == repr(net)


def test_classes():
    X, Y = data()
    trainer = new()
    trainer.fit(X, Y, epochs=20, batch_size=16)
    assert (trainer.classify(X) == Y).mean() == trainer.evaluate(X, Y)["accuracy"]
    assert trainer.classify(X).shape == (60,)
    one = new(net=nnx.mlp([4, 1]))
    assert set(np.unique(one.classify(X))) <= {0, 1}
    assert one.classify(X).shape == (60,)
    assert new(net=nnx.mlp([4, 3], output="sigmoid")).classify(X).shape == (3, 60)
    assert new(net=nnx.mlp([4, 3], output="identity", loss="hinge")).classify(X).shape == (60,)
    with pytest.raises(nnx.InputError, match="is of numbers, which predict gives"):
        new(net=nnx.mlp([4, 3], output="identity")).classify(X)


def test_no_fit_within_a_fit():
    X, Y = data()

    class Again(nnx.Callback):
        def __init__(self, does):
            self.does = does

        def on_step(self, trainer, progress):
            self.does(trainer)

    for does, message in (
        (lambda t: t.fit(X, Y), "in the middle of a fit; a callback may evaluate, save and stop, not fit"),
        (lambda t: setattr(t, "parameters", t.parameters), "starts anew"),
    ):
        with pytest.raises(nnx.InputError, match=message):
            new().fit(X, Y, callbacks=Again(does))
    trainer = new()
    seen = []
    trainer.fit(X, Y, callbacks=Again(lambda t: seen.append(t.evaluate(X, Y)["loss"])), batch_size=30)
    assert len(seen) == 2


def test_what_a_callback_sets_within_a_fit_holds():
    X, Y = data()

    class Slower(nnx.Callback):
        def on_step(self, trainer, progress):
            trainer.learning_rate = 0.25
            trainer.theta = np.zeros(trainer.network.P)

    trainer = new(nnx.GradientDescent(0.5))
    trainer.fit(X, Y, callbacks=Slower(), epochs=2, batch_size=16)
    assert trainer.learning_rate == 0.25
    assert not trainer.theta.any()
    trainer.learning_rate = np.float32(0.1)
    assert trainer.learning_rate == 0.1  # not 0.10000000149


def test_what_ended_the_fit_is_what_is_raised(tmp_path):
    X, Y = data()

    class Bad(nnx.Callback):
        def on_fit_end(self, trainer):
            raise OSError("disk gone")

    class Seen(nnx.Callback):
        ended = False

        def on_fit_end(self, trainer):
            self.ended = True

    seen = Seen()
    net = nnx.mlp([4, 1], output="identity")
    with pytest.raises(nnx.DivergenceError) as caught:
        new(nnx.GradientDescent(1e30), net).fit(X, Y, epochs=3, callbacks=[Bad(), seen])
    assert "disk gone" in caught.value.__notes__[0]
    assert seen.ended
    with pytest.raises(nnx.CallbackError, match="Bad raised OSError in on_fit_end: disk gone"):
        new().fit(X, Y, callbacks=Bad())

    class NoState(nnx.Callback):
        def state(self):
            raise KeyError("nothing")

    with pytest.raises(nnx.CallbackError, match="NoState raised KeyError in state"):
        new().fit(X, Y, callbacks=[NoState(), nnx.Checkpoints(tmp_path)])


def test_hooks_that_nobody_calls_are_refused():
    class Keras(nnx.Callback):
        def on_epoch_end(self, trainer, progress):
            pass

    with pytest.raises(
        nnx.InputError, match=r"Keras\.on_epoch_end would never be called: .*did you mean 'on_epoch'"
    ):
        new().fit(*data(), callbacks=Keras())
    with pytest.raises(nnx.InputError, match=r"EarlyStopping.*write EarlyStopping\(\.\.\.\)"):
        new().fit(*data(), callbacks=nnx.EarlyStopping)


def test_a_metric_of_ones_own_is_any_object():
    """Not hashable, as a plain dataclass is; made anew it is not confused with another of its name."""

    @dataclass
    class Above:
        name: str
        limit: float

        def partial(self, output, A, Y, w):
            xp = nnx.array_namespace(A)
            return (xp.sum(xp.astype(xp.max(A, axis=0) > self.limit, A.dtype)), A.shape[1])

        def result(self, partials, to_numpy):
            return sum(float(to_numpy(above)) for above, _ in partials) / sum(m for _, m in partials)

    X, Y = data()
    trainer = new()
    A = trainer.predict(X)
    for limit in (0.4, 0.5):
        found = trainer.evaluate(X, Y, metrics=[Above("above", limit)], batch_size=7)
        assert found["above"] == pytest.approx((A.max(axis=0) > limit).mean())
    history = trainer.fit(
        X, Y, epochs=2, validation=(X, Y), metrics=[Above("above", 0.4), "confusion_matrix"]
    )
    assert len(history["validation_above"]) == 2
    assert np.sum(history["validation_confusion_matrix"][0]) == 60


def test_validation_by_batches():
    X, Y = data()
    expected = new().fit(X, Y, epochs=2, validation=(X, Y))
    batches = [(X[:, :25], Y[:25]), (X[:, 25:], Y[25:])]
    for validation in (batches, lambda: iter(batches)):
        found = new().fit(X, Y, epochs=2, validation=validation)
        np.testing.assert_allclose(found["validation_loss"], expected["validation_loss"], rtol=1e-6)
        assert found["validation_accuracy"] == expected["validation_accuracy"]
    with pytest.raises(nnx.InputError, match="the validation, an iterator, can be gone through but once"):
        new().fit(X, Y, epochs=2, validation=iter(batches))
    assert new().evaluate(iter(batches))["accuracy"] == new().evaluate(X, Y)["accuracy"]


def test_an_iterator_goes_on_where_it_was(tmp_path):
    """A run that is resumed draws the batches of the epochs that are over, and drops them."""

    def batches():
        rng = np.random.default_rng(3)
        while True:
            yield rng.standard_normal((4, 8)), rng.integers(0, 3, 8)

    expected = new().fit(batches(), epochs=4, steps=5)

    def stop(progress):
        if progress.epoch == 3 and progress.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        new().fit(batches(), epochs=4, steps=5, callbacks=[stop, nnx.Checkpoints(tmp_path, steps=1)])
    found = new().fit(
        batches(), epochs=4, steps=5, callbacks=nnx.Checkpoints(tmp_path, steps=1), resume=tmp_path
    )
    assert found == expected


def test_batches_that_become_fewer_are_an_error():
    X, Y = data()
    left = [3, 3, 2]

    def batches():
        return iter([(X, Y)] * left.pop(0))

    with pytest.raises(nnx.InputError, match="ended after 2 in epoch 3; expected 3 batches"):
        new().fit(batches, epochs=3)

    class Short:
        def __len__(self):
            return 10

        def __iter__(self):
            return iter([(X, Y)] * 4)

    with pytest.raises(nnx.InputError, match="a Short, ended after 4 in epoch 1; expected 10 batches"):
        new().fit(Short())


def test_weights_that_dtype_cannot_hold():
    X, Y = data()
    for weight, size in ((1e38, "large"), (1e-60, "small")):
        message = f"the weights are too {size} for float32; divide all of them"
        own = nnx.Regularization(l2=0.1, per_sample=True)
        for trainer, batches in ((new(), [(X, Y, weight)]), (new(regularization=own), (X, Y))):
            options = {"sample_weight": weight} if isinstance(batches, tuple) else {}
            with pytest.raises(nnx.InputError, match=message):
                trainer.fit(*(batches if options else (batches,)), **options)
        new(dtype="float64").fit([(X, Y, weight)])
    with pytest.raises(nnx.InputError, match="weights of all samples are 0"):
        new().evaluate([(X, Y, np.zeros(60))])


def test_lbfgs_as_other_optimizers(tmp_path):
    """Metrics that are arrays, checkpoints, early stopping, averages; errors that say what is wrong."""
    X, Y = data()
    average = nnx.MovingAverage(0.5)
    trainer = new(nnx.LBFGS())
    history = trainer.fit(
        X, Y, epochs=12, validation=(X, Y), metrics=["accuracy", "confusion_matrix"],
        callbacks=[average, nnx.EarlyStopping("validation_loss", patience=3), nnx.Checkpoints(tmp_path)],
    )  # fmt: skip
    assert history["loss"][-1] < history["loss"][0]
    assert len(history["validation_confusion_matrix"]) == len(history["loss"])
    assert np.isfinite(average.theta).all()
    trainer.save(tmp_path / "m.safetensors")
    nnx.Trainer.load(tmp_path / "m.safetensors", backend="numpy")
    with pytest.raises(
        nnx.DivergenceError, match="before iteration 1; the gradient in it has nan, first in W1"
    ):
        new(nnx.LBFGS(), net=nnx.mlp([4, 1], output="identity")).fit(X * 1e30, np.ones(60))
    with pytest.raises(nnx.DivergenceError, match="cost of the validation became inf in iteration 1"):
        new(nnx.LBFGS(), net=nnx.mlp([4, 1], output="identity")).fit(
            X, np.ones(60), validation=(X * 1e30, np.ones(60))
        )
    for options, message in (
        ({"batch_size": 10}, "LBFGS cannot be used with mini-batches: leave out batch_size"),
        ({"net": nnx.Network(4, [nnx.Dropout(0.1), nnx.Dense(3)], "softmax")}, "Dropout or noise"),
        ({"net": nnx.Network(4, [nnx.BatchNorm(), nnx.Dense(3)], "softmax")}, "BatchNorm"),
        ({"regularization": nnx.Regularization(clip_norm=1.0)}, "clipping"),
    ):
        batch_size = options.pop("batch_size", None)
        with pytest.raises(nnx.InputError, match=message):
            new(nnx.LBFGS(), **options).fit(X, Y, batch_size=batch_size)
    whole, cut = new(nnx.LBFGS(), dtype="float64"), new(nnx.LBFGS(), dtype="float64")
    a, b = whole.fit(X, Y, epochs=5), cut.fit(X, Y, epochs=5, micro_batch=7)
    np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-7)


def test_mistakes_in_a_layer_of_ones_own_name_it():
    def network(**methods):
        kind = type("Own", (nnx.Layer,), methods)
        return nnx.Network(4, [nnx.Dense(4), kind(), nnx.Dense(3)], "softmax")

    def identity(self, params, A_prev, context):
        return A_prev, None

    def backward(self, params, kept, dA, need):
        return dA, {}

    def shapes(self, n_prev):
        return {"gamma": (n_prev, 1)}

    X, Y = data()
    for methods, error, message in (
        ({}, NotImplementedError, "the layer Own has no forward"),
        ({"forward": identity}, NotImplementedError, "the layer Own has no backward"),
        (
            {"forward": lambda *a: a[2], "backward": backward},
            nnx.InputError,
            r"Own\.forward must return A and what",
        ),
        (
            {"forward": identity, "backward": backward, "shapes": shapes},
            nnx.InputError,
            r"Own\.backward returns no derivative of its parameter 'gamma'",
        ),
        (
            {
                "forward": identity,
                "backward": lambda self, params, kept, dA, need: (dA, {"gamma": dA[:2, :1]}),
                "shapes": shapes,
            },
            nnx.InputError,
            r"Own\.backward returns a derivative of 'gamma' of shape \(2, 1\); expected \(4, 1\)",
        ),
        (
            {"forward": identity, "backward": backward, "shapes": shapes, "draw": lambda *a: {}},
            nnx.InputError,
            r"Own\.draw returns \{\}; expected what its shapes are",
        ),
    ):
        with pytest.raises(error, match=message):
            new(net=network(**methods)).fit(X, Y)


@pytest.mark.parametrize(
    ("given", "meant"),
    [("swish", "silu"), ("logistic", "sigmoid"), ("linear", "identity"), ("rleu", "relu")],
)
def test_what_others_call_it(given, meant):
    with pytest.raises(nnx.InputError, match=f"did you mean '{meant}'"):
        nnx.Dense(3, given)


def test_what_cannot_be_meant():
    X, Y = data()
    for make, message in (
        (
            lambda: nnx.mlp([4, 3, 1], output="softmax"),
            "a single .*softmax.* output is always 1; use 'sigmoid'",
        ),
        (lambda: nnx.mlp([4, 3, 2], hidden=nnx.BatchNorm()), "hidden must be an activation"),
        (lambda: nnx.Dense(3, "prelu"), r"it is a layer: nnx\.PReLU\(\)"),
        (lambda: new().fit("digits.csv", Y), "X is the path 'digits.csv', which is not read"),
        (lambda: new().fit([(X, Y)], batch_size=10), "have their own sizes"),
        (lambda: new().fit(X, Y, resume=True), "resume must be a folder of checkpoints"),
        (lambda: new().fit(X, Y[:, None]), r"its only column, Y\[:, 0\], would fit"),
        (lambda: new(net=nnx.mlp([4, 1])).fit(X, X[0] * 9), "for numbers choose output='identity'"),
        (lambda: setattr(new(), "parameters", [1]), "parameters must be a dict"),
        (lambda: setattr(new(), "learning_rate", 0), "learning_rate must be greater than 0"),
        (lambda: setattr(new(), "theta", [1.0]), r"theta has shape \(1,\); expected \(67,\)"),
    ):
        with pytest.raises(nnx.InputError, match=message):
            make()
