"""What `Trainer.fit` does beside the steps: samples as rows, one sample, the warning of a single step."""

import numpy as np
import pytest

import nnx

rng = np.random.default_rng(0)
X = rng.standard_normal((150, 4)).astype("float32")  # samples as rows
Y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)


def new(output="softmax", n=3, seed=0, **options):
    return nnx.Trainer(nnx.mlp([4, 8, n], output=output), backend="numpy", seed=seed, **options)


def raises(match):
    return pytest.raises(nnx.InputError, match=match)


# Samples as rows


@pytest.mark.parametrize("wrap", [np.asarray, np.ndarray.tolist, nnx.Rows], ids=["array", "list", "Rows"])
def test_rows_are_the_same_samples(wrap):
    rows, columns = new(), new()
    options = {"epochs": 2, "batch_size": 32}
    rows.fit(wrap(X), Y, **options, validation=(wrap(X[:50]), Y[:50], np.arange(50.0)), rows=True)
    columns.fit(X.T, Y, **options, validation=(X[:50].T, Y[:50], np.arange(50.0)))
    assert (rows.theta == columns.theta).all()
    assert rows.history == columns.history
    assert (rows.predict(X, rows=True) == columns.predict(X.T).T).all()
    assert (rows.classify(X, rows=True) == columns.classify(X.T)).all()
    assert rows.evaluate(wrap(X), Y, rows=True) == columns.evaluate(X.T, Y)


def test_rows_of_targets_tables_and_batches():
    targets = np.stack([X[:, 0], X[:, 1] ** 2], axis=1)  # (m, n[L])
    columns = new("identity", 2)
    columns.fit(X.T, targets.T, epochs=2, batch_size=50, shuffle=False, validation=(X.T, targets.T))
    batches = [(X[k : k + 50], targets[k : k + 50]) for k in (0, 50, 100)]
    table = dict(zip("abcd", X.T, strict=True))
    for x, y, options in (
        (X, targets, {"batch_size": 50, "validation": (X, targets)}),
        (batches, None, {"validation": batches}),
        (table, targets, {"batch_size": 50, "validation": (table, targets)}),
    ):
        rows = new("identity", 2)
        rows.fit(x, y, epochs=2, shuffle=False, rows=True, **options)
        assert (rows.theta == columns.theta).all()
        assert rows.history["validation_r2"] == pytest.approx(columns.history["validation_r2"])
    single = new("sigmoid", 1)
    single.fit(X, (Y > 0)[:, None], epochs=1, rows=True)
    assert single.predict(X, rows=True).shape == (150, 1)
    assert new("sigmoid", 2).classify(X, rows=True).shape == (150, 2)


def test_rows_that_do_not_fit_say_what_would():
    with raises(r"X has shape \(150, 4\).*its transpose X\.T would fit, and so would rows=True"):
        new().fit(X, Y)
    with raises(r"X has shape \(4, 150\); with rows=True expected \(m, 4\).*leave out rows=True"):
        new().fit(X.T, Y, rows=True)
    with raises(r"X has shape \(150, 3\); with rows=True expected \(m, 4\), samples as rows$"):
        new().predict(X[:, :3], rows=True)
    with raises(r"Y has shape \(150, 2\); with rows=True expected \(m, 3\)"):
        new().evaluate(X, X[:, :2], rows=True)
    with raises(r"the validation's X has shape \(4, 150\); with rows=True"):
        new().fit(X, Y, validation=(X.T, Y), rows=True)
    with raises("rows must be True or False"):
        new().fit(X, Y, rows="yes")


# One sample


def test_one_sample_predicts():
    trainer = new()
    A = trainer.predict(X.T)
    for one in (X[7], X[7].tolist(), tuple(X[7].tolist())):
        assert trainer.predict(one).shape == (3,)
        assert trainer.predict(one) == pytest.approx(A[:, 7])
    assert (trainer.predict(X[7], rows=True) == trainer.predict(X[7])).all()
    found = trainer.classify(X[7])
    assert isinstance(found, int)
    assert found == trainer.classify(X.T)[7]
    assert (new("sigmoid", 2).classify(X[7]) == new("sigmoid", 2).classify(X.T)[:, 7]).all()


def test_one_sample_of_one_feature_is_refused_as_it_may_be_several():
    trainer = nnx.Trainer(nnx.mlp([1, 1]), backend="numpy")
    with raises(r"X has shape \(3,\), and the network has one input: .*X\.reshape\(1, -1\)"):
        trainer.predict([1.0, 2.0, 3.0])
    assert trainer.predict([[1.0, 2.0, 3.0]]).shape == (1, 3)


def test_a_row_of_a_frame_is_found_by_its_names():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("abcd"))
    trainer = new()
    trainer.fit(frame, Y, epochs=1, batch_size=32)
    assert (trainer.predict(frame[list("dcba")].iloc[3]) == trainer.predict(frame.iloc[3])).all()
    assert trainer.predict(frame.iloc[3]) == pytest.approx(trainer.predict(frame)[:, 3])


# One step was all


def test_a_fit_of_one_step_warns():
    with pytest.warns(UserWarning, match="one step of gradient descent was done.*epochs= and batch_size="):
        new().fit(X.T, Y)
    with pytest.warns(UserWarning, match="one step"):
        new().fit(X.T, Y, batch_size=500)


def test_other_fits_do_not_warn():
    new().fit(X.T, Y, epochs=1)
    new().fit(X.T, Y, batch_size=50)
    new().fit([(X.T, Y)])
    trainer = new()
    trainer.fit(X.T, Y, epochs=2)
    trainer.fit(X.T, Y)  # as in a loop of the user's own


def test_one_iteration_of_lbfgs_does_not_warn():
    pytest.importorskip("scipy")
    new(optimizer=nnx.LBFGS(), dtype="float64").fit(X.T, Y)
