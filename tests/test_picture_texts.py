"""What the pictures say: names as they are, numbers that are not rounded to 0 or 1, what is left out, what was kept."""

import itertools
import json
import warnings

import numpy as np
import pytest

import nnx
from nnx.display.rounding import decimals, percent, significant

for needed in ("matplotlib", "sklearn", "typer", "polars"):
    pytest.importorskip(needed, reason="the pictures (extra cli) are not installed")

from test_plots import contrast, texts  # noqa: E402

from nnx.metrics.history import History, columns  # noqa: E402
from nnx.plots import fonts, held_out, style  # noqa: E402
from nnx.plots import texts as picture_texts  # noqa: E402

UNDERSCORED = ["_other", "_", "b", "__init__"]


# Names


def test_no_name_vanishes_from_a_legend(rng):
    Y = np.arange(40) % 4
    roc = nnx.plots.roc(Y, rng.random((4, 40)), UNDERSCORED)
    assert [text.rpartition(", AUC")[0] for text in texts(roc.legends[0])] == UNDERSCORED
    plane = nnx.plots.decision_boundary(
        lambda X: np.ones((4, X.shape[1])) / 4, rng.random((2, 40)), Y, UNDERSCORED
    )
    assert texts(plane.legends[0]) == UNDERSCORED
    runs = {name: {"loss": [1.0, 0.5]} for name in UNDERSCORED}
    assert texts(nnx.plots.learning_curves(runs).legends[0]) == UNDERSCORED
    ticks = nnx.plots.comparison(runs).axes[0].get_yticklabels()
    assert [tick.get_text() for tick in ticks] == UNDERSCORED


def test_names_that_look_alike_are_told_apart():
    shown = picture_texts.names(["a city on the Rhine, north", "a city on the Rhone, north", "b"], 18)
    assert len(set(shown)) == 3
    assert max(map(len, shown)) <= 18
    assert shown[2] == "b"


def test_names_of_numbers_are_no_formulas():
    (axes,) = nnx.plots.learning_curves({"$x_$": [0.1, 0.2]}).axes
    assert axes.get_ylabel() == r"\$x \$"
    style.png(axes.figure)


def test_a_missing_glyph_is_drawn_without_a_warning(tmp_path, monkeypatch):
    X, Y = np.random.default_rng(0).standard_normal((2, 20)), np.arange(20) % 2
    labels = ["日本", "नमस्ते"]

    def predict(theta, X):
        return np.full((1, X.shape[1]), theta[0])

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = nnx.plots.decision_boundary(
            lambda X: predict([0.3], X), X, Y, labels, ["ꙮ", "y"], title="漢字"
        )
        figure._repr_png_()
        figure.savefig(tmp_path / "own.png", bbox_inches="tight")  # as a notebook does
        thetas = np.array([[0.3], [0.6]])
        nnx.plots.animated_boundary(predict, thetas, [0, 1], X, Y, tmp_path / "a.gif", labels)


def test_glyphs_are_taken_from_a_font_that_has_them():
    assert fonts.families("abc äöü") == []
    assert fonts.families("a\U0001d4d0") == [
        "STIXGeneral"
    ]  # a mathematical letter; the font comes with matplotlib
    figure = nnx.plots.confusion_matrix([0, 1], [0, 1], ["\U0001d4d0", "b"])
    style.png(figure)
    families = {text.get_text(): text.get_fontfamily()[1:] for text in figure.axes[0].get_yticklabels()}
    assert families == {"\U0001d4d0": ["STIXGeneral"], "b": []}


# Numbers


@pytest.mark.parametrize("x", [0.99951, 0.99996, 1 - 1e-7, 1 - 1e-12, 1 - 2**-53])
def test_what_is_less_than_one_looks_less_than_one(x):
    for text in (decimals(x, 3), significant(x, 4), decimals(-x, 3)):
        assert 0.999 < abs(float(text)) < 1, text
    assert 99.9 < float(percent(x, 1).removesuffix("%")) < 100


@pytest.mark.parametrize("x", [4e-4, 1e-7, 1e-12, 5e-324])
def test_what_is_more_than_zero_looks_more_than_zero(x):
    assert float(decimals(x, 3)) > 0
    assert float(decimals(-x, 3)) < 0
    assert x > 1e-300 or percent(x, 1)
    assert x < 1e-300 or float(percent(x, 1).removesuffix("%")) > 0


def test_whole_ones_and_the_rest_stay_as_they_are():
    assert [decimals(x, 3) for x in (0, 1, -1, 0.5, 2, 12.3456)] == [
        "0.000", "1.000", "-1.000", "0.500", "2.000", "12.346",
    ]  # fmt: skip
    assert (percent(1, 1), percent(0, 1), percent(0.5, 2)) == ("100.0%", "0.0%", "50.00%")
    assert (significant(float("nan"), 4), significant(1234.5678, 4), significant(-1e99, 4)) == (
        "nan",
        "1,235",
        "-1e+99",
    )


def test_an_area_below_one_is_not_rounded_up(rng):
    m = 400
    Y, A = np.arange(m) % 2, np.arange(m) % 2 + rng.random(m) / 2
    A[:2] = 0.52, 0.51  # one pair of 40,000 in the wrong order
    from sklearn.metrics import roc_auc_score

    auc = roc_auc_score(Y, A)
    (text,) = texts(nnx.plots.roc(Y, A[None], ["no", "yes"]).legends[0])
    shown = float(text.removeprefix("yes, AUC "))
    assert shown < 1
    assert shown == pytest.approx(auc, abs=5e-4)


def test_an_accuracy_below_one_is_not_rounded_up():
    Y = np.zeros(20_000, int)
    axes = nnx.plots.confusion_matrix(Y, np.arange(20_000) == 7, ["a", "b"]).axes[0]
    assert axes.get_title() == "19,999 of 20,000 right (99.995%)"


# What a picture leaves out


def test_a_picture_of_some_samples_says_so():
    Y = np.arange(30) % 3
    assert "30 of 4,000 samples" in nnx.plots.confusion_matrix(Y, Y, total=4000).axes[0].get_title()
    assert "30 of 4,000 samples" in nnx.plots.roc(Y, np.eye(3)[Y].T, total=4000).axes[0].get_title()
    assert "30 of 4,000" in nnx.plots.predicted_against_true(Y, Y, total=4000).axes[0].get_title()
    plane = nnx.plots.decision_boundary(lambda X: X[:1] > 0, np.eye(30)[:2], Y > 0, total=4000)
    assert "30 of 4,000 samples" in plane.get_suptitle()
    for figure in (nnx.plots.confusion_matrix(Y, Y, total=30), nnx.plots.roc(Y, np.eye(3)[Y].T)):
        assert "samples" not in figure.axes[0].get_title()


def test_a_plane_of_very_many_samples_draws_some():
    X, Y = np.random.default_rng(0).standard_normal((2, 25_000)), np.arange(25_000) % 2
    figure = nnx.plots.decision_boundary(lambda X: X[:1] > 0, X, Y)
    drawn = sum(
        len(points.get_offsets()) for points in figure.axes[0].collections if len(points.get_offsets()) > 1
    )
    assert 0 < drawn <= 10_000
    assert f"{drawn:,} of 25,000 samples" in figure.get_suptitle()


def test_of_more_classes_than_can_be_drawn_the_most_frequent_are():
    Y = np.concatenate([np.arange(500), np.repeat(np.arange(100, 400), 2)])
    axes = nnx.plots.confusion_matrix(Y, Y).axes[0]
    assert axes.images[0].get_array().shape == (300, 300)
    assert axes.get_yticklabels()[0].get_text() == "100"
    assert "the 300 most frequent of 500 classes" in axes.get_title()
    assert f"{len(axes.get_yticklabels())} of 300 classes are named" in axes.get_title()
    assert f"{len(Y):,} of {len(Y):,} right" in axes.get_title()  # of all of them
    assert "most frequent" not in nnx.plots.confusion_matrix(Y % 7, Y % 7).axes[0].get_title()


def test_held_out_knows_how_many_samples_there_were(monkeypatch, tmp_path, rng):
    trainer = nnx.Trainer(nnx.mlp([3, 2], output="softmax"), backend="numpy")
    X, Y = rng.standard_normal((3, 50)), np.arange(50) % 2
    monkeypatch.setattr(held_out, "MOST", 20)
    held_out.write(held_out.of(trainer, X, Y, Y), tmp_path / "held_out.npz")
    kept = held_out.read(tmp_path / "held_out.npz")
    assert (kept.total, len(kept.y)) == (50, 10)
    left = nnx.plots.run.Left("some", trainer, None, kept)
    nnx.plots.run.PICTURES["confusion_matrix"](left)(tmp_path / "a.svg")
    assert "<!-- 10 of 50 samples -->" in (tmp_path / "a.svg").read_text()
    assert "<!-- some, held out -->" in (tmp_path / "a.svg").read_text()
    trainer.metadata = {"parts": {"test": {"of": 0.2, "samples": 50, "checksum": 0}}}
    nnx.plots.run.PICTURES["roc"](left)(tmp_path / "b.svg")
    assert "<!-- some, test part -->" in (tmp_path / "b.svg").read_text()


# What was kept


@pytest.fixture
def stopped(rng):
    trainer = nnx.Trainer(nnx.mlp([2, 8, 1]), nnx.Adam(0.1), backend="numpy")
    X, Y = rng.standard_normal((2, 30)), rng.integers(0, 2, 30)
    trainer.fit(X, Y, epochs=3)
    stopping = nnx.EarlyStopping(patience=4)
    history = trainer.fit(X, Y, 200, validation=(X[:, ::-1], 1 - Y), callbacks=stopping)
    return trainer, stopping, history


def test_the_epoch_that_was_kept_is_known_and_marked(stopped, tmp_path):
    trainer, stopping, history = stopped
    assert (trainer.kept, history.kept) == (3 + stopping.best_epoch, stopping.best_epoch)
    assert trainer.history.kept == trainer.kept
    trainer.save(tmp_path / "model.safetensors")
    assert nnx.Trainer.load(tmp_path / "model.safetensors", backend="numpy").history.kept == trainer.kept
    axes = nnx.plots.learning_curves(trainer.history).axes[0]
    (line,) = (line for line in axes.get_lines() if line.get_label() == f"kept: epoch {trainer.kept}")
    assert set(line.get_xdata()) == {trainer.kept}
    assert f"kept: epoch {trainer.kept}" in texts(axes.get_legend())
    assert f"kept: epoch {trainer.kept}" in trainer.history._repr_html_()
    several = nnx.plots.learning_curves({"a": trainer.history, "b": {"loss": [1.0]}})
    assert "ring: the epoch kept" in texts(several.legends[0])
    assert "epoch kept" in texts(nnx.plots.comparison({"a": trainer.history}).legends[0])


def test_parameters_that_are_not_those_of_an_epoch_are_not_called_kept(stopped):
    trainer, _, _ = stopped
    trainer.theta = trainer.theta
    assert trainer.kept is None
    trainer.fit([[0.0], [1.0]], [1], epochs=1)
    assert (trainer.kept, trainer.history.kept) == (None, None)
    assert not any("kept" in str(line.get_label()) for line in
                   nnx.plots.learning_curves(trainer.history).axes[0].get_lines())  # fmt: skip


def test_a_run_says_which_epoch_it_kept_also_after_going_on(run, tmp_path):
    usual = (
        "train",
        "iris",
        "--layers",
        8,
        "--backend",
        "numpy",
        "--early-stopping",
        3,
        "--learning-rate",
        0.1,
    )
    assert run(*usual, "--epochs", 4, "--out", "a", "--no-plots")[0] == 0
    status, out, _ = run(*usual, "--resume", "a", "--epochs", 60, "--json", "--no-plots")
    assert status == 0
    rows = [json.loads(line) for line in (tmp_path / "a" / "history.jsonl").read_text().splitlines()]
    best = min(rows, key=lambda row: row["validation_loss"])["epoch"]
    assert [row["epoch"] for row in rows if row.get("kept")] == [best] == [json.loads(out)["kept_epoch"]]
    assert best < len(rows)
    trainer = nnx.Trainer.load("a/model.safetensors", backend="numpy")
    assert trainer.kept == best
    from nnx.cli.plot import history

    assert history(tmp_path / "a").kept == best
    assert run(*usual, "--epochs", 60, "--out", "b", "--no-plots")[0] == 0
    assert (tmp_path / "b" / "history.jsonl").read_text() == (tmp_path / "a" / "history.jsonl").read_text()


def test_a_file_that_keeps_an_epoch_that_is_not_there_is_refused(stopped, tmp_path):
    trainer, _, _ = stopped
    trainer.kept = len(trainer.records) + 1
    trainer.save(tmp_path / "model.safetensors")
    with pytest.raises(nnx.ModelFileError, match="kept is epoch"):
        nnx.Trainer.load(tmp_path / "model.safetensors", backend="numpy")


# The training part's scores


def test_the_training_part_is_scored_beside_the_samples_held_out(run, tmp_path):
    assert run("train", "digits", "--layers", 8, "--epochs", 3, "--backend", "numpy", "--out", "a")[0] == 0
    trainer = nnx.Trainer.load("a/model.safetensors", backend="numpy")
    history = trainer.history
    assert len(history["accuracy"]) == len(history["validation_accuracy"]) == 3
    assert trainer.metadata["training_sample"] == 128
    assert all((128 * score).is_integer() for score in history["accuracy"])
    figure = nnx.plots.run._curves(nnx.plots.run.Left("a", trainer))
    assert "training (128 of its samples)" in texts(figure.axes[1].get_legend())
    costs = ["training", "held out", "kept: epoch 3"]  # the cost is that of all
    assert texts(figure.axes[0].get_legend()) == costs


def test_errors_of_the_training_part_are_in_the_targets_unit(run, tmp_path):
    metrics = "root_mean_squared_error,mean_absolute_error"
    arguments = ("--metrics", metrics, "--epochs", 40, "--layers", 8, "--backend", "numpy", "--no-plots")
    assert run("train", "diabetes", *arguments, "--out", "a")[0] == 0
    last = json.loads((tmp_path / "a" / "history.jsonl").read_text().splitlines()[-1])
    assert 20 < last["mean_absolute_error"] < last["root_mean_squared_error"] < 200


def test_without_samples_held_out_nothing_is_scored(run, tmp_path):
    arguments = ("--held-out", 0, "--epochs", 2, "--backend", "numpy", "--no-plots")
    assert run("train", "iris", *arguments, "--out", "a")[0] == 0
    assert set(nnx.Trainer.load("a/model.safetensors", backend="numpy").history) == {"loss"}


def test_numbers_that_some_epochs_lack_stand_at_their_epochs():
    history = columns([{"loss": 3.0}, {"loss": 2.0, "validation_loss": 2.5}])
    np.testing.assert_array_equal(history["validation_loss"], [np.nan, 2.5])
    line = nnx.plots.learning_curves(history).axes[0].get_lines()[1]
    assert (line.get_xdata()[np.isfinite(line.get_ydata())] == [2]).all()
    assert History(loss=[1.0]).kept is None


# Sizes and contrast


def looks(rng):
    Y = rng.integers(0, 57, 600)
    curve = History(loss=list(rng.random(50) + 0.1), validation_loss=list(rng.random(50) + 0.1))
    curve.kept = 7
    yield nnx.plots.confusion_matrix(Y, Y, [f"a class with a name, {k}" for k in range(57)])
    yield nnx.plots.confusion_matrix(Y % 3, Y % 2)
    yield nnx.plots.roc(Y, np.eye(57)[Y].T * 0.5 + rng.random((57, 600)))
    yield nnx.plots.roc(Y % 2, Y[None] / 57)
    yield nnx.plots.learning_curves(curve)
    yield nnx.plots.learning_curves({f"run {k}": curve for k in range(20)})
    yield nnx.plots.comparison({f"run {k}": curve for k in range(3)})
    yield nnx.plots.predicted_against_true(Y, Y + rng.random(600))


def test_every_text_and_line_can_be_read_on_light_and_dark_pages(rng):
    from matplotlib.colors import to_hex
    from matplotlib.text import Text

    for figure in looks(rng):
        for text in figure.findobj(Text):
            if text.get_text():
                assert text.get_fontsize() >= 7, text
        for axes in figure.axes:
            for line, page in itertools.product(axes.get_lines(), ("#ffffff", "#1e1e1e")):
                assert line.get_alpha() in (None, 1), line
                assert contrast(to_hex(line.get_color()), page) >= 3, line


@pytest.mark.parametrize("share", np.linspace(0.001, 1, 9))
def test_the_numbers_in_cells_can_be_read(share):
    from matplotlib.colors import to_hex

    m = 1000
    predicted = np.arange(m) >= round(share * m)
    axes = nnx.plots.confusion_matrix(np.zeros(m, int), predicted, ["a", "b"]).axes[0]
    cells = axes.images[0]
    for text in axes.texts:
        k, i = text.get_position()
        cell = to_hex(cells.to_rgba(cells.get_array())[i, k])
        assert contrast(to_hex(text.get_color()), cell) >= 4.5
        assert contrast(cell, "#1e1e1e") > 2  # a cell that has samples is seen on a dark page
