"""A progress bar in the terminal, by rich."""

import copy
import time
from collections.abc import Mapping
from numbers import Real
from threading import Timer
from typing import Any

from nnx.callbacks.base import Callback
from nnx.callbacks.fit import Fit, why_ended
from nnx.callbacks.progress import Progress
from nnx.display.rounding import percent, significant
from nnx.port.base import require

COMPILING = {"numba": "compiling the step, once on this machine", "jax": "compiling"}
"""The message of backends that compile a step before they do the first one."""

SLOW = 2.0
"""Seconds after which it appears: a step from the disk is there at once."""

BETWEEN_LINES = 10
"""Seconds from one line to the next without a terminal."""


class ProgressBar(Callback):
    """Shows the progress of the fit, the numbers of the last epoch, samples per second and the remaining time.

    Without a terminal (a file, a pipe, a notebook) it prints a line after the first epoch, one every ten seconds,
    and one after the last. If the fit was stopped, it says why.

    Parameters
    ----------
    console : rich.console.Console or None
        The output; None: the standard output.

    Raises
    ------
    BackendError
        When rich is missing, with the command that installs it.

    Examples
    --------
    >>> import nnx
    >>> trainer = nnx.Trainer(nnx.mlp([1, 1]), backend="numpy")
    >>> _ = trainer.fit([[0.0, 1.0]], [0, 1], epochs=9, callbacks=ProgressBar())
    epoch 1/9 loss ... samples/s
    epoch 9/9 loss ... samples/s
    """

    often = False
    each_epoch = False
    writes = True
    _timer: Timer | None = None  # until the first step is done

    def __init__(self, console: Any = None) -> None:
        require("rich", "cli")
        self._console = console
        self._bar: Any = None
        self._line = ""  # the last, if it was not printed

    def __getstate__(self) -> dict[str, Any]:
        """Return the contents of a pickle: no running fit, and no console."""
        kept = {name: x for name, x in vars(self).items() if name not in ("_on", "_task")}
        return {**kept, "_console": None, "_bar": None, "_line": "", "_timer": None}

    def __deepcopy__(self, memo: dict[int, Any]) -> "ProgressBar":
        """Return another bar on the same console."""
        other = copy.copy(self)
        other._console, other._timer = self._console, None
        return other

    def on_fit_start(self, trainer: Fit, epochs: int) -> None:
        """Show an empty bar."""
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self._on = self._console or Console(highlight=False)
        self._bar = Bar(
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[text]}", markup=False),
            TimeRemainingColumn(compact=True),
            console=self._on,
            expand=True,
            disable=not self._on.is_terminal,
            auto_refresh=False,  # by a thread, which would take turns with the steps
        )
        self._task = self._bar.add_task("train", total=None, epoch=0, epochs=epochs, text="")
        self._measured: Mapping[str, Any] = {}
        self._line, self._next = "", 0.0
        if self._on.is_terminal:  # a bar that is disabled still ends with an empty line, in rich before 15
            self._bar.start()
        if (said := COMPILING.get(trainer.backend.name)) is not None:
            self._timer = Timer(SLOW, self._compiles, (said,))
            self._timer.daemon = True
            self._timer.start()

    def _compiles(self, said: str) -> None:
        if not self._on.is_terminal:
            self._on.print(said, soft_wrap=True, markup=False)
        elif (bar := self._bar) is not None:
            bar.update(self._task, text=said, refresh=True)

    def _steps(self) -> None:
        """Note that the first step is done, or that there will be none."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def on_step(self, trainer: Fit, progress: Progress) -> None:
        """Move the bar, at most ten times a second."""
        self._steps()
        if self._on.is_terminal and time.monotonic() >= self._next:
            self._show(progress)

    def on_epoch(self, trainer: Fit, progress: Progress) -> None:
        """Show the epoch's numbers."""
        self._steps()
        self._measured = progress.measured or {}
        last = progress.epoch == progress.epochs or why_ended(trainer) is not None
        if last or time.monotonic() >= self._next:
            self._show(progress)
        elif not self._on.is_terminal:
            self._line = self._text(progress)

    def on_fit_end(self, trainer: Fit) -> None:
        """Leave the bar, and say why the fit was stopped."""
        self._steps()
        if self._bar is None:
            return
        if self._on.is_terminal:
            self._bar.stop()
        self._bar = None
        for line in (self._line, self._why(trainer)):
            if line:
                self._on.print(line, soft_wrap=True, markup=False)

    def _why(self, trainer: Fit) -> str:
        return f"stopped: {why}" if (why := why_ended(trainer)) else ""

    def _text(self, progress: Progress) -> str:
        rate = f"{progress.samples / progress.seconds:,.0f} samples/s" if progress.seconds > 0 else ""
        measured = numbers(self._measured)
        if self._on.is_terminal:  # the bar keeps a third of the line
            return fitting(measured, rate, self._on.width - self._on.width // 3 - 20)
        return f"epoch {progress.epoch}/{progress.epochs} {measured} {rate}".rstrip()

    def _show(self, progress: Progress) -> None:
        self._line = ""
        if self._on.is_terminal:
            self._next = time.monotonic() + 0.1
            done = total = None
            if progress.steps is not None:
                done = (progress.epoch - 1) * progress.steps + progress.step
                total = progress.epochs * progress.steps
            self._bar.update(
                self._task,
                completed=done,
                total=total,
                epoch=progress.epoch,
                text=self._text(progress),
                refresh=True,
            )
        else:
            self._next = time.monotonic() + BETWEEN_LINES
            self._on.print(self._text(progress), soft_wrap=True, markup=False)


def fitting(numbers: str, rate: str, room: int) -> str:
    """Return as many of an epoch's numbers as there is room for, the most important ones first, and the rate.

    Examples
    --------
    >>> fitting("loss 0.25, held out: loss 0.3 accuracy 97.5%", "9,000 samples/s", 30)
    'held out: accuracy 97.5%'
    """
    training, _, held_out = numbers.partition(", held out: ")
    choices = [f"{numbers} {rate}".strip(), numbers]
    if held_out:
        last = f"held out: {' '.join(held_out.split()[-2:])}"
        choices += [f"{training}, {last}", last]
    return next((choice for choice in [*choices, training] if len(choice) <= room), "")


def numbers(measured: Mapping[str, Any]) -> str:
    """Return an epoch's numbers in few words.

    Examples
    --------
    >>> numbers({"loss": 0.25, "validation_loss": 0.3, "validation_accuracy": 0.975})
    'loss 0.25, held out: loss 0.3 accuracy 97.5%'
    """
    groups: dict[bool, list[str]] = {False: [], True: []}
    for name, value in measured.items():
        if isinstance(value, Real):
            short = name.removeprefix("validation_")
            shown = percent(float(value), 1) if short == "accuracy" else significant(float(value), 4)
            groups[short != name].append(f"{short} {shown}")
    training, held_out = (" ".join(group) for group in groups.values())
    return f"{training}, held out: {held_out}" if held_out else training
