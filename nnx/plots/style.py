"""The look of all pictures, with colours that read on a light page and on a dark one, and saving them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from nnx import errors
from nnx.display.curves import COLOURS
from nnx.errors import InputError
from nnx.io.atomic_write import written_aside
from nnx.port.base import require

INK = "#7d8590"
"""Of axes and text: there is no background, and this has a contrast of 3 or more on white and on near black."""

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
