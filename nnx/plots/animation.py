"""How the decision boundary comes about: a picture for each of some epochs, as a GIF."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nnx.array.host import as_host, as_numbers
from nnx.errors import InputError, as_path, items, number
from nnx.io.atomic_write import written_aside
from nnx.plots.boundary import Plane
from nnx.plots.style import drawing
from nnx.plots.texts import short
from nnx.port.base import require

PAGE, DPI, GRID = "#ffffff", 90, 120
"""A GIF knows no half-transparent colours: it has a page of its own."""


def animated_boundary(
    predict: Callable[[Any, Any], Any],
    thetas: Sequence[Any],
    epochs: Sequence[int | str],
    X: Any,
    Y: Any,
    path: str | Path,
    labels: Sequence[object] | None = None,
    names: Sequence[str] = ("x1", "x2"),
    target: str = "target",
    title: str = "",
    total: int | None = None,
    per_second: float = 8.0,
) -> None:
    """Write the decision boundary over the epochs as a GIF, aside first, then renamed.

    Parameters
    ----------
    predict : function
        theta, X (2, m) -> A (n[L], m), as `network.forward`.
    thetas, epochs : sequences
        The parameters (P,), and after how many epochs they were so: those of `nnx.Snapshots`. A
        text in place of an epoch is shown as it is.
    X, Y, labels, names, target, title, total
        As in `decision_boundary`.
    path : path
        Ends with .gif.
    per_second : float
        Pictures a second; the last one stays for two seconds.

    Raises
    ------
    InputError
        When there is nothing to draw, or the name ends otherwise.

    Examples
    --------
    >>> import nnx, tempfile
    >>> from nnx.data import moons
    >>> X, Y = moons(60)
    >>> trainer = nnx.Trainer(nnx.mlp([2, 8, 1], hidden="tanh"), nnx.Adam(0.05), backend="numpy")
    >>> snapshots = nnx.Snapshots(most=5)
    >>> _ = trainer.fit(X, Y, epochs=20, callbacks=snapshots)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     thetas, epochs = snapshots.thetas, snapshots.epochs
    ...     nnx.plots.animated_boundary(trainer.network.forward, thetas, epochs, X, Y, f"{folder}/moons.gif")
    """
    path = as_path("path", path)
    thetas = (
        list(thetas) if getattr(thetas, "ndim", 1) == 2 else items("thetas", thetas, "a list of arrays (P,)")
    )
    epochs = items("epochs", epochs, "a list of epochs")
    each = 1000 / number("per_second", per_second, "between 0.1 and 50", lambda rate: 0.1 <= rate <= 50)
    if path.suffix.lower() != ".gif":
        raise InputError(f"{str(path)!r} ends with {path.suffix!r}; expected .gif")
    if not len(thetas) or len(thetas) != len(epochs):
        raise InputError(
            f"expected the parameters of some epochs, and which these are; given {len(thetas)} and {len(epochs)}"
        )
    image = require("PIL.Image", "cli")
    with drawing():
        plane = Plane(X, Y, labels, names, target, title, GRID, total)
        plane.figure.patch.set(facecolor=PAGE, alpha=1)
        plane.figure.set_dpi(DPI)
        canvas = require("matplotlib.backends.backend_agg", "cli").FigureCanvasAgg(plane.figure)
        shown = plane.axes.set_title("epoch 0")
        frames = []
        for k, (theta, epoch) in enumerate(zip(thetas, epochs, strict=True)):
            theta = as_host(as_numbers("thetas", theta))
            plane.show(predict(theta, plane.points.astype(theta.dtype)))
            shown.set_text(short(epoch, 60) if isinstance(epoch, str) else f"epoch {epoch}")
            canvas.draw()
            if k == 0:
                plane.figure.set_layout_engine("none")  # it has its place: nothing may jump
            drawn = image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
            frames.append(drawn.quantize(255, image.Quantize.FASTOCTREE, dither=image.Dither.NONE))
    with written_aside(path) as aside:
        durations = [round(each)] * (len(frames) - 1) + [2000]
        frames[0].save(aside, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)
