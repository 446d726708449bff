"""Generated inputs for the pictures: each gives a figure with all its texts, or an InputError."""

import warnings

import numpy as np
import pytest

import nnx

for needed in ("matplotlib", "sklearn", "typer", "polars"):
    pytest.importorskip(needed, reason="the pictures (extra cli) are not installed")

from matplotlib.text import Text  # noqa: E402  # after the skip

from nnx.metrics.history import History  # noqa: E402
from nnx.plots.style import png  # noqa: E402
from nnx.plots.texts import names, short  # noqa: E402

NAMES = [
    "a", "_other", "__", "US$", "$x$", "$\\frac{", "\\", "%d {0}", "", " ", "a\nb", "tab\tred\x1b[31m", "\x00",
    "日本語", "עברית", "नमस्ते", "😀", "e\u0301", "\u202eabc", "\ud800", "x" * 300, "<b>&", 7, -1.5, None, True,
]  # fmt: skip
NUMBERS = [
    0.0,
    1.0,
    -1.0,
    0.99996,
    1e-300,
    5e-324,
    1e99,
    -1e99,
    1e300,
    1.5e308,
    np.nan,
    np.inf,
    -np.inf,
    1e-9,
    123.0,
]


class Drawn:
    """Draws numbers, names and sizes from one seed."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def pick(self, options):
        return options[self.rng.integers(len(options))]

    def name(self):
        return self.pick(NAMES)

    def labels(self, K):
        return self.pick([None, [self.name() for _ in range(K)], np.array([str(k) for k in range(K)])])

    def numbers(self, *shape, odd=0.3):
        """Numbers of one size, or of any; sometimes all the same."""
        found = self.rng.standard_normal(shape) * self.pick([1e-200, 1e-6, 1.0, 1e6, 1e90])
        if self.rng.random() < odd and found.size:
            flat = found.reshape(-1)
            flat[self.rng.integers(flat.size)] = self.pick(NUMBERS)
        return np.full(shape, self.pick(NUMBERS)) if self.rng.random() < odd / 2 else found

    def classes(self, K, m):
        """Class indices; of few classes, or one, more often than of all."""
        return self.rng.integers(0, self.pick([1, K, K, K, K, K + 1]), m)


def confusion(draw):
    K, m = draw.pick([1, 2, 3, 5, 25, 400]), draw.pick([1, 2, 30])
    labels = draw.labels(K)
    figure = nnx.plots.confusion_matrix(
        draw.classes(K, m), draw.classes(K, m), labels, draw.name(), draw.pick([None, 1000, 10**7])
    )
    return figure, labels if labels is not None and K <= 20 else []


def roc(draw):
    K, m = draw.pick([1, 2, 3, 5, 25]), draw.pick([1, 2, 30])
    labels = draw.labels(max(K, 2))
    A = draw.rng.random((K, m)) if draw.rng.random() < 0.8 else draw.numbers(K, m)
    figure = nnx.plots.roc(draw.classes(max(K, 2), m), A, labels, draw.name())
    return figure, []


def history(draw):
    epochs = draw.pick([0, 1, 2, 5])
    made = History()
    for name in ("loss", "validation_loss", "accuracy", "validation_accuracy", draw.name()):
        if draw.rng.random() < 0.7:
            made[name if isinstance(name, str) else str(name)] = draw.numbers(epochs).tolist()
    made.kept = draw.pick([None, 1, 3, 10**9])
    return made


def curves(draw):
    return nnx.plots.learning_curves(history(draw), draw.name(), draw.pick([None, 128])), []


def runs(draw):
    given = {draw.name(): history(draw) for _ in range(draw.pick([1, 2, 4]))}
    return draw.pick([nnx.plots.learning_curves, nnx.plots.comparison])(given, draw.name()), []


def regression(draw):
    m = draw.pick([1, 2, 40])
    name = draw.name()
    figure = nnx.plots.predicted_against_true(draw.numbers(m), draw.numbers(m), name, draw.name())
    return figure, []


def weights(draw):
    n, shape = draw.pick(
        [(16, None), (12, (3, 4)), (48, None), (12, (2, 2, 3)), (7, None), (0, None), (1, (1, 1))]
    )
    return nnx.plots.first_layer(draw.numbers(draw.pick([0, 1, 5]), n), shape, title=draw.name()), []


def boundary(draw):
    m, K = draw.pick([1, 2, 30]), draw.pick([1, 3, 14])
    Y = draw.classes(max(K, 2), m) if draw.rng.random() < 0.7 else draw.numbers(m)

    def predict(X):
        return np.abs(np.sin(X[0] + np.arange(K)[:, None]))

    labels = draw.labels(max(K, 2))
    figure = nnx.plots.decision_boundary(predict, draw.numbers(2, m), Y, labels, [draw.name(), draw.name()])
    return figure, []


KINDS = [confusion, roc, curves, runs, regression, weights, boundary]


def draws(kind, seed, picture):
    """Draw what a seed says; return whether there was a figure, whose texts are then looked at."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            figure, expected = kind(Drawn(seed))
        except nnx.InputError:
            return False
        if picture:
            assert png(figure, dpi=40).startswith(b"\x89PNG")
            texts = [text for text in figure.findobj(Text) if text.get_text()]
            assert all(text.get_fontsize() >= 7 for text in texts)
            assert {text.get_text() for text in texts} >= set(names(list(expected), 18))
        return True


@pytest.mark.parametrize("kind", KINDS)
def test_odd_inputs_give_a_figure_or_an_input_error(kind):
    drawn = sum(draws(kind, seed, picture=seed == 1) for seed in range(4))
    assert drawn


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_many_odd_inputs_give_a_figure_or_an_input_error(kind):
    drawn = sum(draws(kind, seed, picture=True) for seed in range(100, 130))
    assert drawn > 5


@pytest.mark.parametrize(
    "given", [None, 3, "text", {"a": 1}, {"loss": 0.5}, {"loss": None}, [1.0], {"a": {"loss": 2}}]
)
def test_what_is_no_history_is_refused(given):
    for function in (nnx.plots.learning_curves, nnx.plots.comparison):
        with pytest.raises(nnx.InputError):
            function(given)


@pytest.mark.parametrize(
    "odd", [None, "text", [1, "a"], [[1], [1, 2]], [1j], [0.5, 1], [np.nan, 0], object(), 3, {}]
)
def test_what_is_no_array_of_classes_is_refused(odd):
    for call in (
        lambda: nnx.plots.confusion_matrix(odd, [0, 1]),
        lambda: nnx.plots.confusion_matrix([0, 1], odd),
        lambda: nnx.plots.roc(odd, [[0.1, 0.9]]),
        lambda: nnx.plots.roc([0, 1], odd),
        lambda: nnx.plots.first_layer(odd),
        lambda: nnx.plots.predicted_against_true(odd, [[1.0]]),
        lambda: nnx.plots.decision_boundary(lambda X: X[:1], odd, [0, 1]),
        lambda: nnx.plots.decision_boundary(lambda X: odd, np.eye(2), [0, 1]),
        lambda: nnx.plots.save(odd, "a.png"),
    ):
        with pytest.raises(nnx.InputError):
            call()


def test_every_character_of_a_short_text_can_be_drawn():
    rng = np.random.default_rng(0)
    for _ in range(2000):
        text = "".join(
            map(chr, rng.choice([*range(0x300), *range(0x2000, 0x2100), 0xD800, 0xFFFF, 0x1F600], 12))
        )
        shown = short(text, 40)
        shown.encode()  # no half of a pair is in it
        assert len(shown.replace("\\$", "$")) <= 40
        assert not any(ord(character) < 32 for character in shown)
