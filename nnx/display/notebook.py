"""Whether a notebook runs this, and the display in it that is updated in place. IPython is never imported before."""

import sys
from typing import Any


def in_notebook() -> bool:
    """Return whether a kernel runs this: that of Jupyter, of an editor, or of a service.

    Examples
    --------
    >>> in_notebook()
    False
    """
    ipython = sys.modules.get("IPython")  # a kernel has imported it
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


class Display:
    """A place in a cell's output whose HTML can be exchanged.

    Parameters
    ----------
    html : str
        The first contents.
    text : str
        The text for outputs without HTML.
    """

    def __init__(self, html: str, text: str) -> None:
        from IPython import display

        shown: Any = display.display
        self._handle = shown(_data(html, text), raw=True, display_id=True)

    def update(self, html: str, text: str) -> None:
        """Show something else in the same place."""
        self._handle.update(_data(html, text), raw=True)


def _data(html: str, text: str) -> dict[str, str]:
    return {"text/html": html, "text/plain": text}
