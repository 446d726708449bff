"""What a notebook shows: of a fit while it runs, and of networks, histories and trainers."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import nnx
from nnx.callbacks import notebook_bar
from nnx.display import html

DOCS = Path(__file__).parent.parent / "docs"


class Tags(HTMLParser):
    """Reads HTML; what it does not close, or closes without opening, is an error."""

    def __init__(self, text):
        super().__init__()
        self.open, self.seen, self.text = [], [], []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def all(self, tag):
        return [attrs for seen, attrs in self.seen if seen == tag]


def points(line):
    return [tuple(map(float, point.split(","))) for point in line["points"].split()]


@pytest.fixture
def trainer(rng):
    made = nnx.Trainer(nnx.mlp([3, 5, 1]), backend="numpy")
    X, Y = rng.standard_normal((3, 40)), rng.integers(0, 2, 40)
    made.fit(X, Y, epochs=4, batch_size=10, validation=(X, Y))
    return made


# HTML


def test_a_network_is_a_table_of_its_layers():
    net = nnx.mlp([3, 5, 1])
    page = Tags(net._repr_html_())
    assert len(page.all("tr")) == 1 + 3
    text = " ".join(page.text)
    for shown in ("W1 (5, 3), b1 (5, 1)", "relu", "sigmoid, binary cross-entropy", "26 parameters"):
        assert shown in text
    assert net.summary()._repr_html_() == net._repr_html_()


def test_what_people_name_is_escaped():
    nasty = "<script>alert(1)</script>&"
    page = Tags(html.history({nasty: [1.0, 2.0]}))
    assert not page.all("script")
    assert any("<script>" in text for text in page.text)
    page = Tags(html.progress(0.5, nasty, ""))
    assert not page.all("script")


def test_names_of_layers_are_escaped(monkeypatch):
    monkeypatch.setattr("nnx.model.activations.ACTIVATIONS", dict(nnx.ACTIVATIONS))
    relu = nnx.ACTIVATIONS["relu"]
    named = nnx.Activation("<b>&", relu.g, relu.dg, relu.keep, relu.init)
    page = Tags(nnx.Network(2, [nnx.Dense(3, named), nnx.Dense(1)], output="identity")._repr_html_())
    assert not page.all("b")
    assert "<b>&" in page.text


def test_a_history_is_a_curve_with_its_last_values(trainer):
    history = trainer.history
    assert history == dict(history)  # a dict as before
    page = Tags(history._repr_html_())
    assert len(page.all("svg")) == 2  # cost, accuracy
    training, held_out, accuracy = page.all("polyline")
    assert [len(points(line)) for line in (training, held_out, accuracy)] == [4, 4, 4]
    assert training["stroke"] != held_out["stroke"] == accuracy["stroke"]
    # Lower on the page is smaller, and the axis is linear where the cost falls but little.
    assert (
        np.argsort([y for _, y in points(training)]).tolist()
        == np.argsort([-J for J in history["loss"]]).tolist()
    )
    text = " ".join(page.text)
    for name in ("loss", "validation_loss", "validation_accuracy"):
        assert f"{history[name][-1]:.4g}" in text


def test_a_cost_that_falls_far_is_on_a_logarithmic_scale():
    page = Tags(html.history({"loss": [100.0, 10.0, 1.0]}))
    high, middle, low = (y for _, y in points(page.all("polyline")[0]))
    assert middle - high == pytest.approx(low - middle, abs=0.2)
    assert "logarithmic" in " ".join(page.text)


@pytest.mark.parametrize(
    ("history", "lines", "dots"),
    [
        ({}, 0, 0),
        ({"loss": []}, 0, 0),
        ({"loss": [1.0]}, 0, 1),
        ({"loss": [1.0, 1.0]}, 1, 0),
        ({"loss": [1.0, 2.0, float("nan"), 3.0]}, 1, 1),
        ({"loss": [1.0, 2.0], "validation_confusion_matrix": [[[1, 2]], [[3, 4]]]}, 1, 0),
        ({"loss": [None, float("inf")]}, 0, 0),
    ],
)
def test_curves_of_any_history(history, lines, dots):
    page = Tags(html.history(history))
    assert (len(page.all("polyline")), len(page.all("circle"))) == (lines, dots)
    assert "nan" not in str(page.all("polyline"))


def test_long_curves_are_thinned_and_keep_their_end():
    shown = html.history({"loss": list(range(100_000))})
    (line,) = Tags(shown).all("polyline")
    assert 100 < len(points(line)) < 300
    assert points(line)[-1] == (294.0, 6.0)  # the upper right corner
    assert len(shown) < 10_000


def test_html_is_whole_in_itself(trainer):
    for shown in (trainer._repr_html_(), html.progress(None, "epoch 1/2", "")):
        page = Tags(shown)
        assert not page.all("script") + page.all("link") + page.all("style") + page.all("img")
        assert "http" not in shown
        assert not re.search(
            r"(?<![-\w])(color|background):\s*(#000|#fff|black|white)", shown
        )  # of the page's theme
    text = " ".join(Tags(trainer._repr_html_()).text)
    assert "16 steps done by Adam(" in text
    assert "float32 on numpy" in text


def test_a_trainer_that_has_not_trained():
    page = Tags(nnx.Trainer(nnx.mlp([2, 1]), backend="numpy")._repr_html_())
    assert not page.all("svg")


# The display of a fit


class Screen:
    """Stands where IPython's display stands."""

    def __init__(self, html, text):
        self.shown = [(html, text)]
        Screen.made.append(self)

    def update(self, html, text):
        self.shown.append((html, text))


@pytest.fixture
def screen(monkeypatch):
    """A notebook; the displays that were made in it."""
    Screen.made = []
    monkeypatch.setattr(notebook_bar, "in_notebook", lambda: True)
    monkeypatch.setattr(notebook_bar, "Display", Screen)
    return Screen.made


X, Y = [[0.0, 1.0, 2.0, 3.0]], [0, 1, 1, 0]


def fit(**options):
    trainer = nnx.Trainer(nnx.mlp([1, 1]), backend="numpy")
    trainer.fit(X, Y, batch_size=2, **{"epochs": 3, **options})
    return trainer


def test_a_fit_in_a_notebook_shows_a_bar_that_ends_at_100_percent(screen):
    fit(validation=(X, Y))
    (display,) = screen
    first, last = display.shown[0], display.shown[-1]
    assert "0%" in first[0]
    assert first[1] == "epoch 0/3"
    assert "width:100%" in last[0]
    assert last[1].startswith("epoch 3/3 loss ")
    assert "held out: loss" in last[1]
    assert len(Tags(last[0]).all("svg")) == 2
    fit()
    assert len(screen) == 2  # a place of its own for each fit


def test_it_is_updated_in_place_and_not_for_every_step(screen, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(notebook_bar.time, "monotonic", lambda: now[0])

    def pass_time(progress):
        now[0] += 0.01

    fit(epochs=50, callbacks=pass_time)
    (display,) = screen
    # 150 calls, a hundredth of a second each: one picture in a quarter of a second, the first and the last.
    assert 5 <= len(display.shown) <= 9
    shares = [float(re.search(r"width:(\d+)%", html)[1]) for html, _ in display.shown]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, 100)


@pytest.mark.parametrize(
    "options",
    [{"progress": False}, {"callbacks": nnx.ProgressBar()}],
    ids=["turned off", "another bar is given"],
)
def test_it_can_be_turned_off(screen, options, capsys):
    fit(**options)
    assert not screen


def test_no_script_has_it(capsys):
    fit()
    assert capsys.readouterr() == ("", "")


def test_a_script_can_ask_for_a_bar(capsys):
    fit(progress=True)
    assert "epoch 3/3 loss " in capsys.readouterr().out


def test_a_fit_that_ends_early_says_why(screen):
    def stop(trainer, progress):
        trainer.stop("enough")

    stopping = nnx.Callback()
    stopping.on_epoch = stop
    fit(callbacks=stopping)
    assert "stopped: enough" in screen[0].shown[-1][1]
    assert "width:33%" in screen[0].shown[-1][0]

    def interrupt(progress):
        if progress.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(callbacks=interrupt)
    assert "ended before its last epoch" in screen[1].shown[-1][1]


def test_batches_of_unknown_number(screen):
    trainer = nnx.Trainer(nnx.mlp([1, 1]), backend="numpy")
    trainer.fit(lambda: iter([(np.ones((1, 2)), np.ones((1, 2)))] * 3), epochs=2)
    assert "width:100%" in screen[0].shown[-1][0]


@pytest.mark.parametrize("wrong", ["yes", 1, 0.5])
def test_a_wish_that_is_none(wrong):
    with pytest.raises(nnx.InputError, match="progress must be True, False, or None"):
        fit(progress=wrong)


def test_the_estimators_show_nothing(screen):
    pytest.importorskip("sklearn")
    from nnx.sklearn import MLPClassifier

    model = MLPClassifier((2,), max_iter=2, backend="numpy")
    model.partial_fit(np.arange(8.0).reshape(-1, 1), [0, 1] * 4, classes=[0, 1])
    assert not screen


def test_ipython_is_never_imported_by_nnx():
    code = "import nnx, sys; nnx.Trainer(nnx.mlp([1, 1]), backend='numpy').fit([[0.0, 1.0]], [0, 1]);"
    code += "print('IPython' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# The notebook in docs/


def test_the_notebook_is_committed_without_outputs():
    notebook = json.loads((DOCS / "first-steps.ipynb").read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert cells
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The cells' outputs by what the cells begin with."""
    for needed in ("nbclient", "ipykernel", "sklearn", "matplotlib"):
        pytest.importorskip(needed, reason=f"executing a notebook needs {needed} (extra dev)")
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(DOCS / "first-steps.ipynb", as_version=4)
    folder = str(tmp_path_factory.mktemp("notebook"))
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": folder}}
    ).execute()
    return [(cell.source, cell.outputs) for cell in notebook.cells if cell.cell_type == "code"]


def outputs(executed, part):
    """The outputs of the cell that holds this."""
    ((_, found),) = [cell for cell in executed if part in cell[0]]
    return found


def test_no_cell_of_the_notebook_fails_or_warns(executed):
    for source, found in executed:
        assert not [one for one in found if one.output_type in ("error", "stream")], source


def test_the_fit_in_the_notebook_leaves_one_full_bar_with_curves(executed):
    (shown,) = outputs(executed, "trainer.fit(")
    page = Tags(shown.data["text/html"])
    assert "width:100%" in shown.data["text/html"]
    assert "100%" in page.text
    assert len(page.all("svg")) == 2
    assert shown.data["text/plain"].startswith("epoch 30/30 loss ")
    assert float(shown.data["text/plain"].split("accuracy ")[1].split("%")[0]) > 95


@pytest.mark.parametrize(
    ("part", "shown"),
    [("net = nnx.mlp", "W1 (128, 64)"), ("# curves", "cost J"), ("Trainer.load", "steps done by Adam")],
)
def test_what_the_notebook_shows_as_html(executed, part, shown):
    (found,) = outputs(executed, part)
    assert shown in " ".join(Tags(found.data["text/html"]).text)


@pytest.mark.parametrize("part", ["learning_curves", "confusion_matrix", "first_layer"])
def test_the_notebooks_pictures(executed, part):
    (found,) = outputs(executed, part)
    assert len(found.data["image/png"]) > 5000
