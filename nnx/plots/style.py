"""What all pictures share: colours that read on a light page and on a dark one, names cut short, and saving."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

from nnx.errors import INSTALL, InputError, as_path, items, shown
from nnx.files import written_aside
from nnx.port import require

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


def short(name: object, most: int = 24) -> str:
    r"""Return a name for a picture, in one line of so many characters, its end and its beginning kept.

    Examples
    --------
    >>> short("petal length (cm)"), short("a name that nobody would like to read in a legend", 20)
    ('petal length (cm)', 'a name tha... legend')
    >>> short("US$")  # a dollar sign is no formula
    'US\\$'
    """
    text = " ".join((name if isinstance(name, str) else shown(name)).split())
    if len(text) > most:
        text = f"{text[: most // 2]}...{text[most // 2 + 3 - most :]}"
    return text.replace("$", r"\$")


def figure(width: float, height: float) -> Any:
    """Return an empty figure of a size in inches, which a notebook shows without pyplot, and without a background."""
    made = require("matplotlib.figure", INSTALL).Figure(figsize=(width, height), layout="constrained")
    made.patch.set_alpha(0)
    made.get_layout_engine().set(w_pad=0.08, h_pad=0.06)
    made._repr_png_ = partial(png, made)
    return made


@contextmanager
def drawing() -> Iterator[None]:
    """Draw in the ink, whatever the user's own settings are."""
    mpl = require("matplotlib", INSTALL)
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
    """Write a figure; a character that the font lacks becomes a box, which is no reason for a warning."""
    import warnings

    with drawing(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
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
    path = as_path("path", path)
    if not hasattr(figure, "canvas"):
        raise InputError(f"figure must be one of matplotlib's, not {shown(figure)}")
    kinds = figure.canvas.get_supported_filetypes()
    kind = path.suffix.removeprefix(".").lower()
    if kind not in kinds:
        raise InputError(
            f"{shown(str(path))} ends with {shown(path.suffix)}; expected one of {', '.join(sorted(kinds))}"
        )
    with written_aside(path) as aside:
        write(figure, aside, kind)


def class_names(labels: Sequence[object] | None, K: int) -> list[str]:
    """Return what the K classes are called: their labels, or their numbers.

    Raises
    ------
    InputError
        When there are not K labels.
    """
    if labels is None:
        return [str(k) for k in range(K)]
    names = items("labels", labels, "a list of the classes' names")
    if len(names) != K:
        raise InputError(f"labels must name the {K} classes; given {len(names)} of them")
    return [short(name, 18) for name in names]
