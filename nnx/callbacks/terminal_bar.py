"""The progress bar that a fit shows by itself in a terminal."""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from importlib.util import find_spec

from nnx.callbacks.fit import Fit
from nnx.callbacks.progress import Progress
from nnx.callbacks.progress_bar import ProgressBar

AFTER = 0.5
"""Seconds after which a fit shows a bar."""

PYTEST = "PYTEST_CURRENT_TEST"
"""The environment variable that pytest sets during a test."""


def in_terminal() -> bool:
    """Return whether a person at a terminal waits for this fit.

    False in pytest, in another thread or process than the main one, in a terminal that cannot draw, without rich, and
    if the logger "nnx" has no warnings.

    Examples
    --------
    >>> in_terminal()
    False
    """
    try:
        terminal = sys.stderr.isatty()
    except (AttributeError, ValueError):  # there is none, or it is closed
        return False
    processes = sys.modules.get("multiprocessing.process")
    return (
        terminal
        and PYTEST not in os.environ
        and os.environ.get("TERM") != "dumb"
        and threading.current_thread() is threading.main_thread()
        and (processes is None or processes.parent_process() is None)
        and logging.getLogger("nnx").isEnabledFor(logging.WARNING)
        and find_spec("rich") is not None
    )


class TerminalBar(ProgressBar):
    """A `ProgressBar` on the error output, which begins when the fit has taken half a second.

    When the terminal is lost, the fit goes on without it.
    """

    often = False
    each_epoch = False

    def on_fit_start(self, trainer: Fit, epochs: int) -> None:
        """Look at the clock."""
        self._epochs, self._first = epochs, time.monotonic() + AFTER
        self._bar, self._lost, self._last = None, False, Progress(0, epochs, 0, None, 0, 0.0, None)

    def on_step(self, trainer: Fit, progress: Progress) -> None:
        """Move the bar."""
        self._draw(lambda: self._begun(trainer) and super(TerminalBar, self).on_step(trainer, progress))

    def on_epoch(self, trainer: Fit, progress: Progress) -> None:
        """Show the epoch's numbers."""
        self._last = progress
        self._draw(lambda: self._begun(trainer) and super(TerminalBar, self).on_epoch(trainer, progress))

    def on_fit_end(self, trainer: Fit) -> None:
        """Leave the bar, and say why the fit was stopped."""
        self._draw(lambda: super(TerminalBar, self).on_fit_end(trainer))

    def _begun(self, trainer: Fit) -> bool:
        """Return whether the bar is shown; it begins here."""
        if self._bar is None and time.monotonic() >= self._first:
            from rich.console import Console

            self._console = Console(stderr=True, highlight=False)
            super().on_fit_start(trainer, self._epochs)
            self._measured = self._last.measured or {}
            self._lost = not self._on.is_terminal
        return self._bar is not None

    def _draw(self, draw: Callable[[], object]) -> None:
        if not self._lost:
            try:
                draw()
            except (OSError, ValueError):  # the terminal was closed
                self._lost = True
