"""What `Trainer.fit` takes, holds out, measures, shows and warns of."""

import io
import logging
import sys
import threading

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


def test_bytes_of_images_that_are_not_scaled_are_warned_of():
    images = np.random.default_rng(0).integers(0, 256, (60, 4)).astype("uint8")
    labels = images[:, 0] // 86
    for X, rows in ((images, True), (images.T, False), (nnx.Rows(images), False)):
        trainer = new()
        with pytest.warns(UserWarning, match=r"X holds bytes up to 25\d; .*: divide X by 255"):
            trainer.fit(X, labels, epochs=1, batch_size=20, rows=rows)
        trainer.fit(X, labels, epochs=1, batch_size=20, rows=rows)  # once is enough
    new().fit(images / 255, labels, epochs=1, rows=True)
    new().fit(images // 86, labels, epochs=1, rows=True)  # small ones may be what they are
    normed = nnx.Network(4, [nnx.LayerNorm(), nnx.Dense(3)], output="softmax")
    nnx.Trainer(normed, backend="numpy").fit(images, labels, epochs=1, rows=True)


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
    images = X.reshape(150, 2, 2)
    with raises(r"X has shape \(150, 2, 2\); with rows=True.*; reshaped to \(150, 4\) it would fit"):
        new().fit(images, Y, rows=True)
    with raises(r"X\.reshape\(150, -1\)\.T would fit, and so would X\.reshape\(150, -1\) with rows=True"):
        new().predict(images)
    new().fit(images.reshape(150, -1), Y, rows=True, epochs=1)
    one = nnx.Trainer(nnx.mlp([1, 3]), backend="numpy")
    with raises(r"X\.reshape\(1, -1\) would fit, and so would X\.reshape\(-1, 1\) with rows=True"):
        one.fit(X[:, 0], Y, rows=True)
    one.fit(X[:, 0].reshape(-1, 1), Y, rows=True, epochs=1)


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


# A share of the samples held out


def share(X, Y, options, **more):
    trainer = new()
    history = trainer.fit(X, Y, epochs=2, batch_size=16, validation_split=0.2, **options, **more)
    return trainer, history


WEIGHTS = rng.random(150)


@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_a_share_is_held_out_as_if_it_had_been_before(class_weight):
    options = {"class_weight": class_weight, "metrics": ["accuracy", "f1"]}
    trainer, history = share(X.T, Y, options, sample_weight=WEIGHTS)
    held = trainer.held_out
    rest = np.setdiff1d(np.arange(150), held)
    weights = WEIGHTS if class_weight is None else WEIGHTS * (150 / 3 / np.bincount(Y))[Y]
    assert len(held) == 30
    assert np.bincount(Y[held]) == pytest.approx(np.bincount(Y) / 5, abs=1)  # of each class its share
    other = new()
    before = other.fit(
        X[rest].T,
        Y[rest],
        epochs=2,
        batch_size=16,
        validation=(X[held].T, Y[held], weights[held]),
        sample_weight=WEIGHTS[rest],
        **options,
    )
    assert before == history
    assert (other.theta == trainer.theta).all()
    assert other.held_out is None


def sparse_of(x):
    return nnx.Rows(pytest.importorskip("scipy.sparse").csr_array(x))


def frame_of(x):
    return pytest.importorskip("pandas").DataFrame(x, columns=list("abcd"))


def tensor_of(x):
    return pytest.importorskip("torch").asarray(x.T)


@pytest.mark.parametrize(
    "make", [sparse_of, frame_of, pytest.param(tensor_of, marks=pytest.mark.long), lambda x: x.T.tolist()]
)
def test_a_share_of_any_samples_in_memory(make):
    expected, _ = share(X.T, Y, {})
    trainer, history = share(make(X), Y, {})
    assert (trainer.held_out == expected.held_out).all()
    assert trainer.theta == pytest.approx(expected.theta, abs=1e-6)
    assert set(history) == {"loss", "validation_loss", "validation_accuracy"}


def test_a_share_by_the_kind_of_target():
    for output, n, Y_of in (
        ("softmax", 3, np.eye(3)[Y].T),
        ("sigmoid", 1, Y > 0),
        ("sigmoid", 2, np.stack([Y > 0, Y > 1])),
        ("identity", 1, X[:, 0]),
    ):
        trainer = new(output, n)
        trainer.fit(X.T, Y_of, epochs=1, batch_size=16, validation_split=0.1)
        assert len(trainer.held_out) == 15
        if (n == 1 and output == "sigmoid") or n == 3:
            held = np.bincount(Y[trainer.held_out] > 0 if n == 1 else Y[trainer.held_out])
            assert held == pytest.approx(np.bincount(Y > 0 if n == 1 else Y) / 10, abs=1)


def test_the_same_share_where_a_fit_goes_on(tmp_path):
    def fit(split=0.2, callbacks=(), **options):
        trainer = new()
        checkpoints = nnx.Checkpoints(tmp_path, steps=5)
        options |= {"epochs": 4, "batch_size": 16, "validation_split": split}
        return trainer, trainer.fit(X.T, Y, callbacks=[checkpoints, *callbacks], **options)

    class Stop(nnx.Callback):
        def on_step(self, trainer, progress):
            if progress.done == 13:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(callbacks=[Stop()])
    resumed, again = fit(resume=tmp_path)
    whole = new()
    history = whole.fit(X.T, Y, epochs=4, batch_size=16, validation_split=0.2)
    assert again == history
    assert (resumed.theta == whole.theta).all()
    with raises("the checkpoint is of a fit with m = 120, this one has 75"):
        fit(0.5, resume=tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation": (X.T, Y)}, "validation and validation_split are both given"),
        ({"validation_split": 1}, "validation_split must be between 0 and 1"),
        ({"validation_split": True}, "validation_split must be between 0 and 1"),
        ({"sample_weight": [1, 2]}, r"sample_weight has shape \(2,\); expected \(150,\)"),
        ({"Y": Y[:5]}, r"Y has shape \(5,\)"),
        ({"X": X}, r"X has shape \(150, 4\).*its transpose X\.T would fit"),
        ({"X": X[:2].T, "Y": Y[:2]}, "2 samples are too few to hold out 0.2 of them"),
        ({"X": [(X.T, Y)], "Y": None}, "batches that are given cannot be split. Give validation="),
    ],
)
def test_a_share_that_cannot_be_held_out_says_why(options, message):
    trainer = new()
    with raises(message):
        trainer.fit(**{"X": X.T, "Y": Y, "epochs": 1, "validation_split": 0.2} | options)
    assert trainer.steps == 0


def test_a_share_of_a_file_is_refused(tmp_path):
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    with raises(r"validation_split is for samples in memory; X is '.*x\.npy'.*validation=\(X, Y\)"):
        new().fit(nnx.Rows(mapped), Y, epochs=1, validation_split=0.2)


# Metrics of the training samples


def test_metrics_of_the_training_samples_stand_beside_the_validations():
    trainer = new()
    history = trainer.fit(
        X.T, Y, epochs=3, batch_size=50, metrics=["accuracy", "f1(none)"], validation=(X.T, Y)
    )
    assert list(history) == [
        "loss", "accuracy", "f1(none)", "validation_loss", "validation_accuracy", "validation_f1(none)",
    ]  # fmt: skip
    assert trainer.measures == tuple(history)
    assert history["accuracy"] == history["validation_accuracy"]
    assert history["accuracy"][-1] == trainer.evaluate(X.T, Y)["accuracy"]


def test_metrics_need_no_validation():
    trainer = new("identity", 1)
    stop = nnx.EarlyStopping("mean_squared_error", patience=2)
    history = trainer.fit(
        X.T, X[:, 0], epochs=3, batch_size=50, metrics=["mean_squared_error"], callbacks=stop
    )
    assert set(history) == {"loss", "mean_squared_error"}
    assert set(new().fit(X.T, Y, epochs=1, training_metrics=True)) == {"loss", "accuracy"}


def test_training_metrics_may_be_left_out_or_be_of_some_samples():
    def fit(training_metrics):
        trainer = new()
        trainer.fit(
            X.T,
            Y,
            epochs=2,
            batch_size=50,
            validation=(X.T, Y),
            metrics=["confusion_matrix"],
            training_metrics=training_metrics,
            sample_weight=(np.arange(150) > 99) * 2.0**70,
            class_weight={0: 2.0, 1: 2.0, 2: 2.0},
        )
        return trainer

    all_of_them, some, none = fit(None), fit(20), fit(False)
    assert (all_of_them.theta == some.theta).all()
    assert (all_of_them.theta == none.theta).all()
    assert "confusion_matrix" not in none.history
    for trainer, count in ((all_of_them, 50), (some, 20)):  # those that weigh something, as in training
        assert np.sum(trainer.history["confusion_matrix"][-1]) == count * 2.0**71


def test_training_metrics_of_files_and_batches(tmp_path):
    np.save(tmp_path / "x.npy", X)
    mapped = nnx.Rows(np.load(tmp_path / "x.npy", mmap_mode="r"))
    trainer = new()
    history = trainer.fit(mapped, Y, epochs=1, batch_size=50, training_metrics=True)
    assert history["accuracy"][-1] == trainer.evaluate(X.T, Y)["accuracy"]
    with raises("training_metrics=7 is for X and Y that are arrays"):
        new().fit(mapped, Y, epochs=1, training_metrics=7)
    for options in ({"metrics": ["f1"]}, {"metrics": ["f1"], "training_metrics": False}):
        with raises(r"nothing to measure them on: give validation=\(X, Y\), or training_metrics=True"):
            new().fit([(X.T, Y)], **options)
    with raises("training_metrics=True is for X and Y that are arrays.*batches that are given not at all"):
        new().fit([(X.T, Y)], training_metrics=True)
    with raises("training_metrics must be True, False, None, or a positive integer, not 0"):
        new().fit(X.T, Y, epochs=1, training_metrics=0)


# The bar in a terminal


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def open_terminal(monkeypatch):
    """Make a terminal the error output, outside pytest as it were; a bar is shown from the beginning on."""
    pytest.importorskip("rich")
    monkeypatch.setattr("nnx.callbacks.terminal_bar.PYTEST", "no such variable")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr("nnx.callbacks.terminal_bar.AFTER", 0.0)

    def opened():  # in the test itself: pytest sets sys.stderr before it
        monkeypatch.setattr(sys, "stderr", Terminal())
        return sys.stderr

    return opened


def test_a_fit_shows_a_bar_in_a_terminal(open_terminal):
    terminal = open_terminal()
    new().fit(X.T, Y, epochs=3, batch_size=50, validation_split=0.2)
    shown = terminal.getvalue()
    assert "epoch 3/3" in shown
    assert "held out: " in shown
    assert shown.endswith("\x1b[?25h")  # the cursor is back


@pytest.mark.parametrize(
    "options", [{"progress": False}, {"callbacks": nnx.ProgressBar}], ids=["progress", "ProgressBar"]
)
def test_no_bar_where_none_is_wanted(open_terminal, options):
    terminal = open_terminal()
    made = {name: value if isinstance(value, bool) else value() for name, value in options.items()}
    new().fit(X.T, Y, epochs=3, batch_size=50, **made)
    assert terminal.getvalue() == ""


def test_no_bar_without_a_person_who_looks(open_terminal, monkeypatch):
    terminal = open_terminal()

    def fit():
        new().fit(X.T, Y, epochs=3, batch_size=50)

    with monkeypatch.context() as patched:
        patched.setattr("nnx.callbacks.terminal_bar.AFTER", 60.0)  # a short fit
        fit()
    with monkeypatch.context() as patched:
        patched.setattr("nnx.callbacks.terminal_bar.PYTEST", "PYTEST_CURRENT_TEST")
        fit()
    with monkeypatch.context() as patched:
        patched.setenv("TERM", "dumb")
        fit()
    thread = threading.Thread(target=fit)
    thread.start()
    thread.join()
    monkeypatch.setattr(logging.getLogger("nnx"), "level", logging.ERROR)
    logging.getLogger("nnx").manager._clear_cache()
    fit()
    logging.getLogger("nnx").manager._clear_cache()
    shown = terminal.getvalue()
    monkeypatch.setattr(sys, "stderr", io.StringIO())  # a file, or a pipe
    fit()
    monkeypatch.setattr(sys, "stderr", None)
    fit()
    assert shown == ""


def test_a_bar_ends_cleanly_after_ctrl_c_and_errors(open_terminal):
    terminal = open_terminal()
    for error, raised in ((KeyboardInterrupt, KeyboardInterrupt), (RuntimeError, nnx.CallbackError)):

        def fail(progress, error=error):
            if progress.epoch == 2:
                raise error

        terminal.truncate(0)
        with pytest.raises(raised):
            new().fit(X.T, Y, epochs=3, batch_size=50, callbacks=fail)
        assert "epoch 1/3" in terminal.getvalue()
        assert terminal.getvalue().endswith("\x1b[?25h")
        assert sys.stderr is terminal  # which rich stands in for meanwhile


def test_a_terminal_that_is_closed_ends_no_fit(open_terminal):
    terminal = open_terminal()

    class Closing(nnx.Callback):
        def on_epoch(self, trainer, progress):
            terminal.close()

    trainer = new()
    trainer.fit(X.T, Y, epochs=3, batch_size=50, callbacks=Closing())
    assert len(trainer.records) == 3


def test_with_a_bar_several_epochs_are_done_at_once(open_terminal):
    terminal = open_terminal()

    class Seen(nnx.callbacks.terminal_bar.TerminalBar):
        each_epoch = False
        epochs = ()

        def on_epoch(self, trainer, progress):
            self.epochs += (progress.epoch,)
            assert len(trainer.records) == progress.epoch
            assert progress.measured == trainer.records[-1]
            super().on_epoch(trainer, progress)

    seen, trainer, alone = Seen(), new(), new()
    trainer.fit(X.T, Y, epochs=400, batch_size=50, callbacks=seen)
    alone.fit(X.T, Y, epochs=400, batch_size=50, progress=False)
    assert seen.epochs[0] == 1
    assert seen.epochs[-1] == 400
    assert len(seen.epochs) < 400
    assert trainer.history == alone.history
    assert (trainer.theta == alone.theta).all()
    assert "epoch 400/400" in terminal.getvalue()


def test_early_stopping_says_how_its_number_is_measured():
    with raises(r"'accuracy' is not measured; give fit\(metrics=\['accuracy', \.\.\.\]\)"):
        new().fit(X.T, Y, epochs=2, callbacks=nnx.EarlyStopping("accuracy"))
    with raises("validation_split=0.2"):
        new().fit(X.T, Y, epochs=2, callbacks=nnx.EarlyStopping("validation_accuracy"))
