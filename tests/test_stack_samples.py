"""Members that hold out samples of their own, and what is measured of each: as in its single run."""

import numpy as np
import pytest

import nnx

RATES, SEEDS = [0.1, 0.02, 0.05], [4, 9, 2]


def net(*layers, classes=3):
    return nnx.Network(4, [nnx.Dense(5, "tanh"), *layers, nnx.Dense(classes)], "softmax")


def samples(m=42):
    rng = np.random.default_rng(3)
    X = rng.standard_normal((4, m)).astype("float32")
    return X, (X[0] > 0) + 1 * (X[1] > 0.7)


def check_single_runs(given, network=None, backend="numpy", rtol=0, **fit):
    """Fit a stack and its single runs; `given(k)` are the arguments of member k, `given(None)` those of the stack."""
    network = network or net()
    stack = nnx.Trainer(network, nnx.Momentum(RATES), backend, seed=SEEDS, members=3)
    X, Y = samples()
    fit = {"epochs": 4, "batch_size": 8, **fit}
    stack.fit(X, Y, **fit, **given(None))
    for k, (rate, seed) in enumerate(zip(RATES, SEEDS, strict=True)):
        single = nnx.Trainer(network, nnx.Momentum(rate), backend, seed=seed)
        single.fit(X, Y, **fit, **given(k))
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


@pytest.mark.parametrize("backend", ["numpy", "torch", "jax"], indirect=True)
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


@pytest.mark.parametrize("class_weight", [None, "balanced", {1: 3.0}])
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("share", [None, 0.25])
@pytest.mark.parametrize("training_metrics", [True, 10, 1000])
def test_weights_of_members_are_those_of_their_single_runs(class_weight, own, share, training_metrics):
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
    ],
)
def test_wrong_samples_of_members_are_errors(given, says):
    stack = nnx.Trainer(net(nnx.BatchNorm()), backend="numpy", members=3)
    with pytest.raises(nnx.InputError, match=says):
        stack.fit(*samples(), **{"epochs": 1, "batch_size": 8, **given})


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
