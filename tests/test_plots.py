"""The pictures: what is in them, and which a run leaves."""

import itertools
import json
import warnings

import numpy as np
import pytest
from conftest import long_but_for

import nnx
from nnx.plots import style

for needed in ("matplotlib", "sklearn", "typer", "polars"):
    pytest.importorskip(needed, reason="the pictures (extra cli) are not installed")

from PIL import Image  # noqa: E402  # after the skip; matplotlib needs it
from sklearn import metrics  # noqa: E402

CURVE = {"loss": [0.9, 0.5, 0.3], "validation_loss": [0.9, 0.6, 0.5], "validation_accuracy": [0.5, 0.7, 0.8]}
SIGNATURES = {"png": b"\x89PNG\r\n\x1a\n", "svg": b"<?xml", "pdf": b"%PDF", "gif": b"GIF8"}


def lines(axes):
    """The series of a panel by their labels."""
    return {line.get_label(): list(line.get_ydata()) for line in axes.get_lines()}


def texts(legend):
    return [text.get_text() for text in legend.get_texts()]


# Learning curves


def test_the_curves_of_a_run_are_its_history():
    cost, accuracy = nnx.plots.learning_curves(CURVE, "digits").axes
    assert lines(cost) == {"training": CURVE["loss"], "held out": CURVE["validation_loss"]}
    assert lines(accuracy) == {"held out": CURVE["validation_accuracy"]}
    assert (cost.get_ylabel(), accuracy.get_ylabel(), cost.get_xlabel()) == ("cost J", "accuracy", "epoch")
    assert (cost.get_yscale(), accuracy.get_yscale()) == ("log", "linear")
    assert cost.figure.get_suptitle() == "digits"


def test_what_a_fit_returns_can_be_drawn(rng):
    trainer = nnx.Trainer(nnx.mlp([2, 3], output="softmax"), backend="numpy")
    X, Y = rng.standard_normal((2, 30)), rng.integers(0, 3, 30)
    asked = ["accuracy", "f1(none)", "confusion_matrix"]  # of which two are arrays, and no curves
    history = trainer.fit(X, Y, epochs=4, validation=(X, Y), metrics=asked)
    cost, accuracy = nnx.plots.learning_curves(history).axes
    assert lines(cost)["training"] == history["loss"]
    assert lines(accuracy)["held out"] == history["validation_accuracy"]


def test_costs_below_zero_and_missing_numbers():
    (cost,) = nnx.plots.learning_curves({"loss": [1.0, None, -1.0], "step": [1, 2, 3]}).axes
    np.testing.assert_array_equal(lines(cost)["training"], [1.0, np.nan, -1.0])
    assert cost.get_yscale() == "linear"


def test_several_runs_have_their_names_in_the_legend():
    runs = {
        "alpha = 0.1": CURVE,
        "a name that is so long that it cannot be read in any picture": {"loss": [2.0]},
    }
    figure = nnx.plots.learning_curves(runs)
    first, second, *meaning = texts(figure.legends[0])
    assert first == "alpha = 0.1"
    assert len(second) <= 40
    assert second.startswith("a name that")
    assert meaning == ["thick: held out", "thin: training"]
    cost = lines(figure.axes[0])
    assert cost["alpha = 0.1, held out"] == CURVE["validation_loss"]
    assert cost[f"{second}, training"] == [2.0]


def test_of_many_runs_the_best_have_a_colour():
    runs = {f"run {k}": {"loss": [1.0, 0.5], "validation_accuracy": [0.1, k / 100]} for k in range(30)}
    figure = nnx.plots.learning_curves(runs)
    shown = texts(figure.legends[0])
    assert shown == [*(f"run {k}" for k in range(29, 17, -1)), "18 others"]
    drawn = {line.get_label(): line.get_color() for line in figure.axes[1].get_lines()}
    assert len(drawn) == 30
    assert drawn["run 29, held out"] != style.INK == drawn["_run 3"]


@pytest.mark.parametrize("nothing", [{}, {"a run": {}}, {"loss": []}])
def test_nothing_to_draw(nothing):
    with pytest.raises(nnx.InputError, match="nothing to draw"):
        nnx.plots.learning_curves(nothing)


def test_a_comparison_has_the_best_run_on_top():
    worse = {"loss": [0.1], "validation_accuracy": [0.95, 0.6], "validation_loss": [0.2, 0.9]}
    figure = nnx.plots.comparison({"worse": worse, "better": CURVE, "$$": {"loss": [3.0]}})
    accuracy, cost = figure.axes
    assert [label.get_text() for label in accuracy.get_yticklabels()] == ["better", "worse", r"\$\$"]
    assert accuracy.get_ylim()[0] > accuracy.get_ylim()[1]
    assert (accuracy.get_xlabel(), cost.get_xlabel()) == ("accuracy, held out", "cost J, held out")
    spans = [tuple(line.get_xdata()) for line in accuracy.get_lines() if len(line.get_xdata()) == 2]
    assert spans == [(0.8, 0.8), (0.95, 0.6)]  # the best epoch, the last
    with pytest.raises(nnx.InputError, match="nothing to compare"):
        nnx.plots.comparison({"a": {}})


# Confusion matrix


def test_the_cells_are_scikit_learns_counts(rng):
    Y, predicted = rng.integers(0, 4, 300), rng.integers(0, 3, 300)
    figure = nnx.plots.confusion_matrix(Y, predicted, ["a", "b", "c", "d"])
    axes = figure.axes[0]
    counts = np.zeros((4, 4), int)
    for text in axes.texts:
        k, i = text.get_position()
        counts[i, k] = int(text.get_text())
    np.testing.assert_array_equal(counts, metrics.confusion_matrix(Y, predicted))
    right = int((predicted == Y).sum())
    assert axes.get_title() == f"{right} of 300 right ({right / 300:.1%})"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c", "d"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
    shown = axes.images[0].get_array()
    np.testing.assert_allclose(shown.sum(axis=1), 1)  # shares of each row


def test_a_hundred_classes_are_as_many_cells_and_some_names(rng):
    Y = rng.integers(0, 100, 5000)
    names = [f"a class of which the name is long, {k}" for k in range(100)]
    axes = nnx.plots.confusion_matrix(Y, Y, names).axes[0]
    assert axes.images[0].get_array().shape == (100, 100)
    assert not axes.texts
    shown = [label.get_text() for label in axes.get_xticklabels()]
    assert len(shown) == 20
    assert max(map(len, shown)) <= 18
    assert shown[1].endswith(", 5")


def test_a_class_without_a_sample_is_an_empty_row():
    figure = nnx.plots.confusion_matrix([0, 0, 2], [0, 1, 2], ["a", "b", "c"])
    assert figure.axes[0].images[0].get_array()[1].count() == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (([0, 1], [0]), "given (2,) and (1,)"),
        (([], []), "of the same samples"),
        (([0, 2], [0, 1], ["a", "b"]), "must be 0 to 1"),
        (([0, -1], [0, 1], ["a", "b"]), "must be 0 to 1"),
    ],
)
def test_a_confusion_matrix_of_what_does_not_fit(arguments, said):
    with pytest.raises(nnx.InputError) as error:
        nnx.plots.confusion_matrix(*arguments)
    assert said in str(error.value)


# ROC


def test_the_curves_and_areas_are_scikit_learns(rng):
    Y, A = rng.integers(0, 3, 200), rng.random((3, 200))
    A[Y, np.arange(200)] += 0.4
    figure = nnx.plots.roc(Y, A, ["x", "y", "z"])
    axes = figure.axes[0]
    expected = [metrics.roc_auc_score(Y == k, A[k]) for k in range(3)]
    assert texts(figure.legends[0]) == [f"{n}, AUC {auc:.3f}" for n, auc in zip("xyz", expected, strict=True)]
    for line, k in zip(axes.get_lines()[1:], range(3), strict=True):  # the first is the diagonal
        false, true, _ = metrics.roc_curve(Y == k, A[k])
        np.testing.assert_array_equal(line.get_xdata(), false)
        np.testing.assert_array_equal(line.get_ydata(), true)


def test_of_two_classes_there_is_one_curve(rng):
    Y, A = rng.integers(0, 2, 100), rng.random((1, 100))
    figure = nnx.plots.roc(Y, A, ["no", "yes"])
    assert texts(figure.legends[0]) == [f"yes, AUC {metrics.roc_auc_score(Y, A[0]):.3f}"]


def test_several_labels_at_once(rng):
    Y, A = rng.integers(0, 2, (2, 100)), rng.random((2, 100))
    figure = nnx.plots.roc(Y, A)
    assert texts(figure.legends[0]) == [f"{k}, AUC {metrics.roc_auc_score(Y[k], A[k]):.3f}" for k in range(2)]


def test_of_many_classes_the_worst_have_a_colour(rng):
    Y, A = rng.integers(0, 30, 2000), rng.random((30, 2000))
    areas = sorted(metrics.roc_auc_score(Y == k, A[k]) for k in range(30))
    shown = texts(nnx.plots.roc(Y, A).legends[0])
    assert shown[0] == f"24 others, AUC {areas[6]:.3f} to {areas[-1]:.3f}"
    assert [float(text.split("AUC ")[1]) for text in shown[1:]] == pytest.approx(areas[:6], abs=6e-4)


def test_where_all_is_well_the_corner_is_enlarged():
    Y = np.arange(40) % 2
    (axes,) = nnx.plots.roc(Y, Y[None] * 0.8).axes
    (corner,) = axes.child_axes
    assert corner.get_xlim()[1] == 0.1
    assert lines(corner)["1, AUC 1.000"] == lines(axes)["1, AUC 1.000"]
    with_grid = [any(line.get_visible() for line in one.get_xgridlines()) for one in (axes, corner)]
    assert with_grid == [False, True]  # the grid of the axes would shine through


def test_classes_without_samples_have_no_curve():
    A = np.eye(3)[:, [0, 1, 1]]
    figure = nnx.plots.roc([0, 1, 1], A)
    assert len(texts(figure.legends[0])) == 2
    assert "1 of 3 classes" in figure.axes[0].get_title()
    with pytest.raises(nnx.InputError, match="there is no ROC"):
        nnx.plots.roc([1, 1], [[0.1, 0.9]])
    with pytest.raises(nnx.InputError, match="given shapes"):
        nnx.plots.roc([1, 1], [0.1, 0.9])


# Numbers


def test_predicted_against_true():
    y, predicted = np.array([1.0, 2.0, 4.0]), np.array([1.5, 2.0, 3.0])
    axes = nnx.plots.predicted_against_true(y, predicted, "price ($)").axes[0]
    np.testing.assert_array_equal(axes.collections[0].get_offsets(), np.stack([y, predicted], axis=1))
    assert (axes.get_xlabel(), axes.get_ylabel()) == (r"true price (\$)", r"predicted price (\$)")
    error = np.sqrt(1.25 / 3)
    assert axes.get_title() == f"R2 {metrics.r2_score(y, predicted):.3f}, root mean squared error {error:.4g}"
    assert axes.get_xlim() == axes.get_ylim()


def test_a_crowd_is_counted(rng):
    y = rng.standard_normal(5000)
    cells = nnx.plots.predicted_against_true(y, y).axes[0].collections[0]
    assert cells.get_array().sum() == 5000


@pytest.mark.parametrize("y", [[3.0], [3.0, 3.0], [1e9, 1e9 + 1]])
def test_numbers_without_a_spread(y):
    axes = nnx.plots.predicted_against_true(y, y).axes[0]
    assert axes.get_xlim()[0] < min(y) <= max(y) < axes.get_xlim()[1]
    with pytest.raises(nnx.InputError, match="must both be"):
        nnx.plots.predicted_against_true(y, [*y, 0.0])


# Weights


def test_the_weights_of_each_unit_are_an_image(rng):
    W = rng.standard_normal((4, 6)) * np.array([[1], [3], [2], [4]])
    figure = nnx.plots.first_layer(W, (2, 3))
    shown = figure.axes[0].images[0].get_array()
    assert shown.shape == (2 * 2 + 1, 2 * 3 + 1)
    largest = W[np.argmax((W**2).sum(axis=1))]
    np.testing.assert_array_equal(shown[:2, :3], largest.reshape(2, 3))
    assert figure.get_suptitle() == "W[1], 4 units"
    assert nnx.plots.first_layer(W, (2, 3), most=3).get_suptitle() == "W[1], the 3 largest of 4 units"


def test_coloured_images(rng):
    W = rng.standard_normal((1, 48))
    shown = nnx.plots.first_layer(W).axes[0].images[0].get_array()
    np.testing.assert_allclose(shown[..., :3], 0.5 + 0.5 * (W / np.abs(W).max()).reshape(4, 4, 3))


@pytest.mark.parametrize(("n", "shape"), [(30, None), (64, (8, 9)), (64, (8, 8, 2)), (64, (64,))])
def test_weights_that_are_no_image(n, shape):
    with pytest.raises(nnx.InputError, match=f"n\\[0\\] = {n} values are no image"):
        nnx.plots.first_layer(np.ones((2, n)), shape)


# The plane


def test_the_plane_has_the_colours_of_the_predicted_classes():
    """Three classes by thirds of x1; the network is asked only where the picture is."""
    X, Y = np.array([[0.0, 1.0, 2.0, 3.0], [0.0, 1.0, 0.0, 1.0]]), np.array([0, 1, 2, 2])
    asked = []

    def predict(points):
        asked.append(points)
        return np.stack([points[0] < 1, (points[0] >= 1) & (points[0] < 2), points[0] >= 2]).astype(float)

    figure = nnx.plots.decision_boundary(predict, X, Y, ["a", "b", "c"], ("width (m)", "height (m)"))
    axes = figure.axes[0]
    (points,) = asked
    assert points[0].min() == axes.get_xlim()[0] < 0
    assert points[1].max() == axes.get_ylim()[1] > 1
    row = axes.images[0].get_array()[0, :, :3]
    expected = [np.array(style.COLOURS)[int(np.clip(x, 0, 2))] for x in points[0, : len(row)]]
    as_hex = ["#" + "".join(f"{round(255 * c):02x}" for c in colour) for colour in row]
    assert as_hex == expected
    assert texts(figure.legends[0]) == ["a", "b", "c"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("width (m)", "height (m)")
    samples = [len(part.get_offsets()) for part in axes.collections if part.get_label() in "abc"]
    assert samples == [1, 1, 2]


def test_the_plane_of_two_classes_is_paler_where_the_network_is_less_sure():
    X = np.array([[0.0, 1.0], [0.0, 1.0]])
    figure = nnx.plots.decision_boundary(lambda points: np.clip(points[:1], 0, 1), X, [0, 1])
    alpha = figure.axes[0].images[0].get_array()[0, :, 3]
    assert np.argmin(alpha) == pytest.approx(len(alpha) / 2, abs=2)
    assert alpha[0] == alpha[-1] == 0.5


def test_the_plane_of_numbers():
    X = np.array([[0.0, 1.0, 2.0], [0.0, 1.0, 0.0]])
    figure = nnx.plots.decision_boundary(lambda p: p[:1] * 10, X, [0.0, 10.0, 20.0], target="price")
    plane, bar = figure.axes
    shown = plane.images[0].get_array()
    np.testing.assert_allclose(shown[0, [0, -1]], 10 * np.array(plane.get_xlim()))
    assert bar.get_ylabel() == "price"
    samples = next(
        part for part in plane.collections if part.get_array() is not None and len(part.get_offsets()) == 3
    )
    np.testing.assert_array_equal(samples.get_array(), [0, 10, 20])


def test_there_is_no_plane_of_three_features():
    with pytest.raises(nnx.InputError, match="drawn for n\\[0\\] = 2 features"):
        nnx.plots.decision_boundary(lambda points: points, np.ones((3, 4)), np.ones(4, int))


@pytest.fixture(scope="module")
def trained():
    X, Y = nnx_data().moons(80)
    trainer, snapshots = (
        nnx.Trainer(nnx.mlp([2, 8, 1]), nnx.Adam(0.05), backend="numpy"),
        nnx.Snapshots(most=6),
    )
    trainer.fit(X, Y, epochs=11, batch_size=20, callbacks=snapshots)
    return trainer, snapshots, X, Y


def nnx_data():
    from nnx import data

    return data


def test_an_animation_has_a_picture_for_each_snapshot(trained, tmp_path):
    trainer, snapshots, X, Y = trained
    path = tmp_path / "moons.gif"
    both = snapshots.thetas, snapshots.epochs
    nnx.plots.animated_boundary(trainer.network.forward, *both, X, Y, path)
    with Image.open(path) as gif:
        assert gif.n_frames == len(snapshots.epochs) == 4
        assert gif.info["loop"] == 0
        frames, durations = [], []
        for k in range(gif.n_frames):
            gif.seek(k)
            frames.append(np.asarray(gif.convert("RGB")).astype(int))
            durations.append(gif.info["duration"])
    assert all((a != b).any() for a, b in itertools.pairwise(frames))
    assert durations[-1] > durations[0]
    assert (frames[0][0, 0] > 245).all()  # a page of its own: a GIF has no half-transparent ink
    with pytest.raises(nnx.InputError, match=r"expected \.gif"):
        nnx.plots.animated_boundary(trainer.network.forward, *both, X, Y, tmp_path / "moons.mp4")
    with pytest.raises(nnx.InputError, match="given 4 and 2"):
        nnx.plots.animated_boundary(trainer.network.forward, both[0], [1, 2], X, Y, path)


def test_snapshots_are_equally_far_apart(trained):
    trainer, snapshots, _, _ = trained
    assert snapshots.epochs == [0, 4, 8, 11]
    np.testing.assert_array_equal(snapshots.thetas[-1], trainer.theta)
    np.testing.assert_array_equal(snapshots.thetas[0], trainer.network.init(0, "float32"))


# What all have in common


def light(hexadecimal):
    """The three components, linear in light: the definition of sRGB."""
    c = np.array([int(hexadecimal[k : k + 2], 16) / 255 for k in (1, 3, 5)])
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def contrast(a, b):
    """By WCAG 2.2, https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio."""
    bright, dark = sorted((light(x) @ [0.2126, 0.7152, 0.0722] for x in (a, b)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("page", ["#ffffff", "#1e1e1e"])
def test_every_colour_reads_on_light_and_dark_pages(page):
    for colour in (style.INK, *style.COLOURS):
        assert contrast(colour, page) >= 3, colour


# Machado, Oliveira and Fernandes, 2009, https://doi.org/10.1109/TVCG.2009.113: as people without one kind of cone see.
VISION = {
    "all": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.01182, 0.04294, 0.968881],
    ],
}


@pytest.mark.parametrize("vision", VISION)
def test_colours_can_be_told_apart(vision):
    def lab(colour):  # CIE L*a*b*, white D65
        to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
        seen = np.clip(np.array(VISION[vision]) @ light(colour), 0, 1)
        x = np.array(to_xyz) @ seen / [0.9505, 1, 1.089]
        f = np.where(x > 0.008856, np.cbrt(x), 7.787 * x + 16 / 116)
        return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])

    for a, b in itertools.combinations(style.COLOURS, 2):
        assert np.linalg.norm(lab(a) - lab(b)) > 15, (a, b)


def test_twenty_series_differ():
    assert len({(style.colour(k), str(style.dashes(k))) for k in range(20)}) == 20


@pytest.mark.parametrize("kind", long_but_for(["png", "svg", "pdf"], "svg"))
def test_pictures_are_saved_without_a_background(kind, tmp_path):
    path = tmp_path / f"curve.{kind}"
    nnx.plots.save(nnx.plots.learning_curves(CURVE), path)
    assert path.read_bytes().startswith(SIGNATURES[kind])
    assert [found.name for found in tmp_path.iterdir()] == [path.name]
    if kind == "png":
        with Image.open(path) as picture:
            assert picture.mode == "RGBA"
            assert picture.getpixel((0, 0))[3] == 0
    with pytest.raises(nnx.InputError, match=r"ends with '.jpeg2'; expected one of .*png"):
        nnx.plots.save(nnx.plots.learning_curves(CURVE), tmp_path / "curve.jpeg2")


def test_a_notebook_shows_a_figure_without_pyplot():
    png = nnx.plots.learning_curves(CURVE)._repr_png_()
    assert png.startswith(SIGNATURES["png"])


def test_the_users_own_settings_are_neither_taken_nor_changed():
    import matplotlib as mpl

    with mpl.rc_context({"text.color": "red", "axes.facecolor": "black", "lines.linewidth": 9}):
        figure = nnx.plots.learning_curves(CURVE, "title")
        assert mpl.rcParams["text.color"] == "red"
    assert figure.axes[0].get_lines()[0].get_linewidth() < 3
    assert figure._suptitle.get_color() == style.INK


def test_names_that_are_formulas_or_have_no_glyphs(tmp_path):
    labels = ["$\\frac", "日本語", "a\nb", ""]
    Y = np.arange(4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nnx.plots.save(nnx.plots.confusion_matrix(Y, Y, labels, "$x_"), tmp_path / "a.png")
        nnx.plots.save(nnx.plots.roc(Y, np.eye(4), labels), tmp_path / "b.png")


# What a run leaves

BY_DATA = {
    "digits": {"confusion_matrix.png", "roc.png", "first_layer.png"},
    "iris": {"confusion_matrix.png", "roc.png"},
    "moons": {"confusion_matrix.png", "roc.png", "decision_boundary.png", "decision_boundary.gif"},
    "diabetes": {"predicted_against_true.png"},
}
SMALL = ("--epochs", 3, "--layers", 8, "--backend", "numpy")


@pytest.mark.parametrize("data", long_but_for(BY_DATA, "diabetes"))
@pytest.mark.usefixtures("drawn")
def test_a_run_leaves_the_pictures_that_suit_it_and_they_can_be_drawn_again(run, tmp_path, data):
    status, out, err = run("train", data, *SMALL, "--out", "here")
    warned = [line for line in err.splitlines() if "Warning" in line and "than the baseline" not in line]
    assert (status, warned) == (0, [])
    expected = BY_DATA[data] | {"learning_curve.png"}
    folder = tmp_path / "here"
    pictures = {path.name: path for path in folder.iterdir() if path.suffix in (".png", ".gif")}
    assert set(pictures) == expected
    saved = next(line for line in (out + err).splitlines() if line.startswith("Saved"))
    assert all(name in saved for name in (*expected, "held_out.npz"))
    for path in pictures.values():
        assert path.read_bytes().startswith(SIGNATURES[path.suffix[1:]])
        path.rename(tmp_path / path.name)
    status, out, err = run("plot", "here")
    assert (status, "Error" in err) == (0, False)
    for name in expected:  # below the title, which names the backend in the first
        with Image.open(tmp_path / name) as first, Image.open(folder / name) as again:
            assert first.size == again.size, name
            below = first.height // 8
            one, other = (np.asarray(x.convert("RGBA"), int)[below:] for x in (first, again))
            assert (abs(one - other) > 8).mean() < 1e-3, name
    if data == "moons":  # from the parameters that were kept
        with Image.open(folder / "decision_boundary.gif") as gif:
            assert gif.n_frames == 4


def test_the_curves_of_errors_have_the_targets_unit(tmp_path):
    preparation = nnx_data().Preparation(["x"], True, [0.0], [1.0], "price", None, y_scale=100.0)
    trainer = nnx.Trainer(nnx.mlp([1, 1], output="identity"), backend="numpy")
    X, Y = np.array([[0.0, 1.0]]), np.array([[0.0, 1.0]])
    history = trainer.fit(X, Y, epochs=3, validation=(X, Y), metrics=["mean_absolute_error"])
    cost, error = nnx.plots.run._curves(nnx.plots.run.Left("a run", trainer, preparation)).axes
    assert lines(cost)["training"] == history["loss"]
    assert cost.get_ylabel() == "cost J of the scaled target"
    assert lines(error)["held out"] == [100 * x for x in history["validation_mean_absolute_error"]]


def test_held_out_holds_what_the_model_predicts(run, tmp_path):
    assert run("train", "diabetes", *SMALL, "--out", "here")[0] == 0
    from nnx.plots import held_out

    kept = held_out.read(tmp_path / "here" / "held_out.npz")
    assert kept.A.shape == (1, len(kept.y))
    trainer = nnx.Trainer.load("here/model.safetensors", backend="numpy")
    preparation = nnx_data().Preparation.of(trainer.metadata)
    r2 = metrics.r2_score(kept.y, preparation.y(kept.A))  # in the target's unit
    assert r2 == pytest.approx(trainer.history["validation_r2"][-1], abs=1e-5)


def test_of_very_many_samples_some_are_kept(trained, monkeypatch):
    from nnx.plots import held_out

    trainer, snapshots, X, Y = trained
    monkeypatch.setattr(held_out, "MOST", 30)  # of 80
    kept = held_out.of(trainer, X, Y, Y, snapshots)
    np.testing.assert_array_equal(kept.y, Y[::3])
    np.testing.assert_array_equal(kept.X, X[:, ::3])
    np.testing.assert_array_equal(kept.A, trainer.predict(X[:, ::3]))


def test_a_run_that_holds_out_no_samples_has_a_learning_curve(trained, tmp_path):
    trainer, *_ = trained
    assert nnx.plots.leave(tmp_path, "all", trainer, None, None, None, None) == ["learning_curve.png"]


@pytest.mark.long
def test_a_run_in_python_leaves_pictures_too(trained, tmp_path):
    trainer, snapshots, X, Y = trained
    names = nnx.plots.leave(tmp_path, "moons", trainer, None, X, Y, Y, snapshots=[snapshots])
    assert set(names) == BY_DATA["moons"] | {"learning_curve.png", "held_out.npz"}
    assert {path.name for path in tmp_path.iterdir()} == set(names)


def test_a_run_of_several_labels_leaves_what_suits_it(tmp_path, rng):
    X, Y = rng.standard_normal((2, 60)), rng.integers(0, 2, (3, 60))
    trainer, snapshots = nnx.Trainer(nnx.mlp([2, 4, 3], output="sigmoid"), backend="numpy"), nnx.Snapshots(3)
    trainer.fit(X, Y, epochs=2, callbacks=snapshots)
    names = nnx.plots.leave(tmp_path, "labels", trainer, None, X, Y, Y, snapshots=[snapshots])  # no warning
    assert set(names) == {"learning_curve.png", "roc.png", "held_out.npz"}
    kept = nnx.plots.held_out.read(tmp_path / "held_out.npz")
    np.testing.assert_array_equal(kept.y, Y)
    assert kept.A.shape == Y.shape


def test_one_hot_targets_are_kept_as_classes(rng):
    X, Y = rng.standard_normal((2, 30)), rng.integers(0, 3, 30)
    trainer = nnx.Trainer(nnx.mlp([2, 3], output="softmax"), backend="numpy")
    one_hot = np.eye(3)[:, Y]
    np.testing.assert_array_equal(nnx.plots.held_out.of(trainer, X, one_hot, Y).y, Y)


@pytest.mark.long
def test_an_animation_ends_with_the_model_that_was_kept(tmp_path, monkeypatch):
    X, Y = nnx_data().moons(60)
    trainer, snapshots = nnx.Trainer(nnx.mlp([2, 4, 1]), backend="numpy"), nnx.Snapshots(10)
    trainer.fit(X, Y, epochs=3, callbacks=snapshots)
    trainer.theta = snapshots.thetas[1]  # as early stopping does
    kept = nnx.plots.held_out.of(trainer, X, Y, Y, snapshots)
    assert list(kept.epochs) == [0, 1, 2, 3, nnx.plots.held_out.KEPT]
    np.testing.assert_array_equal(kept.thetas[-1], trainer.theta)
    assert len(snapshots.epochs) == 4  # the caller's own
    shown = []
    monkeypatch.setattr("nnx.plots.run.animated_boundary", lambda *given: shown.extend(given[2]))
    nnx.plots.leave(tmp_path, "moons", trainer, None, X, Y, Y, snapshots=[snapshots])
    assert shown == [0, 1, 2, 3, "the model kept"]


def test_snapshots_only_where_they_are_drawn_and_not_too_large():
    (snapshots,) = nnx.plots.callbacks(nnx.mlp([2, 8, 1]))
    assert snapshots.most == 40
    assert nnx.plots.callbacks(nnx.mlp([3, 8, 1])) == []
    (few,) = nnx.plots.callbacks(nnx.mlp([2, 1000, 1000, 1]))
    assert few.most == 4
    assert nnx.plots.callbacks(nnx.mlp([2, 2000, 2000, 1])) == []


def test_a_run_without_pictures(run, tmp_path):
    assert run("train", "iris", *SMALL, "--no-plots", "--out", "here")[0] == 0
    names = {path.name for path in (tmp_path / "here").iterdir()}
    assert names >= {"held_out.npz", "history.jsonl", "model.safetensors"}
    assert not any(name.endswith(".png") for name in names)
    assert run("plot", "here", "--format", "svg")[0] == 0
    assert (tmp_path / "here" / "roc.svg").read_bytes().startswith(SIGNATURES["svg"])


@pytest.mark.usefixtures("drawn")
def test_a_picture_that_fails_loses_nothing(run, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise MemoryError("no room for a picture")

    monkeypatch.setattr("nnx.plots.run.roc", fail)
    status, out, err = run("train", "iris", *SMALL, "--out", "here")
    assert status == 0
    assert "Warning: roc.png could not be drawn: no room for a picture" in err
    assert "Traceback" not in out + err
    names = {path.name for path in (tmp_path / "here").iterdir()}
    assert names >= {"model.safetensors", "learning_curve.png", "confusion_matrix.png"}
    status, _, err = run("plot", "here")
    assert status == 1
    assert "roc.png could not be drawn: no room for a picture" in err


def test_pictures_of_an_earlier_run_do_not_stay(run, tmp_path):
    assert run("train", "moons", *SMALL, "--out", "here")[0] == 0
    assert run("train", "diabetes", *SMALL, "--out", "here", "--overwrite")[0] == 0
    names = {path.name for path in (tmp_path / "here").iterdir() if path.suffix in (".png", ".gif")}
    assert names == BY_DATA["diabetes"] | {"learning_curve.png"}


def test_images_of_idx_files(run, tmp_path, rng):
    from test_data import write_idx

    Y = np.arange(60) % 2
    images = (rng.integers(0, 100, (60, 5, 5)) + 100 * Y[:, None, None]).astype("uint8")
    write_idx(tmp_path / "some-images-idx3-ubyte", images)
    write_idx(tmp_path / "some-labels-idx1-ubyte", Y.astype("uint8"))
    assert run("train", "some-images-idx3-ubyte", *SMALL, "--out", "here")[0] == 0
    assert (tmp_path / "here" / "first_layer.png").is_file()


def test_columns_of_a_table_are_no_image(run, tmp_path, rng):
    """Eight columns of two words each are 16 inputs of one scale, and no 4 x 4 pixels."""
    rows = ["".join(f"{'ab'[k]}," for k in row) + "xy"[row[0]] for row in rng.integers(0, 2, (60, 8))]
    header = ",".join([*"abcdefgh", "target"])
    (tmp_path / "words.csv").write_text("\n".join([header, *rows]))
    assert run("train", "words.csv", "--target", "target", *SMALL, "--out", "here")[0] == 0
    assert nnx.Trainer.load("here/model.safetensors", backend="numpy").network.n[0] == 16
    assert (tmp_path / "here" / "roc.png").is_file()
    assert not (tmp_path / "here" / "first_layer.png").exists()


# nnx plot


@pytest.fixture
def three(tmp_path):
    """Three runs' folders: two with a history alone."""
    for k, name in enumerate(("one", "two")):
        folder = tmp_path / name
        folder.mkdir()
        records = [
            {"epoch": e, "seconds": 0.1, "loss": 1 / (e + k), "validation_accuracy": None} for e in (1, 2)
        ]
        (folder / "history.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))
    (tmp_path / "three").mkdir()
    trainer = nnx.Trainer(nnx.mlp([2, 1]), backend="numpy")
    trainer.fit([[0.0, 1.0], [1.0, 2.0]], [0, 1], epochs=3)
    trainer.save(tmp_path / "three" / "model.safetensors")
    return tmp_path


def test_several_runs_in_one_picture(run, three, monkeypatch):
    drawn = {}

    def learning_curves(histories):
        drawn.update(histories)
        return nnx.plots.learning_curves(histories)

    monkeypatch.setitem(nnx.plots.run.JOINT, "learning_curves", learning_curves)
    status, out, err = run("plot", "one", "two", "three/model.safetensors", "--out", "pictures")
    assert status == 0
    assert "pictures: learning_curves.png, comparison.png" in out + err
    assert list(drawn) == ["one", "two", "three"]
    assert drawn["two"]["loss"] == [1 / 2, 1 / 3]
    assert len(drawn["three"]["loss"]) == 3
    assert "seconds" not in drawn["one"]
    assert {path.name for path in (three / "pictures").iterdir()} == {"learning_curves.png", "comparison.png"}
    status, _, err = run("plot", "one", "two", "--out", "pictures")
    assert status == 1
    assert "exists already; choose another --out, or give --overwrite" in err
    assert run("plot", "one", "two", "--out", "pictures", "--overwrite")[0] == 0


def test_a_sweep_is_its_runs(run, three, monkeypatch):
    drawn = {}
    monkeypatch.setitem(
        nnx.plots.run.JOINT, "comparison", lambda histories: drawn.update(histories) or figure
    )
    figure = nnx.plots.learning_curves(CURVE)
    assert (
        run("train", "iris", "--epochs", 1, "--sweep", "layers=4 x 8", "--sweep", "seed=0", "--out", "s")[0]
        == 0
    )
    assert run("plot", "s", "--kind", "comparison", "--out", "pictures")[0] == 0
    assert sorted(drawn) == ["layers=4 seed=0", "layers=8 seed=0"]
    drawn.clear()
    assert run("plot", "s", "one", "--kind", "comparison", "--out", "more")[0] == 0
    assert sorted(drawn) == ["layers=4 seed=0", "layers=8 seed=0", "one"]


def test_a_picture_to_a_file_in_its_format(run, three):
    assert run("plot", "three", "--kind", "learning_curve", "--out", "new/curve.pdf")[0] == 0
    assert (three / "new" / "curve.pdf").read_bytes().startswith(SIGNATURES["pdf"])
    assert run("plot", "one", "two", "--kind", "comparison", "--out", "both.svg")[0] == 0
    assert (three / "both.svg").read_bytes().startswith(SIGNATURES["svg"])
    assert run("plot", "one")[0] == 0  # a history alone has learning curves


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["nowhere"], 1, "there is no folder 'nowhere'"),
        (
            ["."],
            1,
            "the folder '.' holds no run: there is no model.safetensors in it, and no checkpoint; give one of the runs",
        ),
        (["one", "empty"], 1, "'empty' holds no run"),
        (["one", "bad"], 1, "line 2 of 'bad/history.jsonl' is no JSON object"),
        (["three", "--kind", "roc"], 1, "roc cannot be drawn of 'three', which has no held_out.npz"),
        (["one", "--kind", "roc"], 1, "'one' has no model.safetensors"),
        (["three", "--out", "a.png"], 1, "is the name of one picture; give one --kind"),
        (["three", "--kind", "rok"], 2, "did you mean 'roc'"),
        (["one", "two", "--kind", "roc"], 2, "Known: learning_curves, comparison"),
        (["three", "--format", "jpg"], 2, "unknown format 'jpg'"),
        (["three", "--kind", "roc", "--format", "svg", "--out", "q.pdf"], 2, "--format is for a folder"),
        ([], 2, "Missing argument"),
    ],
)
def test_what_cannot_be_drawn_is_said(run, three, arguments, status, message):
    (three / "empty").mkdir()
    (three / "bad").mkdir()
    (three / "bad" / "history.jsonl").write_text('{"epoch": 1, "loss": 1.0}\nnonsense\n')
    got, out, err = run("plot", *arguments)
    assert got == status
    assert message in " ".join(err.replace("│", " ").split())
    assert "Traceback" not in out + err


@pytest.mark.parametrize("damage", [b"", b"nonsense", b"PK\x03\x04 nonsense"])
def test_a_damaged_file_of_held_out_samples(run, three, damage):
    (three / "three" / "held_out.npz").write_bytes(damage)
    status, _, err = run("plot", "three")
    assert status == 1
    assert "held_out.npz' cannot be read" in err


def test_members_have_thin_curves_and_their_median_a_thick_one():
    history = {
        "loss": [[2.0, 4.0, 6.0], [1.0, np.nan, 1e9]],
        "validation_loss": [[2.5, 4.5, 6.5], [1.5, np.nan, 1e9]],
        "validation_accuracy": [[0.5, 0.25, 0.25], [0.75, np.nan, 0.5]],
    }
    made = nnx.plots.learning_curves(history, "three members")
    cost, accuracy = made.axes
    thin = [line for line in cost.get_lines() if line.get_linewidth() == 0.5]
    assert [line.get_ydata()[0] for line in thin] == [2.0, 2.5, 4.0, 4.5, 6.0, 6.5]
    thick = {line.get_label(): list(line.get_ydata()) for line in cost.get_lines() if line not in thin}
    assert thick == {"training": [4.0, 4.0], "held out": [4.5, 4.5]}  # a member that has ended stays
    assert [text.get_text() for text in accuracy.get_legend().get_texts()] == [
        "held out, median", "thin: each of 3 members"
    ]  # fmt: skip
    gone = nnx.plots.learning_curves({"loss": [[2.0, np.nan], [1.0, np.nan]]}).axes[0].get_legend()
    assert gone.get_texts()[-1].get_text() == "thin: 1 of 2 members"
    both = {"members": history, "one": {"loss": [1.0, 0.5], "validation_accuracy": [0.5, 0.25]}}
    beside = nnx.plots.learning_curves(both)
    assert [4.0, 4.0] in [list(line.get_ydata()) for line in beside.axes[0].get_lines()]
    best = nnx.plots.comparison(both).axes[0].get_yticklabels()
    assert [label.get_text() for label in best] == ["members", "one"]  # accuracies of 0.5 and 0.25


@pytest.mark.parametrize(("name", "most"), [("loss", 4.0), ("r2", 1.0)])
def test_a_member_far_from_the_others_does_not_hide_them(name, most):
    losses = [[1.0 + 0.1 * k for k in range(10)] + [far] for far in (2.0, 1e12)]
    history = {"loss": losses, "r2": [[2 - x for x in epoch] for epoch in losses]}
    axes = dict(zip(("loss", "r2"), nnx.plots.learning_curves(history).axes, strict=True))[name]
    low, high = axes.get_ylim()
    assert -1.5 < low < high < most + 0.1
    assert axes.get_legend().get_texts()[-1].get_text() == "thin: each of 11 members, some beyond the axis"


@pytest.mark.parametrize(
    ("name", "others", "one"),
    [
        ("accuracy", 1.0, 0.1),
        ("accuracy", 0.01, 0.9),
        ("loss", 1.0, 9.0),
        ("loss", 1.0, 1e9),
        ("rmse", 3.0, 1.0),
        ("r2", 1.0, -1e9),
        ("mae", 0.0, 0.5),
    ],
)
def test_a_member_that_is_not_far_is_shown_also_beside_equal_ones(name, others, one):
    made = nnx.plots.learning_curves({"loss": [[1.0] * 8], name: [[others] * 7 + [one]]})
    axes = made.axes[-1]
    low, high = axes.get_ylim()
    assert low < min(others, one) <= max(others, one) < high
    assert axes.get_legend().get_texts()[-1].get_text() == "thin: each of 8 members"
