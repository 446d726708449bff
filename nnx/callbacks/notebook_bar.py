"""A progress bar with the learning curve, in a notebook."""

import time
from typing import Any

from nnx.callbacks.base import Callback, Callbacks
from nnx.callbacks.fit import Fit, epochs_done, why_ended
from nnx.callbacks.progress import Progress
from nnx.callbacks.progress_bar import ProgressBar, numbers
from nnx.callbacks.terminal_bar import TerminalBar, in_terminal
from nnx.display import html
from nnx.display.notebook import Display, in_notebook
from nnx.errors import InputError

BETWEEN = 0.25
"""The least seconds from one picture to the next: each goes to the browser."""


class NotebookBar(Callback):
    """Shows the progress of the fit and the curves so far, in one place that is updated four times a second.

    `Trainer.fit` adds it by itself in a notebook.
    """

    often = False
    each_epoch = False
    writes = True
    _display: Any = None

    def __getstate__(self) -> dict[str, Any]:
        """Return the contents of a copy or a pickle: no running fit."""
        return {name: x for name, x in vars(self).items() if name != "_display"}

    def on_fit_start(self, trainer: Fit, epochs: int) -> None:
        """Show an empty bar."""
        self._share: float | None = 0.0
        self._text, self._numbers, self._next = f"epoch 0/{epochs}", "", 0.0
        self._over = False
        self._display = None
        self._show(trainer)

    def on_step(self, trainer: Fit, progress: Progress) -> None:
        """Move the bar."""
        if time.monotonic() >= self._next:
            self._stand(progress)
            self._show(trainer)

    def on_epoch(self, trainer: Fit, progress: Progress) -> None:
        """Draw the epoch's numbers, if it is time."""
        self._numbers = numbers(progress.measured or {})
        self._stand(progress)
        self._over = progress.epoch == progress.epochs
        if time.monotonic() >= self._next:
            self._show(trainer)

    def on_fit_end(self, trainer: Fit) -> None:
        """Leave the last numbers, and say why the fit ended before its epochs were over."""
        if self._display is not None:
            if (why := why_ended(trainer)) is not None:
                self._text += f"; stopped: {why}"
            elif not self._over:
                self._text += "; ended before its last epoch"
            self._show(trainer)

    def _stand(self, progress: Progress) -> None:
        """Note the progress of the fit."""
        steps = progress.steps
        within = progress.measured is not None or (progress.step / steps if steps else 0.0)
        self._share = (progress.epoch - 1 + within) / progress.epochs
        rate = f"{progress.samples / progress.seconds:,.0f} samples/s" if progress.seconds > 0 else ""
        self._text = " ".join(
            part for part in (f"epoch {progress.epoch}/{progress.epochs}", self._numbers, rate) if part
        )

    def _show(self, trainer: Fit) -> None:
        curves = trainer.history._repr_html_() if epochs_done(trainer) else ""
        shown = html.progress(self._share, self._text, curves), self._text
        if self._display is None:
            self._display = Display(*shown)
        else:
            self._display.update(*shown)
        self._next = time.monotonic() + BETWEEN


def with_progress(callbacks: Callbacks, progress: bool | None, ranks: int = 1) -> Callbacks:
    """Return the callbacks, with one that shows the progress if it is wanted and none of them does.

    Parameters
    ----------
    callbacks : Callbacks
    progress : bool or None
        None: in a notebook or a terminal.
    ranks : int
        The processes of the fit. All have the same callbacks: of several none has one by itself.

    Raises
    ------
    InputError
        When progress is something else.
    """
    if progress is not None and not isinstance(progress, bool):
        raise InputError(
            f"progress must be True, False, or None, which is True in a notebook or terminal; given {progress!r}"
        )
    if (
        progress is False
        or (progress is None and ranks > 1)
        or any(isinstance(one, ProgressBar | NotebookBar) for one in callbacks.all)
    ):
        return callbacks
    if in_notebook():
        return Callbacks([*callbacks.all, NotebookBar()])
    if progress:
        return Callbacks([*callbacks.all, ProgressBar()])
    return Callbacks([*callbacks.all, TerminalBar()]) if in_terminal() else callbacks
