"""Bad input gets a clear error: what was given, what was expected, what to do."""

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import nnx
from nnx.io import container


@pytest.fixture
def trainer():
    return nnx.Trainer(nnx.mlp([4, 3, 3], output="softmax"), backend="numpy")


@pytest.fixture
def X(rng):
    return rng.standard_normal((4, 6))


Y = np.array([0, 1, 2, 0, 1, 2])


def raises(*fragments, error=nnx.InputError):
    return pytest.raises(error, match="(?s)" + ".*".join(fragments))


def test_wrong_number_of_features(trainer, X):
    with raises(r"X has shape \(5, 6\); expected \(n\[0\], m\) = \(4, m\)$"):
        trainer.fit(np.ones((5, 6)), Y)
    with raises(r"X has shape \(6, 4\)", r"its transpose X\.T would fit, and so would rows=True"):
        trainer.fit(X.T, Y)
    with raises(r"X has shape \(3,\); expected \(n\[0\], m\) = \(4, m\)"):
        trainer.predict(X[:3, 0])
    with raises(r"\(2, 4, 6\); expected two axes"):
        trainer.predict(np.stack([X, X]))
    with raises(r"validation's X has shape \(3, 6\)"):
        trainer.fit(X, Y, validation=(X[:3], Y))
    with raises(r"X has shape \(6, 4\)", "would fit"):
        trainer.network.forward(trainer.network.init(), X.T)


def test_empty_X(trainer):
    with raises("X is empty", r"\(4, 0\)"):
        trainer.fit(np.ones((4, 0)), [])
    with raises("X is empty"):
        trainer.predict(np.ones((4, 0)))


def test_Y_that_does_not_fit(trainer, X):
    with raises(r"Y has shape \(5,\)", r"\(n\[L\], m\) = \(3, 6\), or class indices \(6,\)"):
        trainer.fit(X, Y[:5])
    with raises(r"Y has shape \(6, 3\)", r"its transpose Y\.T would fit"):
        trainer.fit(X, np.eye(3)[Y])
    with raises(r"Y has shape \(2, 6\)"):
        trainer.fit(X, np.ones((2, 6)))
    one_off = np.eye(3)[:, Y]
    one_off[0, 4] += 0.5
    for wrong in (np.full((3, 6), 0.5), np.where(one_off > 1, 1, one_off)):
        with raises("columns must each sum to 1", "use the output 'sigmoid'"):
            trainer.fit(X, wrong)
    with raises("a single softmax output is always 1; use 'sigmoid'"):
        nnx.Trainer(nnx.mlp([4, 1], output="softmax"), backend="numpy").fit(X, Y % 2)
    with raises(r"Y has shape \(6,\); expected \(n\[L\], m\) = \(3, 6\) for the output 'identity'"):
        nnx.Trainer(nnx.mlp([4, 3], output="identity"), backend="numpy").fit(X, Y)
    with raises(r"Y has shape \(2, 6\); expected \(n\[L\], m\) = \(3, 6\), or class"):
        trainer.network.loss_and_gradient(trainer.network.init(dtype="float64"), X, np.ones((2, 6)))


def test_labels_outside_the_classes(trainer, X):
    with raises(r"labels from 0 to 3; expected 0\.\.2 for n\[L\] = 3"):
        trainer.fit(X, Y + np.array([0, 0, 0, 0, 0, 1]))
    with raises("labels from -1 to 2"):
        trainer.fit(X, np.array([0, 1, 2, 0, 1, -1]))
    for wrong in (Y + 0.5, np.where(Y == 2, 1.5, Y)):
        with raises("whole numbers"):
            trainer.fit(X, wrong)
    with raises("holds text", "numpy.unique"):
        trainer.fit(X, ["a", "b", "c", "a", "b", "c"])
    binary = nnx.Trainer(nnx.mlp([4, 1]), backend="numpy")
    with raises("values from 1 to 2", "class labels: 0 and 1"):
        binary.fit(X, [1, 2, 1, 2, 1, 2])
    with raises("expects values >= 0"):
        nnx.Trainer(nnx.mlp([4, 1], output="exp"), backend="numpy").fit(X, -np.ones(6))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_numbers_that_are_not_finite(trainer, X, bad):
    """1e300 is finite in float64, but not in the trainer's float32."""
    X[2, 3] = X[3, 1] = bad
    with raises(
        "X has 2 values that are NaN, infinite or too large for float32",
        r"the first, at \[2, 3\] \(feature 2, sample 3, counted from 0\), is",
    ):
        trainer.fit(X, Y)
    with raises("X has 2 values that are NaN"):
        trainer.predict(X)
    regression = nnx.Trainer(nnx.mlp([4, 1], output="identity"), backend="numpy")
    with raises(r"Y has 1 value that is NaN", r"at \[1\] \(sample 1, counted from 0\), is"):
        regression.fit(np.ones((4, 2)), [1.0, bad])


def test_X_that_is_no_array_of_numbers(trainer):
    with raises("X cannot be made an array"):
        trainer.predict([[1, 2], [3]])
    with raises("X holds text such as 'a';"):
        trainer.predict([["a"], ["b"], ["c"], ["d"]])
    with raises("complex"):
        trainer.predict(np.ones((4, 2), complex))
    with raises("objects"):
        trainer.predict(np.array([[None]] * 4))
    with raises("masked array", "filled"):
        trainer.predict(np.ma.masked_invalid([[1.0], [2.0], [3.0], [np.nan]]))
    try:
        torch = nnx.backend("torch").xp
    except nnx.BackendError:
        return
    with raises("numbers of dtype torch.complex64; expected real"):
        trainer.predict(torch.ones((4, 2), dtype=torch.complex64))


@pytest.mark.parametrize("sizes", [[4, 0, 1], [4, -1], [4.0, 1], [True, 1], ["4", 1]])
def test_sizes_that_are_not_positive_integers(sizes):
    with raises(r"sizes\[\d\] must be a positive integer, not"):
        nnx.mlp(sizes)


def test_networks_that_cannot_be():
    for sizes in ([4], [], 4, "441"):
        with raises("sizes must "):
            nnx.mlp(sizes)
    with raises("at least one layer"):
        nnx.Network(4, [], output="softmax")
    with raises("the last layer must be a Dense without an activation", "softmax"):
        nnx.Network(4, [nnx.Dense(3, "relu")], output="softmax")
    with raises("units of a Dense layer, must be a positive integer"):
        nnx.Dense(0)


def test_unknown_names_come_with_the_nearest():
    with raises("unknown activation 'rleu'; did you mean 'relu'"):
        nnx.mlp([4, 3, 1], hidden="rleu")
    with raises("unknown output 'softmaxx'; did you mean 'softmax'"):
        nnx.mlp([4, 3, 1], output="softmaxx")
    with raises("unknown initializer 'hee'; did you mean 'he'"):
        nnx.Dense(3, init="hee")
    with raises("unknown initializer 'glorott'; did you mean 'glorot'"):
        nnx.mlp([4, 1]).init(scheme="glorott")
    for wrong in ("float16", None):
        with raises(f"unknown dtype {wrong!r}"):
            nnx.Trainer(nnx.mlp([4, 1]), dtype=wrong, backend="numpy")
    with raises("unknown parameter 'w1'; did you mean 'W1'", error=nnx.InputError):
        nnx.mlp([4, 1]).flatten({"w1": np.ones((1, 4)), "b1": np.ones((1, 1))})


def test_arguments_out_of_range(trainer, X):
    for alpha in (1.0, -0.1, float("nan")):
        with raises(r"alpha must be in \[0, 1\)"):
            nnx.leaky_relu(alpha)
    with raises("takes no parameter"):
        nnx.Dense(3, "relu(3)")
    with raises(r"leaky_relu\(2\)"):
        nnx.Dense(3, "leaky_relu(2)")
    with raises(r"leaky_relu\(1-2\)"):
        nnx.Dense(3, "leaky_relu(1-2)")
    for rate in (0, -1, float("inf"), float("nan")):
        with raises("learning_rate must be greater than 0"):
            nnx.GradientDescent(rate)
    with raises("beta2 must be between 0 and 1, not 1"):
        nnx.Adam(beta2=1)
    for epochs in (0, -1, 1.5, "3"):
        with raises("epochs must be a positive integer"):
            trainer.fit(X, Y, epochs=epochs)
    with raises("batch_size must be a positive integer"):
        trainer.fit(X, Y, batch_size=0)
    for wrong in ("cosine", abs, nnx.schedules.Cosine):
        with raises("learning_rate must be greater than 0 and finite, not", "Custom"):
            nnx.Adam(wrong)
    with raises("learning_rate must be greater than 0 and finite, not '0.1'"):
        nnx.Adam("0.1")
    with raises("unknown optimizer 'adan'; did you mean 'adam'"):
        nnx.Trainer(trainer.network, "adan")
    assert nnx.Trainer(trainer.network, "adam", backend="numpy").optimizer == nnx.Adam()
    for wrong in (nnx.Adam, 3):
        with raises("the optimizer must be a name or an instance such as nnx.Adam()"):
            nnx.Trainer(trainer.network, wrong)
    with raises(r"network must be an nnx.Network, .* given \[4, 3\]"):
        nnx.Trainer([4, 3])
    for wrong in (0.2, X):
        with raises("validation must be a pair"):
            trainer.fit(X, Y, validation=wrong)
    with raises("keep, what dg takes, must be 'A', 'Z' or 'ZA', or '' .*; given 'z'"):
        nnx.Activation("own", np.sin, np.cos, keep="z")
    with raises("nnx has an activation named 'relu' itself"):
        nnx.Dense(3, nnx.Activation("relu", np.sin, np.cos, keep="Z"))
    with raises("X is float64, theta is float32"):
        trainer.network.forward(trainer.network.init(), X)
    with raises("seed must be an integer >= 0"):
        nnx.mlp([4, 1]).init(seed=-1)


def test_parameters_that_do_not_fit(trainer):
    good = trainer.parameters
    with raises("'b2' is missing; expected W1, b1, W2, b2"):
        trainer.parameters = {name: p for name, p in good.items() if name != "b2"}
    with raises(r"W1 has shape \(4, 3\); expected \(3, 4\); its transpose would fit"):
        trainer.parameters = {**good, "W1": good["W1"].T}
    with raises(r"b1 has shape \(3,\); expected \(3, 1\)"):
        trainer.parameters = {**good, "b1": np.zeros(3)}
    with raises(r"b1 has 1 value that is NaN.*at \[1, 0\] \(counted from 0\), is nan$"):
        trainer.parameters = {**good, "b1": [[0.0], [np.nan], [0.0]]}
    with raises("one network, not a stack"):
        trainer.parameters = {name: np.stack([p, p]) for name, p in good.items()}
    with raises(r"theta has shape \(7,\); expected \(\.\.\., 27\)"):
        trainer.network.unflatten(np.zeros(7))


@pytest.fixture
def model(tmp_path, trainer):
    trainer.save(tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def rewritten(model, tensors=None, **metadata):
    """The model with some of its parts replaced, and the checksum of what it then holds."""
    from safetensors import safe_open

    with safe_open(model, framework="numpy") as file:
        old = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        kept = {name: text for name, text in file.metadata().items() if name != "sha256"}
    parts = container.packed({**old, **(tensors or {})}, {**kept, **metadata})
    Path(model).write_bytes(b"".join(parts))
    return model


def test_model_files_that_are_none(model, tmp_path):
    load = nnx.Trainer.load
    with pytest.raises(FileNotFoundError, match="there is no model file"):
        load(tmp_path / "nowhere.safetensors")
    whole = model.read_bytes()
    for length in (0, 5, 50, len(whole) - 1):
        model.write_bytes(whole[:length])
        with raises("truncated or no safetensors file", f"{length} bytes", error=nnx.ModelFileError):
            load(model)
    model.write_bytes(pickle.dumps({"W1": 1}))
    with raises("truncated or no safetensors file", error=nnx.ModelFileError):
        load(model)
    save_file({"W1": np.zeros(3)}, model)
    with raises("a safetensors file, but not an nnx model", error=nnx.ModelFileError):
        load(model)


def test_model_files_that_do_not_fit_together(model, tmp_path):
    load = nnx.Trainer.load
    copy = shutil.copy(model, tmp_path / "copy.safetensors")
    with raises("is damaged: its format version is 'two'", error=nnx.ModelFileError):
        load(rewritten(copy, format_version="two"))
    copy = shutil.copy(model, tmp_path / "copy.safetensors")
    with raises(
        "format version '3'", "reads up to version 2", "python -m pip install -U", error=nnx.ModelFileError
    ):
        load(rewritten(copy, format_version="3"))
    copy = shutil.copy(model, tmp_path / "copy.safetensors")
    with raises("does not describe a run", r"W1 has shape \(2, 2\)", error=nnx.ModelFileError):
        load(rewritten(copy, {"W1": np.zeros((2, 2))}))
    copy = shutil.copy(model, tmp_path / "copy.safetensors")
    with raises("unknown parameter 'W9'", error=nnx.ModelFileError):
        load(rewritten(copy, {"W9": np.zeros((2, 2))}))
    copy = shutil.copy(model, tmp_path / "copy.safetensors")
    with raises("optimizer.m", error=nnx.ModelFileError):
        load(rewritten(copy, {"optimizer.m": np.zeros(2)}))
    copy = shutil.copy(model, tmp_path / "copy.safetensors")
    with raises("optimizer.zz is not of the optimizer", error=nnx.ModelFileError):
        load(rewritten(copy, {"optimizer.zz": np.zeros(2)}))
    copy = shutil.copy(model, tmp_path / "copy.safetensors")
    with raises("W1 has 12 values that are NaN", error=nnx.ModelFileError):
        load(rewritten(copy, {"W1": np.full((3, 4), np.nan, "float32")}))
    for text in ("{", "[]", "{}", "[" * 100_000):
        copy = shutil.copy(model, tmp_path / "copy.safetensors")
        with raises("descri", error=nnx.ModelFileError):
            load(rewritten(copy, description=text))


@pytest.mark.parametrize(
    ("part", "wrong", "reason"),
    [
        ("steps", -1, r"description.steps is -1; expected a whole number from 0"),
        ("steps", "7", "steps is '7'; expected a whole number"),
        ("steps", 10**99, "expected a whole number from 0 to 2147483647"),
        ("alpha", None, "alpha is None; expected a finite number"),
        ("records", "abc", "records is 'abc'; expected a list"),
        ("records", [3], r"records\[0\] is 3; expected an object"),
        ("metadata", None, "metadata is None; expected an object"),
        ("rng", {"bit_generator": "PCG64", "state": -1}, "rng.state is -1; expected an object"),
        ("dtype", "float16", "unknown dtype 'float16'"),
        ("seed", -1, "seed is -1; expected a whole number >= 0"),
        ("optimizer", {"name": "adam", "beta9": 1}, "beta9"),
        (
            "network",
            {"n_features": 10**12, "layers": [{"kind": "Dense", "n": 10**12}], "output": "identity"},
            "more than any array holds",
        ),
        (
            "network",
            {"n_features": 4, "layers": [{"kind": "Dance", "n": 3}], "output": "identity"},
            "unknown layer 'Dance'",
        ),
    ],
)
def test_descriptions_with_a_wrong_part(model, part, wrong, reason):
    _, run = container.read(model)
    rewritten(model, description=json.dumps({**run, part: wrong}))
    with raises("does not describe a run that nnx can load", reason, error=nnx.ModelFileError):
        nnx.Trainer.load(model)


def test_tensors_of_foreign_types(tmp_path):
    """bfloat16, which NumPy does not have: the file is refused for what it is before its tensors are read."""
    header = json.dumps({"x": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}).encode()
    path = tmp_path / "foreign.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0")
    with raises("but not an nnx model", error=nnx.ModelFileError):
        nnx.Trainer.load(path)


@pytest.mark.skipif(os.name == "nt", reason="Windows takes a name of 250 characters only with settings")
def test_a_failed_write_names_the_file_that_was_asked_for(trainer, tmp_path):
    path = tmp_path / ("m" * 260)
    with pytest.raises(OSError, match="too long") as caught:
        trainer.save(path)
    assert caught.value.filename == str(path)


def test_what_cannot_be_saved_is_named(trainer, tmp_path):
    trainer.metadata["x"] = np.float32(1)
    with raises("the trainer's metadata cannot be saved: Object of type float32", "numbers of Python"):
        trainer.save(tmp_path / "m.safetensors")
    with raises("there is no folder", "make it first"):
        nnx.Trainer(trainer.network, backend="numpy").save(tmp_path / "no" / "m.safetensors")
    with raises("is a folder; expected the name of a file"):
        nnx.Trainer(trainer.network, backend="numpy").save(tmp_path)

    class Mine(type(trainer.optimizer)):
        pass

    with raises("cannot name the optimizer", "nnx.OPTIMIZERS"):
        nnx.Trainer(trainer.network, Mine(), backend="numpy").save(tmp_path / "m.safetensors")
    assert not list(tmp_path.iterdir())


def test_numbers_of_numpy_are_taken_as_numbers(tmp_path, X):
    net = nnx.Network(
        4, [nnx.Dense(3, nnx.leaky_relu(np.float64(0.2))), nnx.Dense(np.int64(3))], output="softmax"
    )
    trainer = nnx.Trainer(net, nnx.Adam(np.float32(0.5)), backend="numpy", seed=np.int64(3))
    trainer.save(tmp_path / "m.safetensors")
    again = nnx.Trainer.load(tmp_path / "m.safetensors", backend="numpy")
    np.testing.assert_array_equal(again.predict(X), trainer.predict(X))
    assert (again.seed, again.optimizer) == (3, nnx.Adam(0.5))
    assert nnx.mlp(np.array([4, 3, 1])).n == (4, 3, 1)


def test_a_cost_that_is_not_finite_stops_the_training(X, rng):
    trainer = nnx.Trainer(
        nnx.mlp([4, 8, 1], output="identity"), nnx.GradientDescent(1e9), backend="numpy", dtype="float32"
    )
    with raises(
        "the cost became (inf|nan) in step", "Try a learning rate below 1e\\+09", error=nnx.DivergenceError
    ):
        trainer.fit(X, Y, epochs=50)
    assert len(trainer.records) == trainer.steps >= 1  # as it was before that epoch
    assert all(np.isfinite(p).all() for p in trainer.parameters.values())
    huge = nnx.Trainer(nnx.mlp([4, 1], output="identity"), nnx.GradientDescent(1e38), backend="numpy")
    with raises(
        "the parameters, or the optimizer's memory, became infinite or NaN in epoch 1",
        error=nnx.DivergenceError,
    ):
        huge.fit(1e3 * X, Y)
    with raises("the cost became (inf|nan) in step 2 of epoch 1", error=nnx.DivergenceError):
        huge.fit(1e3 * X, Y, batch_size=3)
    assert huge.steps == 0
    assert huge.rng.bit_generator.state == np.random.default_rng(0).bit_generator.state  # nor a shuffle


def test_a_memory_of_the_optimizer_that_overflows(tmp_path):
    """Adam squares the derivative, which is infinite before the cost is."""
    trainer = nnx.Trainer(nnx.mlp([1, 1], output="identity"), nnx.Adam(0.1), backend="numpy")
    with raises("or the optimizer's memory, became infinite", error=nnx.DivergenceError):
        trainer.fit([[1e10, -1e10]], [1e12, -1e12], epochs=5)
    trainer.save(tmp_path / "m.safetensors")
    nnx.Trainer.load(tmp_path / "m.safetensors", backend="numpy")


def test_an_interrupt_in_a_diverging_epoch_keeps_nothing_of_it(X):
    trainer = nnx.Trainer(nnx.mlp([4, 8, 1], output="identity"), nnx.GradientDescent(1e9), backend="numpy")
    before = trainer.parameters["W1"]

    def stop(progress):
        if progress.step == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer.fit(X, Y, epochs=1, batch_size=1, callbacks=stop)
    assert trainer.steps == 0
    np.testing.assert_array_equal(trainer.parameters["W1"], before)


def test_a_validation_that_is_not_finite_is_named(X):
    trainer = nnx.Trainer(nnx.mlp([4, 3, 1], output="identity"), backend="numpy")
    with raises(
        "the cost of the validation became inf", "out of range in the validation", error=nnx.DivergenceError
    ):
        trainer.fit(X, Y, validation=(X * 1e30, Y))
    assert (trainer.steps, trainer.records) == (0, [])


def test_names_of_activations_are_not_confused():
    for name in ("leaky_relu", "leaky_relu(0.2)", "relu", "relu(2)"):
        own = nnx.Activation(name, lambda Z: Z * Z, lambda Z: 2 * Z, keep="Z")
        for use in (lambda own=own: nnx.Dense(3, own), lambda own=own: nnx.register_activation(own)):
            with raises("activation"):
                use()
    assert nnx.Dense(3, nnx.leaky_relu(0.2)).g is nnx.leaky_relu(0.2)
    with raises("expected an nnx.Activation, not 'swish'"):
        nnx.register_activation("swish")
    for wrong in ({"init": [1]}, {"activation": ["relu"]}):
        with raises("unknown"):
            nnx.Dense(3, **wrong)
    with raises("unknown output"):
        nnx.mlp([3, 1], output=["a"])
    with raises(r"activation of your own needs its derivative, too: nnx\.Activation"):
        nnx.mlp([3, 2, 1], hidden=abs)
    with raises("softmax is an output", "output='softmax'"):
        nnx.Dense(3, "softmax")
    for loss, meant in (("mean_squared_error", "half_squared_error"), ("mae", "absolute_error")):
        with raises(f"did you mean '{meant}'"):
            nnx.mlp([3, 1], output="identity", loss=loss)
    with raises("did you mean 'mean_squared_error'"):
        nnx.Trainer(nnx.mlp([4, 1]), backend="numpy").evaluate(np.ones((4, 2)), [0, 1], metrics=["mse"])


def test_an_unknown_backend_is_no_fault_of_the_model_file(model):
    with raises("unknown backend 'nunpy'") as caught:
        nnx.Trainer.load(model, backend="nunpy")
    assert not isinstance(caught.value, nnx.ModelFileError)


def test_what_a_callback_raises_names_it_and_keeps_the_state(trainer, X):
    def fail(progress):
        raise KeyError("mine")

    class Failing(nnx.Callback):
        def on_epoch(self, trainer, progress):
            raise OSError("all mine")

    with raises("callback .*fail raised KeyError in on_step: 'mine'", error=nnx.CallbackError) as caught:
        trainer.fit(X, Y, callbacks=fail)
    assert isinstance(caught.value.__cause__, KeyError)
    assert trainer.steps == 1
    with raises(
        "callback Failing raised OSError in on_epoch: all mine", "can go on", error=nnx.CallbackError
    ):
        trainer.fit(X, Y, callbacks=[Failing()])
    assert (trainer.steps, len(trainer.records)) == (2, 1)
    trainer.fit(X, Y, epochs=1)
    for wrong in (3, "bar", nnx.Callback, [nnx.Callback(), None]):
        with raises("a callback must be an instance of nnx.Callback or a function"):
            trainer.fit(X, Y, callbacks=wrong)
