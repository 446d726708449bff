"""Checkpoints of a run, seldom, and one where Ctrl-C ends it."""

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nnx.callbacks import Callback, Checkpoints
from nnx.callbacks.fit import Fit
from nnx.callbacks.progress import Progress
from nnx.cli import disk
from nnx.cli.show import warn
from nnx.errors import CallbackError

EVERY = 10
"""Seconds from one checkpoint to the next, or more where writing one takes long."""

SHARE = 1 / 20
"""The most of a run's time that goes into its checkpoints."""

CTRL_C = "Ctrl-C"
"""Why a fit of several ranks ends. The first one has written a checkpoint."""


class Keeper(Checkpoints):
    """Writes a checkpoint every ten seconds, but for no more than a twentieth of the time, and after the last epoch.

    At Ctrl-C it writes one after the step that is being done, and ends the fit there: nothing done is lost. A disk that
    is full is warned of, and does not end the fit: the next checkpoint is written when it is time and there is room.

    Of members that train in rounds there are no checkpoints: a file would have those of one round alone.

    Parameters
    ----------
    folder : path
    members : int
        How many the trainer has; 0 of one network.
    """

    in_rounds = True  # it writes none

    def __init__(self, folder: str | Path, members: int = 0) -> None:
        super().__init__(folder, minutes=EVERY / 60, keep=2)
        self.interrupted = self._warned = self._told = False
        self._members = members

    def begin(self, trainer: Fit, state: dict[str, Any] | None) -> None:
        """Prepare the folder."""
        super().begin(trainer, state)
        if self._is_round(trainer) and not self._told:
            warn(
                "the memory does not hold all members at once: they train in rounds, without checkpoints",
                "Note",
            )
            self._told = True

    def _is_round(self, trainer: Fit) -> bool:
        return len(getattr(trainer, "each", ())) < self._members

    def interrupt(self) -> None:
        """End the fit after the step that is being done."""
        self.interrupted = True

    def on_step(self, trainer: Fit, progress: Progress) -> None:
        """Write a checkpoint if it is time, or if the fit is to end."""
        super().on_step(trainer, progress)
        if self.interrupted and progress.step != progress.steps:  # else once the epoch is measured
            self._write(trainer, self._path())
            self._end(trainer)

    def on_epoch(self, trainer: Fit, progress: Progress) -> None:
        """Write a checkpoint if it is time, or if the fit is to end."""
        super().on_epoch(trainer, progress)
        if self.interrupted:
            self._write(trainer, self._path())
            self._end(trainer)

    def _end(self, trainer: Fit) -> None:
        """End the fit, with that of the other ranks, which are to do no step more."""
        if trainer.communicator.size == 1:
            raise KeyboardInterrupt
        trainer.stop(CTRL_C)

    def _write(self, trainer: Fit, path: Path) -> None:
        if self._is_round(trainer):
            return
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


class MemberKeeper(Keeper):
    """Writes the checkpoints of a member of a stack: the last by itself, others when `StackKeeper` says so."""

    saved_as = Keeper.__name__  # so that the run can go on alone

    def __init__(self, folder: str | Path) -> None:
        super().__init__(folder)
        self._trainer: Fit | None = None
        self._at: tuple[int, int] | None = None  # epoch and step

    def begin(self, trainer: Fit, state: dict[str, Any] | None) -> None:
        """Prepare the folder."""
        super().begin(trainer, state)
        self._trainer = trainer

    def on_step(self, trainer: Fit, progress: Progress) -> None:
        """Note the step."""
        super().on_step(trainer, progress)
        self._at = progress.epoch, progress.step

    def on_epoch(self, trainer: Fit, progress: Progress) -> None:
        """Write a checkpoint if the member's training ends."""
        super().on_epoch(trainer, progress)
        self._at = progress.epoch, progress.step

    def on_fit_end(self, trainer: Fit) -> None:
        """Write no more: the members may train in rounds."""
        super().on_fit_end(trainer)
        self._trainer = None

    def write(self, progress: Progress) -> None:
        """Write a checkpoint, unless the member has ended, by now or before."""
        diverged = self._at != (progress.epoch, progress.step)
        if self._trainer is not None and self._trainer.stopped is None and not diverged:
            self._write(self._trainer, self._path())

    def _due(self) -> bool:
        return False


class StackKeeper(Callback):
    """Writes the checkpoints of all members of a stack when `Keeper` would write that of one run.

    Parameters
    ----------
    members : sequence of MemberKeeper
    """

    last = True
    often = False

    def __init__(self, members: Sequence[MemberKeeper]) -> None:
        self._members, self.interrupted = members, False
        self._next = time.monotonic() + EVERY

    def interrupt(self) -> None:
        """End the fit after the step that is being done."""
        self.interrupted = True

    def on_step(self, trainer: Fit, progress: Progress) -> None:
        """Write the checkpoints if it is time, or if the fit is to end."""
        if progress.step != progress.steps:  # else once the epoch is measured
            self._look(progress)

    def on_epoch(self, trainer: Fit, progress: Progress) -> None:
        """Write the checkpoints if it is time, or if the fit is to end."""
        if progress.epoch < progress.epochs or self.interrupted:  # else each has written its last
            self._look(progress)

    def _look(self, progress: Progress) -> None:
        start = time.monotonic()
        if self.interrupted or start >= self._next:
            for member in self._members:
                member.write(progress)
            seconds = time.monotonic() - start
            self._next = time.monotonic() + max(EVERY, seconds / SHARE)
        if self.interrupted:
            raise KeyboardInterrupt


@contextmanager
def interruptible(keeper: Keeper | StackKeeper) -> Iterator[None]:
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


@contextmanager
def left_to_first_rank() -> Iterator[None]:
    """Let Ctrl-C, which all ranks get, be that of the first one: it ends the fit of all."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
