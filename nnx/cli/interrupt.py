"""Checkpoints of a run, seldom, and one where Ctrl-C ends it."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nnx.callbacks import Checkpoints
from nnx.callbacks.fit import Fit
from nnx.callbacks.progress import Progress
from nnx.cli import disk
from nnx.cli.show import warn
from nnx.errors import CallbackError

EVERY = 10
"""Seconds from one checkpoint to the next, or more where writing one takes long."""

SHARE = 1 / 20
"""The most of a run's time that goes into its checkpoints."""


class Keeper(Checkpoints):
    """Writes a checkpoint every ten seconds, but for no more than a twentieth of the time, and after the last epoch.

    At Ctrl-C it writes one after the step that is being done, and ends the fit there: nothing done is lost. A disk that
    is full is warned of, and does not end the fit: the next checkpoint is written when it is time and there is room.

    Parameters
    ----------
    folder : path
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__(folder, minutes=EVERY / 60, keep=2)
        self.interrupted = self._warned = False

    def interrupt(self) -> None:
        """End the fit after the step that is being done."""
        self.interrupted = True

    def on_step(self, trainer: Fit, progress: Progress) -> None:
        """Write a checkpoint if it is time, or if the fit is to end."""
        super().on_step(trainer, progress)
        if self.interrupted and progress.step != progress.steps:  # else once the epoch is measured
            self._write(trainer, self._path())
            raise KeyboardInterrupt

    def on_epoch(self, trainer: Fit, progress: Progress) -> None:
        """Write a checkpoint if it is time, or if the fit is to end."""
        super().on_epoch(trainer, progress)
        if self.interrupted:
            self._write(trainer, self._path())
            raise KeyboardInterrupt

    def _write(self, trainer: Fit, path: Path) -> None:
        start = time.monotonic()
        try:
            super()._write(trainer, path)
            self._warned = False
        except CallbackError as error:
            if not isinstance(error.__cause__, OSError):
                raise
            if not self._warned:
                room = disk.why(error.__cause__, self.folder, trainer)
                warn(f"{room}; {self._left()}. The training goes on, and tries again later")
            self._warned = True
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
