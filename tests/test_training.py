"""The training loop, on every backend."""

import json

import numpy as np
import pytest
from conftest import some_targets

import nnx
from nnx.backends.numpy.adapter import NumPy
from nnx.batches import Batches
from nnx.data import flower
from nnx.model.outputs import OUTPUTS
from nnx.port.program import Program

OPTIMIZERS = [nnx.GradientDescent(0.005), nnx.Adam(0.01)]


def data(rng, n0=5, nL=3, m=70, output="softmax"):
    return rng.standard_normal((n0, m)), some_targets(rng, output, nL, m)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: type(o).__name__)
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("hidden", ["relu", "tanh"])
def test_twenty_steps_agree_with_numpy(backend, optimizer, output, hidden, rng):
    X, Y = data(rng, output=output)

    def train(where):
        net = nnx.mlp([5, 8, 6, 3], hidden, output)
        trainer = nnx.Trainer(net, optimizer, backend=where, dtype="float64")
        trainer.fit(X, Y, epochs=4, batch_size=16)  # 4 * 16 + 6 = 70 samples: 5 steps an epoch
        assert trainer.steps == 20
        return trainer

    found, expected = train(backend), train("numpy")
    for name, p in expected.parameters.items():
        np.testing.assert_allclose(found.parameters[name], p, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(found.history["loss"], expected.history["loss"], rtol=1e-10)


def test_float32_stays_float32(backend, rng):
    X, Y = data(rng)
    trainer = nnx.Trainer(nnx.mlp([5, 4, 3], output="softmax"), backend=backend)
    trainer.fit(X, Y, epochs=2, batch_size=32)
    assert {p.dtype for p in trainer.parameters.values()} == {np.dtype("float32")}
    assert trainer.predict(X).dtype == np.float32
    floating = [x for name, x in trainer.state.items() if name != "t"]
    assert {trainer.backend.to_numpy(x).dtype for x in floating} == {np.dtype("float32")}


def test_integers_and_booleans_are_converted_once(backend, rng):
    X = rng.integers(0, 2, (5, 20))
    Y = rng.integers(0, 2, 20)
    losses = []
    for kind in ("uint8", "int64", "bool", "float64"):
        trainer = nnx.Trainer(nnx.mlp([5, 3, 1]), backend=backend)
        losses.append(trainer.fit(X.astype(kind), Y.astype(kind), epochs=3)["loss"])
    assert losses[0] == losses[1] == losses[2] == losses[3]


def test_gradient_descent_is_the_notes_update(backend, rng):
    X, Y = data(rng, output="sigmoid", nL=1)
    net = nnx.mlp([5, 4, 1], "tanh")
    trainer = nnx.Trainer(net, nnx.GradientDescent(0.0075), backend=backend, dtype="float64")
    theta = net.flatten(trainer.parameters)
    J, dtheta = net.loss_and_gradient(theta, X, Y)
    history = trainer.fit(X, Y, epochs=1)
    assert history["loss"] == [pytest.approx(float(J), rel=1e-12)]  # the cost before the update
    np.testing.assert_allclose(net.flatten(trainer.parameters), theta - 0.0075 * dtheta, rtol=1e-12)


def test_adam_is_its_papers_algorithm(backend, rng):
    X, Y = data(rng, output="sigmoid", nL=1)
    net = nnx.mlp([5, 4, 1], "tanh")
    trainer = nnx.Trainer(net, nnx.Adam(0.01), backend=backend, dtype="float64")
    theta = net.flatten(trainer.parameters)
    m = v = np.zeros(net.P)
    for t in range(1, 6):
        g = net.loss_and_gradient(theta, X, Y)[1]
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        theta = theta - 0.01 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    trainer.fit(X, Y, epochs=5)
    np.testing.assert_allclose(net.flatten(trainer.parameters), theta, rtol=1e-10, atol=1e-12)


def test_batches_cover_each_epoch_once_in_new_orders(backend):
    m = 23
    X = backend.asarray(np.arange(2.0 * m).reshape(2, m), "float64")
    Y = backend.asarray(np.arange(m))
    batches = Batches(backend, X, Y, None, 5, np.random.default_rng(0))
    orders = []
    for _ in range(2):
        parts = [(backend.to_numpy(Xb), backend.to_numpy(Yb)) for (Xb, Yb, _), _, _ in batches.epoch()]
        assert [Yb.shape for _, Yb in parts] == [(5,)] * 4 + [(3,)]
        Xs, Ys = np.concatenate([p[0] for p in parts], axis=1), np.concatenate([p[1] for p in parts])
        np.testing.assert_array_equal(Xs, np.stack([Ys, Ys + m]))  # each sample with its target
        np.testing.assert_array_equal(np.sort(Ys), np.arange(m))
        orders.append(Ys)
    assert (orders[0] != orders[1]).any()
    in_order = [backend.to_numpy(Yb) for (_, Yb, _), _, _ in Batches(backend, X, Y, None, 5).epoch()]
    np.testing.assert_array_equal(np.concatenate(in_order), np.arange(m))


def test_history_is_the_mean_cost_over_the_samples(rng):
    """With alpha so small that theta stays, the mean of the steps' costs is the cost of the whole."""
    X, Y = data(rng)
    trainer = nnx.Trainer(
        nnx.mlp([5, 3], output="softmax"), nnx.GradientDescent(1e-30), backend="numpy", dtype="float64"
    )
    history = trainer.fit(X, Y, epochs=3, batch_size=16, validation=(X, Y))
    np.testing.assert_allclose(history["loss"], history["validation_loss"], rtol=1e-12)
    assert set(history) == {"loss", "validation_loss", "validation_accuracy"}
    trainer.fit(X, Y, epochs=1)
    assert len(trainer.history["loss"]) == 4
    validation = trainer.history["validation_loss"]
    assert validation[:3] == history["validation_loss"]
    assert len(validation) == 4
    assert np.isnan(validation[3])  # the fourth epoch had no validation


def test_results_do_not_depend_on_the_batch_size_of_evaluation(backend, rng):
    X, Y = data(rng)
    trainer = nnx.Trainer(nnx.mlp([5, 4, 3], output="softmax"), backend=backend, dtype="float64")
    whole, parts = trainer.evaluate(X, Y), trainer.evaluate(X, Y, batch_size=9)
    assert whole["loss"] == pytest.approx(parts["loss"], rel=1e-12)
    assert whole["accuracy"] == parts["accuracy"]
    np.testing.assert_allclose(trainer.predict(X), trainer.predict(X, batch_size=9), rtol=1e-12)
    assert trainer.predict(X).shape == (3, 70)


def test_scores():
    """Accuracy and R2 against their definitions, worked by hand."""
    net = nnx.mlp([1, 1], output="identity")
    trainer = nnx.Trainer(net, backend="numpy", dtype="float64")
    trainer.parameters = {"W1": [[1.0]], "b1": [[0.0]]}
    assert trainer.evaluate([[1, 2, 3]], [1, 2, 4])["r2"] == pytest.approx(1 - 1 / (14 / 3))
    assert trainer.evaluate([[1, 2, 3]], [1, 2, 4])["loss"] == pytest.approx(0.5 / 3)
    assert trainer.evaluate([[2, 2]], [2, 2])["r2"] == 1
    assert trainer.evaluate([[2, 3]], [2, 2])["r2"] == 0  # as scikit-learn's r2_score for a constant target

    trainer = nnx.Trainer(nnx.mlp([2, 2], output="softmax"), backend="numpy")
    trainer.parameters = {"W1": np.eye(2), "b1": np.zeros((2, 1))}
    X = [[1, 0, 5], [0, 1, 4]]
    assert trainer.evaluate(X, [0, 1, 1])["accuracy"] == pytest.approx(2 / 3)
    assert trainer.evaluate(X, [[1, 0, 0], [0, 1, 1]])["accuracy"] == pytest.approx(2 / 3)

    trainer = nnx.Trainer(nnx.mlp([2, 2], output="sigmoid"), backend="numpy")
    trainer.parameters = {"W1": np.eye(2), "b1": np.zeros((2, 1))}
    X = [[1, -1, 5], [-1, 1, 4]]
    assert trainer.evaluate(X, [[1, 0, 1], [0, 1, 0]])["accuracy"] == pytest.approx(2 / 3)  # all labels right


def test_the_same_seed_gives_the_same_run(rng):
    X, Y = data(rng)

    def run(seed):
        trainer = nnx.Trainer(nnx.mlp([5, 4, 3], output="softmax"), backend="numpy", seed=seed)
        return trainer.fit(X, Y, epochs=3, batch_size=8)["loss"]

    assert run(3) == run(3)
    assert run(3) != run(4)


def test_a_saved_run_goes_on_as_if_nothing_had_happened(backend, rng, tmp_path):
    X, Y = data(rng)

    def fit(trainer, epochs):
        return trainer.fit(X, Y, epochs=epochs, batch_size=16, validation=(X, Y))

    def new():
        net = nnx.mlp([5, 8, 3], "leaky_relu(0.2)", "softmax")
        return nnx.Trainer(net, nnx.Adam(0.01, beta2=0.99), backend=backend, dtype="float64", seed=5)

    whole = new()
    fit(whole, 5)
    first = new()
    first.metadata["note"] = {"labels": ["a", "b", "c"]}
    fit(first, 2)
    first.save(tmp_path / "run.safetensors")
    second = nnx.Trainer.load(tmp_path / "run.safetensors", backend=backend)
    assert second.steps == first.steps == 10
    assert second.optimizer == first.optimizer
    assert second.metadata == first.metadata
    assert repr(second.network) == repr(first.network)
    assert second.evaluate(X, Y) == first.evaluate(X, Y)
    fit(second, 3)
    assert second.history == whole.history
    for name, p in whole.parameters.items():
        np.testing.assert_array_equal(second.parameters[name], p)


def test_a_run_goes_on_on_another_backend(backend, rng, tmp_path):
    X, Y = data(rng)
    first = nnx.Trainer(nnx.mlp([5, 8, 3], output="softmax"), backend="numpy", dtype="float64")
    first.fit(X, Y, epochs=2, batch_size=16)
    first.save(tmp_path / "run.safetensors")
    second = nnx.Trainer.load(tmp_path / "run.safetensors", backend=backend)
    assert second.backend is backend
    for trainer in (first, second):
        trainer.fit(X, Y, epochs=2, batch_size=16)
    for name, p in first.parameters.items():
        np.testing.assert_allclose(second.parameters[name], p, rtol=1e-10, atol=1e-12)


def test_the_model_file_is_plain_safetensors(tmp_path):
    """Any tool can read the weights, by the notes' names and shapes."""
    from safetensors.numpy import load_file

    trainer = nnx.Trainer(nnx.mlp([5, 4, 1]), backend="numpy")
    trainer.save(tmp_path / "run.safetensors")
    tensors = load_file(tmp_path / "run.safetensors")
    assert {name: p.shape for name, p in tensors.items()} == {
        **trainer.network.shapes,
        "optimizer.m": (29,),
        "optimizer.v": (29,),
    }
    np.testing.assert_array_equal(tensors["W1"], trainer.parameters["W1"])
    assert [path.name for path in tmp_path.iterdir()] == ["run.safetensors"]


def test_a_failed_save_leaves_the_last_good_file(tmp_path, monkeypatch):
    path = tmp_path / "run.safetensors"
    trainer = nnx.Trainer(nnx.mlp([5, 4, 1]), backend="numpy")
    trainer.save(path)
    good = path.read_bytes()

    def full_disk(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        trainer.save(path)
    assert path.read_bytes() == good
    assert list(tmp_path.iterdir()) == [path]


def test_parameters_are_set_and_read(backend, rng):
    net = nnx.mlp([3, 2, 1])
    trainer = nnx.Trainer(net, backend=backend, dtype="float64")
    trainer.fit(rng.standard_normal((3, 8)), rng.integers(0, 2, 8), epochs=3)
    params = {name: rng.standard_normal(shape) for name, shape in net.shapes.items()}
    trainer.parameters = params
    assert trainer.steps == 0  # a new start
    for name, p in trainer.parameters.items():
        np.testing.assert_array_equal(p, params[name])
        p[:] = 0  # reading gave a copy
        assert params[name].any()
    np.testing.assert_array_equal(trainer.parameters["W1"], params["W1"])


def test_the_first_parameters_may_be_given(backend, rng):
    net = nnx.mlp([5, 4, 3])
    theta = net.init(7, "float64")
    trainer = nnx.Trainer(net, backend=backend, dtype="float64", theta=backend.asarray(theta, "float64"))
    np.testing.assert_array_equal(trainer.theta, theta)
    assert nnx.Trainer(net, backend=backend, theta=theta.tolist()).theta.dtype == np.float32
    theta[:] = 0  # its own memory
    assert trainer.theta.any()
    with pytest.raises(nnx.InputError, match=r"theta has shape \(3,\); expected \(39,\)"):
        nnx.Trainer(net, backend=backend, theta=[1, 2, 3])


def test_x_may_come_from_any_library(backend, rng):
    X, Y = data(rng)
    expected = nnx.Trainer(nnx.mlp([5, 4, 3], output="softmax"), backend="numpy").evaluate(X, Y)
    foreign = backend.asarray(X, "float64"), backend.asarray(Y, "float64")
    for where in (backend, "numpy"):
        trainer = nnx.Trainer(nnx.mlp([5, 4, 3], output="softmax"), backend=where)
        assert trainer.evaluate(*foreign)["loss"] == pytest.approx(expected["loss"], rel=1e-5)
        trainer.fit(*foreign, epochs=2, batch_size=16, validation=foreign)
    lists = nnx.Trainer(nnx.mlp([5, 4, 3], output="softmax"), backend=backend)
    assert lists.evaluate(X.tolist(), Y.tolist())["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    lists.fit(X.tolist(), Y.tolist(), batch_size=16, validation=(X.tolist(), Y.tolist()))
    lists.parameters = trainer.network.unflatten(backend.asarray(trainer.network.init(), "float32"))
    lists.predict(X)[:] = 0  # the caller's own


def test_data_of_the_caller_stay_as_they_were(backend, rng):
    X, Y = data(rng)
    before = X.copy(), Y.copy()
    trainer = nnx.Trainer(nnx.mlp([5, 4, 3], output="softmax"), backend=backend, dtype="float64")
    trainer.fit(X, Y, epochs=2, batch_size=16)
    np.testing.assert_array_equal(X, before[0])
    np.testing.assert_array_equal(Y, before[1])
    X.flags.writeable = Y.flags.writeable = False  # nor need they be writeable
    trainer.fit(X, Y, epochs=1, batch_size=16)


def test_an_interrupt_keeps_the_steps_done(backend, rng):
    X, Y = data(rng)
    trainer = nnx.Trainer(nnx.mlp([5, 4, 3], output="softmax"), backend=backend)

    def stop(progress):
        if progress.epoch == 3 and progress.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer.fit(X, Y, epochs=10, batch_size=16, callbacks=stop)
    assert trainer.steps == 12
    assert len(trainer.history["loss"]) == 2
    trainer.fit(X, Y, epochs=1, batch_size=16)
    assert len(trainer.history["loss"]) == 3


def test_an_interrupt_before_an_epochs_first_step_leaves_its_order_to_the_next_fit(backend, rng):
    """So that going on reaches what a fit would have that nobody interrupted."""
    X, Y = data(rng)

    def trainer():
        return nnx.Trainer(nnx.mlp([5, 4, 3], output="softmax"), backend=backend, seed=1)

    straight, stopped = trainer(), trainer()
    straight.fit(X, Y, epochs=5, batch_size=16)
    stopped.fit(X, Y, epochs=2, batch_size=16)
    program = stopped.session.program
    program.run = interrupted
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(X, Y, epochs=3, batch_size=16)
    del program.run
    stopped.fit(X, Y, epochs=3, batch_size=16)
    assert stopped.history["loss"] == straight.history["loss"]


def interrupted(*arguments):
    raise KeyboardInterrupt


class Left(nnx.Callback):
    """Saves the trainer when the fit ends, however it does."""

    def __init__(self, path):
        self.path = path

    def on_fit_end(self, trainer):
        trainer.save(self.path)


@pytest.mark.parametrize("shuffle", [True, False])
def test_an_interrupt_between_a_step_and_its_count_loses_no_step(backend, rng, tmp_path, shuffle):
    """The step that was done is not done again where the fit goes on."""
    (X, Y), path = data(rng), tmp_path / "left.safetensors"

    def trainer():
        return nnx.Trainer(nnx.mlp([5, 4, 3], output="softmax"), backend=backend, seed=1)

    straight, stopped, resumed = trainer(), trainer(), trainer()
    straight.fit(X, Y, epochs=4, batch_size=16, shuffle=shuffle, callbacks=lambda progress: None)
    program, calls = stopped.session.program, []
    run = program.run

    def run_and_interrupt(*arguments):
        calls.append(run(*arguments))
        if len(calls) == 8:  # the third step of the second epoch
            raise KeyboardInterrupt
        return calls[-1]

    program.run = run_and_interrupt
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(
            X, Y, epochs=4, batch_size=16, shuffle=shuffle, callbacks=[lambda progress: None, Left(path)]
        )
    assert stopped.steps == 8
    resumed.fit(
        X, Y, epochs=4, batch_size=16, shuffle=shuffle, callbacks=[lambda progress: None], resume=path
    )
    assert resumed.steps == straight.steps == 20
    np.testing.assert_array_equal(resumed.theta, straight.theta)


class InterruptedReads(NumPy):
    """Its read of an array number `left`, from now on, is interrupted; 0: none is."""

    left = 0

    def to_numpy(self, x):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return super().to_numpy(x)


class Watch(nnx.Callback):
    """Sees steps, every one of them or some. Has the third read of a cost in the second epoch interrupted."""

    def __init__(self, backend, often):
        self.backend, self.often, self.samples = backend, often, []

    def on_step(self, trainer, progress):
        self.samples.append((progress.step, progress.samples))
        if self.often and progress.epoch == 2 and progress.step == 5:
            self.backend.left = 3

    def on_epoch(self, trainer, progress):
        if not self.often and progress.epoch == 1:
            self.backend.left = 3


@pytest.mark.parametrize("often", [True, False])
def test_an_interrupt_while_costs_are_read_counts_each_of_them_once(rng, tmp_path, often):
    """Also where several steps are done in one call: reading their costs waits for them, on a GPU for long."""
    (X, Y), path, backend = data(rng), tmp_path / "left.safetensors", InterruptedReads()

    def fit(backend, *callbacks, **options):
        trainer = nnx.Trainer(nnx.mlp([5, 4, 3], output="softmax"), backend=backend, seed=1)
        watch = Watch(trainer.backend, often)
        callbacks = [watch, *callbacks]
        history = trainer.fit(X, Y, epochs=4, batch_size=16, callbacks=callbacks, **options)
        return history, watch.samples

    with pytest.raises(KeyboardInterrupt):
        fit(backend, Left(path))
    history, samples = fit("numpy", resume=path)
    assert history == fit("numpy")[0]
    assert all(m == min(16 * step, X.shape[1]) for step, m in samples)


def test_progress_tells_where_a_fit_stands(rng):
    X, Y = data(rng)
    seen = []
    trainer = nnx.Trainer(nnx.mlp([5, 3], output="softmax"), backend="numpy")
    history = trainer.fit(X, Y, epochs=2, batch_size=32, callbacks=seen.append)
    assert [(p.epoch, p.step, p.samples, p.measured is None) for p in seen] == [
        (1, 1, 32, True),
        (1, 2, 64, True),
        (1, 3, 70, True),
        (1, 3, 70, False),
        (2, 1, 32, True),
        (2, 2, 64, True),
        (2, 3, 70, True),
        (2, 3, 70, False),
    ]
    assert [p.measured["loss"] for p in seen if p.measured] == history["loss"]


def test_every_step_goes_through_a_program(rng):
    """What an adapter compiles is what runs: the step, and the forward passes."""

    class Counting(NumPy):
        calls = 0

        def compile(self, function):
            def counted(*arguments):
                self.calls += 1
                return function(*arguments)

            return Program(counted)

    X, Y = data(rng)
    backend = Counting()
    trainer = nnx.Trainer(nnx.mlp([5, 3], output="softmax"), backend=backend)
    trainer.fit(X, Y, epochs=2, batch_size=32)
    assert backend.calls == 6
    trainer.predict(X, batch_size=10)
    assert backend.calls == 13


def test_a_backend_that_returns_too_few_costs_is_told(rng):
    class FewerCosts(Program):
        def run(self, *arguments):
            return super().run(*arguments)[1:]

    class Fewer(NumPy):
        def compile(self, function):
            return FewerCosts(function)

    X, Y = data(rng)
    with pytest.raises(nnx.BackendError, match=r"1 steps on <nnx backend numpy.* gave 0 costs"):
        nnx.Trainer(nnx.mlp([5, 3], output="softmax"), backend=Fewer()).fit(X, Y, epochs=1)


def test_a_deep_network_learns_the_flower(backend):
    X, Y = flower(400)
    trainer = nnx.Trainer(nnx.mlp([2, 32, 32, 1], "tanh"), nnx.Adam(0.01), backend=backend)
    trainer.fit(X / 4, Y, epochs=120, batch_size=100)
    assert trainer.evaluate(X / 4, Y)["accuracy"] > 0.9


def test_describe_is_json(rng):
    net = nnx.Network(4, [nnx.Dense(3, nnx.leaky_relu(0.3), init="lecun"), nnx.Dense(2)], output="exp")
    again = nnx.Network.from_description(json.loads(json.dumps(net.describe())))
    assert repr(again) == repr(net)
    theta, X = rng.standard_normal(net.P), rng.standard_normal((4, 6))
    np.testing.assert_array_equal(net.forward(theta, X), again.forward(theta, X))


def test_an_activation_of_ones_own_is_loaded_once_registered(tmp_path, monkeypatch):
    monkeypatch.setattr("nnx.model.activations.ACTIVATIONS", dict(nnx.ACTIVATIONS))
    own = nnx.Activation("cube", lambda Z: Z**3, lambda Z: 3 * Z**2, keep="Z")
    net = nnx.Network(3, [nnx.Dense(4, own), nnx.Dense(1)], output="identity")
    nnx.Trainer(net, backend="numpy").save(tmp_path / "run.safetensors")
    with pytest.raises(nnx.ModelFileError, match=r"unknown activation 'cube'.*register_activation"):
        nnx.Trainer.load(tmp_path / "run.safetensors", backend="numpy")
    nnx.register_activation(own)
    nnx.Trainer.load(tmp_path / "run.safetensors", backend="numpy")
    nnx.register_activation(nnx.Activation("my-own", lambda Z: Z, lambda A: 1 + 0 * A))
    assert nnx.Dense(3, "my-own").g.name == "my-own"
    with pytest.raises(nnx.InputError, match="nnx has an activation named 'relu' itself"):
        nnx.register_activation(nnx.Activation("relu", lambda Z: Z, lambda A: A))


def counting(backend, monkeypatch):
    """How many steps were done in each call, from now on, of the programs that the backend compiles."""
    counts, compiled = [], backend.compile

    def counted(function):
        program = compiled(function)
        run = program.run

        def call(*arguments):
            counts.append(arguments[-1])
            return run(*arguments)

        program.run = call
        return program

    monkeypatch.setattr(backend, "compile", counted)
    return counts


class EachEpoch(nnx.Callback):
    def __init__(self, epochs):
        self.epochs = epochs

    def on_epoch(self, trainer, progress):
        self.epochs.append(progress.epoch)


@pytest.mark.long
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("batch_size", "shuffle"), [(16, True), (16, False), (None, True), (3, True), (27, False)]
)
def test_epochs_that_nobody_sees_are_as_others(backend, batch_size, shuffle, weighted, rng, monkeypatch):
    """On end, several in one call of the backend where all batches have one size; what they are is the same."""
    X, Y = data(rng, m=64)
    weights = rng.random(64) if weighted else None
    options = {
        "network": nnx.mlp([5, 8, 3], output="softmax"),
        "optimizer": nnx.Adam(0.01),
        "dtype": "float64",
    }
    fit = {"epochs": 25, "batch_size": batch_size, "shuffle": shuffle, "sample_weight": weights}
    counts, steps = counting(backend, monkeypatch), -(-64 // (batch_size or 64))
    seen, unseen = (nnx.Trainer(**options, backend=backend) for _ in range(2))
    epochs = []
    seen.fit(X, Y, callbacks=EachEpoch(epochs), **fit)
    assert epochs == list(range(1, 26))
    assert max(counts) <= steps
    unseen.fit(X, Y, **fit)
    assert (max(counts) > steps) == (batch_size in (16, None))
    assert len(unseen.history["loss"]) == 25
    np.testing.assert_allclose(unseen.history["loss"], seen.history["loss"], rtol=1e-9)
    np.testing.assert_allclose(unseen.theta, seen.theta, rtol=1e-8, atol=1e-10)
    assert unseen.steps == seen.steps
    for trainer in (seen, unseen):  # the random numbers stand where they would
        trainer.fit(X, Y, epochs=1, batch_size=batch_size, shuffle=shuffle)
    np.testing.assert_allclose(unseen.theta, seen.theta, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("shuffle", [True, False])
def test_an_epoch_that_nobody_sees_and_that_leads_nowhere_is_found(backend, rng, shuffle):
    X, Y = rng.standard_normal((5, 32)), rng.standard_normal((1, 32))
    # The rate is too large by a factor of two or so: the cost grows, for dozens of epochs.
    options = {"network": nnx.mlp([5, 1], output="identity"), "optimizer": nnx.GradientDescent(2.5)}
    found = []
    for callbacks in ((), EachEpoch([])):
        trainer = nnx.Trainer(**options, backend=backend)
        with pytest.raises(nnx.DivergenceError) as caught:
            trainer.fit(X, Y, epochs=200, batch_size=16, callbacks=callbacks, shuffle=shuffle)
        found.append((str(caught.value), trainer.theta, trainer.records, trainer.rng.bit_generator.state))
        assert 1 < len(trainer.records) < 199
        assert trainer.steps == 2 * len(trainer.records)
    (message, theta, records, rng_state), expected = found
    assert message == expected[0]
    np.testing.assert_array_equal(theta, expected[1])
    assert (records, rng_state) == expected[2:]


def test_epochs_are_done_at_once_only_where_nobody_sees_each(rng, monkeypatch):
    monkeypatch.setattr("nnx.train.steps.SECONDS_PER_CALL", 1e9)  # however long a step takes
    backend = NumPy()
    counts = counting(backend, monkeypatch)
    X, Y = data(rng, m=64)

    def most(X=X, Y=Y, epochs=300, **fit):
        """The epochs in one call, at most."""
        counts.clear()
        trainer = nnx.Trainer(nnx.mlp([5, 3], output="softmax"), backend=backend)
        trainer.fit(X, Y, epochs=epochs, **fit)
        assert len(trainer.records) == epochs
        return max(counts, default=0) * epochs / trainer.steps

    assert most(batch_size=16) == 299  # after the first, which tells how long they take
    assert most() == 299
    assert most(batch_size=16, epochs=1030) == 1024  # 4096 steps
    assert most(batch_size=30, epochs=30) < 1  # 30, 30, 4
    assert most(batch_size=16, micro_batch=4, epochs=30) < 1
    assert most(batch_size=16, validation=(X, Y), epochs=30) <= 1
    assert most(batch_size=16, callbacks=EachEpoch([]), epochs=30) <= 1
    many = np.tile(X, 1 << 11), np.tile(Y, 1 << 11)  # the orders of two epochs are all that is drawn at once
    assert most(*many, epochs=7, batch_size=1 << 16) == 2
    assert most(*many, epochs=7, batch_size=1 << 16, shuffle=False) == 6


class Interrupted(NumPy):
    """Once, where `then` says, in the first call of several epochs from then on, or in what is done with its result."""

    then = now = None

    def interrupt(self, place):
        if self.now == place:
            self.now = None
            raise KeyboardInterrupt

    def compile(self, function):
        program = super().compile(function)
        kind = type("InterruptedProgram", (Interrupting, type(program)), {"backend": self})
        program.__class__ = kind
        return program

    def to_numpy(self, x):
        self.interrupt("losses")
        return super().to_numpy(x)


class Interrupting:
    """A program that is interrupted in a call of several epochs, or when it looks at its state, or rolls it back."""

    def run(self, *arguments):
        backend, Js = self.backend, super().run(*arguments)
        if arguments[-1] > 4 and backend.then:
            backend.now, backend.then = backend.then, None
            backend.interrupt("steps")
            if backend.now == "come back":  # since the epochs led nowhere
                return [np.asarray(np.nan)] * arguments[-1]
        return Js

    def rollback(self):
        self.backend.interrupt("come back")
        super().rollback()

    @property
    def finite(self):
        self.backend.interrupt("look")
        return super().finite


@pytest.mark.parametrize("where", ["steps", "losses", "look", "come back"])
def test_an_interrupt_among_epochs_that_nobody_sees_loses_no_more_than_they(where, rng):
    """Whenever it comes, the trainer is as before the call of several epochs, and goes on from there."""
    X, Y = data(rng, m=64)
    network, backend = nnx.mlp([5, 3], output="softmax"), Interrupted()
    trainer, expected = nnx.Trainer(network, backend=backend), nnx.Trainer(network, backend="numpy")
    for one in (trainer, expected):
        one.fit(X, Y, epochs=3, batch_size=16)
    backend.then = where
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(X, Y, epochs=2000, batch_size=16)
    done = len(trainer.records)
    assert trainer.steps == 4 * done
    for one, epochs in ((trainer, 10), (expected, done - 3 + 10)):
        one.fit(X, Y, epochs=epochs, batch_size=16)
    np.testing.assert_array_equal(trainer.theta, expected.theta)
    assert trainer.history == expected.history
