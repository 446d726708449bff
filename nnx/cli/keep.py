"""Checkpoints of a run, seldom, and one where Ctrl-C ends it."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nnx.callbacks import Checkpoints
from nnx.progress import Progress

if TYPE_CHECKING:
    from nnx.trainer import Trainer

EVERY = 10
"""Seconds from one checkpoint to the next, or more where writing one takes long."""

SHARE = 1 / 20
"""The most of a run's time that goes into its checkpoints."""


class Keeper(Checkpoints):
    """Writes a checkpoint every ten seconds, but for no more than a twentieth of the time, and after the last epoch.

    At Ctrl-C it writes one after the step that is being done, and ends the fit there: nothing done is lost.

    Parameters
    ----------
    folder : path
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__(folder, minutes=EVERY / 60, keep=2)
        self.interrupted = False

    def interrupt(self) -> None:
        """End the fit after the step that is being done."""
        self.interrupted = True

    def on_step(self, trainer: "Trainer", progress: Progress) -> None:
        """Write a checkpoint if it is time, or if the fit is to end."""
        super().on_step(trainer, progress)
        if self.interrupted and progress.step != progress.steps:  # else once the epoch is measured
            self._write(trainer, self._path())
            raise KeyboardInterrupt

    def on_epoch(self, trainer: "Trainer", progress: Progress) -> None:
        """Write a checkpoint if it is time, or if the fit is to end."""
        super().on_epoch(trainer, progress)
        if self.interrupted:
            self._write(trainer, self._path())
            raise KeyboardInterrupt

    def _write(self, trainer: "Trainer", path: Path) -> None:
        start = time.monotonic()
        super()._write(trainer, path)
        self.minutes = max(EVERY, (time.monotonic() - start) / SHARE) / 60
        self._rest()


@contextmanager
def interruptible(keeper: Keeper) -> Iterator[None]:
    """Let the first Ctrl-C end the fit after a step; the second ends it at once."""
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return

    def first(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        keeper.interrupt()

    signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
