"""What all pictures share: colours that read on a light page and on a dark one, names cut short, and saving."""

import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from nnx import errors
from nnx.errors import InputError
from nnx.io.atomic_write import written_aside
from nnx.port.base import require

INK = "#7d8590"
"""Of axes and text: there is no background, and this has a contrast of 3 or more on white and on near black."""

COLOURS = ("#2386c8", "#d55e00", "#009e73", "#cc79a7", "#8c6239")
"""Of series and classes, after Okabe and Ito (https://jfly.uni-koeln.de/color/): people of all kinds of colour vision
tell them apart, on white and on near black (a test holds them to it)."""

DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (5, 1.5, 1.5, 1.5)))
MARKERS = ("o", "^", "s", "D")

SEQUENTIAL, DIVERGING = "cividis", "PuOr_r"
"""Colour maps made for all kinds of colour vision."""


def colour(k: int) -> str:
    """Return the k-th colour; after the last the first again, see `dashes` and `marker`."""
    return COLOURS[k % len(COLOURS)]


def dashes(k: int) -> Any:
    """Return the line of the k-th series: with its colour it is one of 20."""
    return DASHES[k // len(COLOURS) % len(DASHES)]


def marker(k: int) -> str:
    """Return the marker of the k-th series."""
    return MARKERS[k // len(COLOURS) % len(MARKERS)]


def readable_map() -> Any:
    """Return the part of the sequential colour map that is seen on white and on near black."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    return ListedColormap(colormaps[SEQUENTIAL]([0.3 + 0.65 * k / 255 for k in range(256)]))


EMPTY = "(empty)"
"""Stands for a name without characters."""


def short(name: object, most: int = 24) -> str:
    r"""Return a text for a picture, in one line of so many characters, its end and its beginning kept.

    Examples
    --------
    >>> short("petal length (cm)"), short("a name that is too long to be read in a legend", 20)
    ('petal length (cm)', 'a name tha... legend')
    >>> short("US$")  # a dollar sign is no formula
    'US\\$'
    >>> short("red\x1b[0m")  # control characters are written as Python does
    'red\\x1b[0m'
    """
    return _escaped(_cut(_line(name), most))


def names(given: Sequence[object], most: int = 24) -> list[str]:
    """Return what things are called in a picture; different ones that would look alike have their number behind.

    Examples
    --------
    >>> names(["cat", "", "cat"])
    ['cat', '(empty)', 'cat']
    >>> names(["a bird of which nobody knows", "a bird of whom nobody knows"], 16)
    ['a bir...ows (0)', 'a bir...ows (1)']
    """
    lines = [_line(one) or EMPTY for one in given]
    shown = [_cut(line, most) for line in lines]
    alike: dict[str, set[str]] = {}
    for text, one in zip(shown, given, strict=True):
        alike.setdefault(text, set()).add(_text(one))
    for k, text in enumerate(shown):
        if len(alike[text]) > 1:
            number = f" ({k})"
            shown[k] = _cut(lines[k], most - len(number)) + number
    return [_escaped(text) for text in shown]


def _line(name: object) -> str:
    """Return a text in one line, whose characters can all be seen."""
    return "".join(map(_visible, " ".join(_text(name).split())))


def _text(name: object) -> str:
    try:
        return str(name)
    except Exception:  # a class of the user's may raise any error
        return errors.shown(name)


def _visible(character: str) -> str:
    """Return a character; its escape if it would be no glyph, or would turn the order of its neighbours."""
    odd = unicodedata.category(character) in ("Cc", "Cs") or unicodedata.bidirectional(character) in TURNING
    return character.encode("unicode_escape").decode() if odd else character


TURNING = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
"""Classes of characters that say in which direction others are read."""


def _cut(text: str, most: int) -> str:
    """Return so many characters of a text, its end and its beginning kept."""
    if len(text) <= most:
        return text
    end = most - most // 2 - 3
    return f"{text[: most // 2]}...{text[len(text) - end :]}"


def _escaped(text: str) -> str:
    """Return a text of which matplotlib takes nothing for a formula."""
    return text.replace("$", r"\$")


def figure(width: float, height: float) -> Any:
    """Return an empty figure of a size in inches, which a notebook shows without pyplot, and without a background."""
    require("matplotlib", "cli")
    from nnx.plots.picture import Picture

    made: Any = Picture(figsize=(width, height), layout="constrained")
    made.patch.set_alpha(0)
    made.get_layout_engine().set(w_pad=0.08, h_pad=0.06)
    return made


def legend(owner: Any, handles: Sequence[Any], texts: Sequence[str], **options: Any) -> Any:
    """Return a legend of a figure or of axes; matplotlib's own leaves out texts that are empty or begin with '_'."""
    made = owner.legend(list(handles), ["text"] * len(texts), **options)
    for shown, text in zip(made.get_texts(), texts, strict=True):
        shown.set_text(text)
    return made


@contextmanager
def drawing() -> Iterator[None]:
    """Draw in the ink, whatever the user's own settings are."""
    mpl = require("matplotlib", "cli")
    inked = (
        "text.color",
        "axes.edgecolor",
        "axes.labelcolor",
        "axes.titlecolor",
        "xtick.color",
        "ytick.color",
    )
    settings: Any = {
        **dict.fromkeys((*inked, "legend.labelcolor", "grid.color"), INK),
        "font.size": 9,
        "axes.facecolor": "none",
        "axes.titlesize": 9,
        "grid.alpha": 0.3,
        "legend.frameon": False,
        "legend.fontsize": 8,
        "figure.titlesize": 10,
    }
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(settings)
        yield


def png(figure: Any, dpi: int = 120) -> bytes:
    """Return a figure as PNG."""
    buffer = BytesIO()
    write(figure, buffer, "png", dpi)
    return buffer.getvalue()


def write(figure: Any, to: Any, kind: str, dpi: int = 120) -> None:
    """Write a figure, without a background."""
    with drawing():
        figure.savefig(to, format=kind, dpi=dpi, facecolor="none", edgecolor="none")


def save(figure: Any, path: str | Path) -> None:
    """Write a figure in the format that the name ends with (.png, .svg, .pdf, ...), aside first, then renamed.

    Raises
    ------
    InputError
        For an ending that matplotlib does not write, or a folder that is not there.

    Examples
    --------
    >>> import nnx, tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     nnx.plots.save(nnx.plots.learning_curves({"loss": [2.0, 1.0]}), f"{folder}/curve.svg")
    ...     Path(folder, "curve.svg").read_text()[:5]
    '<?xml'
    """
    path = errors.as_path("path", path)
    if not hasattr(figure, "savefig"):
        raise InputError(f"figure must be a matplotlib figure, not {errors.shown(figure)}")
    kinds = figure.canvas.get_supported_filetypes()
    kind = path.suffix.removeprefix(".").lower()
    if kind not in kinds:
        raise InputError(
            f"{errors.shown(str(path))} ends with {errors.shown(path.suffix)}; expected one of "
            f"{', '.join(sorted(kinds))}"
        )
    with written_aside(path) as aside:
        write(figure, aside, kind)


def sampled(m: int, total: object) -> str:
    """Return what a picture of m samples says where there are more; nothing where it shows all.

    Examples
    --------
    >>> sampled(2000, 48000), sampled(10, None)
    ('2,000 of 48,000 samples', '')
    """
    if total is None or errors.integer("total", total) <= m:
        return ""
    return f"{m:,} of {errors.integer('total', total):,} samples"


def class_names(labels: Sequence[object] | None, K: int) -> list[str]:
    """Return what the K classes are called: their labels, or their numbers.

    Raises
    ------
    InputError
        When there are not K labels.
    """
    if labels is None:
        return [str(k) for k in range(K)]
    given = label_list(labels)
    if len(given) != K:
        raise InputError(f"labels must name the {K} classes; given {len(given)} of them")
    return names(given, 18)


def label_list(labels: Any) -> list[Any]:
    """Return labels as a list, or raise an InputError."""
    return errors.items("labels", labels, "a list of the classes' names")
