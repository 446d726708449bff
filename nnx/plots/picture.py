"""A figure that is drawn alike everywhere: in a file, in a notebook and in an animation."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from matplotlib.figure import Figure
from matplotlib.text import Text

from nnx.plots.fonts import families
from nnx.plots.style import drawing, png


class Picture(Figure):
    """A figure in the ink, with the glyphs that the machine's fonts have.

    A character that no font has is drawn as a box, without a warning.
    """

    def draw(self, renderer: Any) -> None:
        """Draw it."""
        with _drawn(self):
            super().draw(renderer)

    def get_tightbbox(self, *arguments: Any, **options: Any) -> Any:
        """Return the box around the drawing."""
        with _drawn(self):
            return super().get_tightbbox(*arguments, **options)

    def _repr_png_(self) -> bytes:
        return png(self)


@contextmanager
def _drawn(picture: Picture) -> Iterator[None]:
    with drawing(), warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", r"Glyph .* missing|Matplotlib currently does not support", UserWarning
        )
        for axes in picture.axes:
            for axis in axes.xaxis, axes.yaxis:
                axis.get_ticklabels()  # which gives the ticks their texts
        for text in picture.findobj(Text):
            if more := families(text.get_text()):
                text.set_fontfamily(["DejaVu Sans", *more])
        yield
