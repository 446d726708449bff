"""An empty figure. Matplotlib is imported when the first is made."""

from typing import Any

from nnx.port.base import require


def figure(width: float, height: float) -> Any:
    """Return an empty figure of a size in inches, which a notebook shows without pyplot, and without a background."""
    require("matplotlib", "cli")
    from nnx.plots.picture import Picture

    made: Any = Picture(figsize=(width, height), layout="constrained")
    made.patch.set_alpha(0)
    made.get_layout_engine().set(w_pad=0.08, h_pad=0.06)
    return made
