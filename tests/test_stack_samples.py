"""Members that hold out samples of their own, and what is measured of each: as in its single run."""

import numpy as np
import pytest

import nnx
from nnx.callbacks.base import Callbacks
from nnx.train.request import Request
from nnx.train.stack_fit import fit_stack

RATES, SEEDS = [0.1, 0.02, 0.05], [4, 9, 2]
LONG = [pytest.param("torch", marks=pytest.mark.long)]


def net(*layers, classes=3):
    return nnx.Network(4, [nnx.Dense(5, "tanh"), *layers, nnx.Dense(classes)], "softmax")


def samples(m=42):
    rng = np.random.default_rng(3)
    X = rng.standard_normal((4, m)).astype("float32")
    return X, (X[0] > 0) + 1 * (X[1] > 0.7)


def check_single_runs(given, network=None, backend="numpy", rtol=0, X=None, **fit):
    """Fit a stack and its single runs; `given(k)` are the arguments of member k, `given(None)` those of the stack."""
    network = network or net()
    stack = nnx.Trainer(network, nnx.Momentum(RATES), backend, seed=SEEDS, members=3)
    given_X = samples()[0] if X is None else X
    Y = samples()[1] if hasattr(given_X, "shape") else None
    fit = {"epochs": 4, "batch_size": 8, **fit}
    stack.fit(given_X, Y, **fit, **given(None))
    for k, (rate, seed) in enumerate(zip(RATES, SEEDS, strict=True)):
        single = nnx.Trainer(network, nnx.Momentum(rate), backend, seed=seed)
        single.fit(given_X, Y, **fit, **given(k))
        session = stack.each[k].session
        assert session.measures == single.measures
        assert (session.stopped, session.kept) == (single.stopped, single.kept)
        for mine, its in zip(session.records, single.records, strict=True):
            assert mine.keys() == its.keys()
            for name, x in mine.items():
                np.testing.assert_allclose(x, its[name], rtol=1e-5, atol=1e-7, err_msg=name)
        if single.held_out is not None:
            np.testing.assert_array_equal(session.held_out, single.held_out)
        np.testing.assert_allclose(session.theta, single.theta, rtol=rtol, atol=rtol / 10)
    return stack


def both(**given):
    return lambda k: given


@pytest.mark.parametrize("backend", ["numpy", "cupy", *LONG], indirect=True)
@pytest.mark.parametrize("shuffle", [True, False])
def test_each_member_holds_out_samples_by_its_seed(backend, shuffle):
    metrics = ["accuracy", "top_k(2)", "confusion_matrix"]
    given = both(
        validation_split=0.25, metrics=metrics, shuffle=shuffle, callbacks=nnx.EarlyStopping(patience=1)
    )
    rtol = 0 if backend.name == "numpy" else 1e-4
    stack = check_single_runs(given, backend=backend, rtol=rtol, epochs=12)
    assert len({*map(tuple, stack.held_out)}) == 3
    assert len({*map(len, stack.records)}) > 1  # the stack closes up


@pytest.mark.parametrize(
    ("own", "class_weight", "share", "training_metrics"),
    [
        (False, None, None, 10),
        (False, {1: 3.0}, None, 1000),
        (False, "balanced", 0.25, True),
        (False, {1: 3.0}, 0.25, 10),
        (True, None, None, True),
        (True, "balanced", None, 10),
        (True, None, 0.25, 1000),
        (True, "balanced", 0.25, 10),
    ],
)
def test_weights_of_members_are_those_of_their_single_runs(own, class_weight, share, training_metrics):
    w = 1.0 + np.random.default_rng(1).integers(0, 3, (3, 42) if own else 42)
    given = {"metrics": ["accuracy", "confusion_matrix"], "training_metrics": training_metrics}

    def arguments(k):
        its = w[k] if own and k is not None else w
        return {"sample_weight": its, "class_weight": class_weight, "validation_split": share, **given}

    check_single_runs(arguments, epochs=2)


def test_weights_beyond_the_dtype_are_scaled_for_all_members_alike():
    w = 1e300 * (1.0 + np.random.default_rng(1).integers(0, 3, (3, 42)))
    given = {"metrics": ["confusion_matrix"], "validation_split": 0.25, "training_metrics": True}
    check_single_runs(lambda k: {"sample_weight": w if k is None else w[k], **given}, epochs=2, rtol=1e-5)


def test_training_metrics_of_all_members():
    stack = check_single_runs(both(training_metrics=True))
    assert sorted(stack.records[0][0]) == ["accuracy", "loss"]


@pytest.mark.parametrize("backend", ["numpy", *LONG], indirect=True)
@pytest.mark.parametrize(
    ("micro_batch", "own"),
    [
        pytest.param(3, False, marks=pytest.mark.long),
        (3, True),
        pytest.param(8, True, marks=pytest.mark.long),
        (100, False),
    ],
)
def test_members_train_in_micro_batches(backend, micro_batch, own):
    w = np.random.default_rng(1).integers(0, 2, (3, 42)) * (np.arange(42) // 8 != 2) if own else None

    def given(k):
        its = w if k is None or w is None else w[k]
        return {"sample_weight": its, "micro_batch": micro_batch, "shuffle": micro_batch < 8}

    rtol = 0 if backend.name == "numpy" and not own else 1e-4
    check_single_runs(given, net(nnx.Dropout(0.3)), backend, rtol, epochs=3)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"validation_split": 1.5}, "validation_split must be between 0 and 1"),
        ({"validation_split": 0.2, "validation": samples()}, "both given"),
        ({"metrics": ["accuracy"], "training_metrics": False}, "nothing to measure them on"),
        ({"training_metrics": 0}, "training_metrics must be"),
        ({"training_metrics": 20, "sample_weight": np.tri(3, 42, 10)}, "has 11 samples with weights above 0"),
        ({"sample_weight": np.ones((3, 41))}, r"\(K, m\) = \(3, 42\)"),
        ({"batch_size": 1}, "on which BatchNorm cannot train"),
        ({"micro_batch": 2}, "micro_batch cannot be used with BatchNorm"),
        ({"metrics": ["r2"], "validation_split": 0.2}, "r2"),
        ({"X": "file"}, "each would shuffle it in its own; give shuffle=False"),
        ({"X": "file", "validation_split": 0.2}, "are for samples in memory"),
        ({"X": "file", "sample_weight": np.ones((3, 42))}, "are for samples in memory"),
        ({"X": [samples()], "Y": None, "validation_split": 0.2}, "batches that are given cannot be split"),
        ({"steps": 3}, "steps=3 is given with X and Y"),
    ],
)
def test_wrong_samples_of_members_are_errors(given, says, tmp_path):
    stack = nnx.Trainer(net(nnx.BatchNorm()), backend="numpy", members=3)
    X, Y = samples()
    if given.get("X") == "file":
        np.save(tmp_path / "X.npy", X)
        given = {**given, "X": np.load(tmp_path / "X.npy", mmap_mode="r")}
    with pytest.raises(nnx.InputError, match=says):
        stack.fit(**{"X": X, "Y": Y, "epochs": 1, "batch_size": 8 if "Y" not in given else None, **given})


def test_samples_of_each_member_are_not_split_once_more():
    (X, Y), trainer = samples(), nnx.Trainer(net(), backend="numpy", members=2)
    request = Request(X, Y, 1, 8, None, True, Callbacks(()), validation_split=0.2)
    with pytest.raises(nnx.InputError, match="validation_split would choose other samples"):
        fit_stack(trainer.session, request, trainer.each, places=[np.arange(20)] * 2)


def test_members_train_on_a_file_and_on_batches_that_are_given(tmp_path):
    """In one order for all; with weights of 0, too, and batches of different sizes."""
    X, Y = samples()
    w = 1.0 * (np.arange(42) // 8 != 2)
    np.save(tmp_path / "X.npy", X)
    stored = np.load(tmp_path / "X.npy", mmap_mode="r")
    given = {"metrics": ["accuracy"], "training_metrics": True, "shuffle": False}
    check_single_runs(both(sample_weight=w, **given), X=stored)
    check_single_runs(
        both(micro_batch=3, class_weight="balanced", validation=samples(), **given), X=stored, rtol=1e-4
    )
    sizes = [(0, 10), (10, 17), (17, 42)]
    batches = [(X[:, a:b], Y[a:b], w[a:b]) for a, b in sizes]
    check_single_runs(both(validation=samples()), X=batches, batch_size=None)
    check_single_runs(both(steps=2, micro_batch=4), X=lambda: iter(batches), batch_size=None, rtol=1e-4)


def test_a_stack_goes_on_within_batches_that_are_given(tmp_path):
    X, Y = samples()
    batches = [(X[:, a:b], Y[a:b]) for a, b in [(0, 10), (10, 17), (17, 42)]]

    class Interrupt(nnx.Callback):
        def on_step(self, trainer, progress):
            if progress.done == 5:
                raise KeyboardInterrupt

    whole, broken, again = (nnx.Trainer(net(), nnx.Momentum(RATES), "numpy", members=3) for _ in range(3))
    whole.fit(batches, epochs=3, callbacks=[nnx.Callback()])
    with pytest.raises(KeyboardInterrupt):
        broken.fit(batches, epochs=3, callbacks=[nnx.Checkpoints(tmp_path, steps=1), Interrupt()])
    again.fit(batches, epochs=3, callbacks=nnx.Checkpoints(tmp_path, steps=1), resume=tmp_path)
    np.testing.assert_array_equal(again.theta, whole.theta)
    assert again.records == whole.records


def test_a_stack_warns_as_one_network_does():
    X, Y = samples()
    stack = nnx.Trainer(net(), backend="numpy", members=3)
    with pytest.warns(UserWarning, match="divide X by 255"):
        stack.fit((X * 1000).astype("uint8"), Y, epochs=1, batch_size=8)
    with pytest.warns(UserWarning, match="one step of gradient descent was done") as caught:
        nnx.Trainer(net(), backend="numpy", members=3).fit(X, Y)
    assert caught[0].filename == __file__


def test_a_split_fit_goes_on_from_a_checkpoint(tmp_path):
    X, Y = samples()
    given = {"batch_size": 8, "validation_split": 0.25, "callbacks": nnx.Checkpoints(tmp_path)}
    whole, broken, again = (nnx.Trainer(net(), nnx.Momentum(RATES), "numpy", members=3) for _ in range(3))
    whole.fit(X, Y, epochs=4, **{**given, "callbacks": ()})
    broken.fit(X, Y, epochs=2, **given)
    with pytest.raises(nnx.InputError, match="a fit with m = 31"):
        again.fit(X, Y, epochs=4, resume=tmp_path, **{**given, "validation_split": 0.3})
    again.fit(X, Y, epochs=4, resume=tmp_path, **given)
    np.testing.assert_array_equal(again.theta, whole.theta)
    assert again.records == whole.records
