"""Event files for TensorBoard, by tensorboardX."""

import os
import time
from contextlib import AbstractContextManager
from numbers import Real
from pathlib import Path
from typing import Any

from nnx.callbacks.base import Callback
from nnx.callbacks.fit import Fit
from nnx.callbacks.line_log import refuse_taken
from nnx.callbacks.progress import Progress
from nnx.errors import as_path, flag, positive_int
from nnx.io.atomic_write import naming
from nnx.port.base import require


class TensorBoard(Callback):
    """Writes event files, which `tensorboard --logdir FOLDER` shows.

    After every epoch, at the number of steps that the trainer has done: all single numbers that were measured under
    their names in the history, and the learning rate of the next step.

    Each fit writes a file of its own. What the folder has at later steps than those where the fit begins (an epoch cut
    short, or another run) is no longer shown, but it is not removed.

    Parameters
    ----------
    folder : path
        Made if it is not there.
    every_steps : int or None
        If given, also the "cost" after every so many steps; reading it waits for a GPU.
    histograms : bool
        Whether to write the distribution of each parameter, under "parameters/W1", ..., after every epoch.

    Raises
    ------
    InputError
        For a parameter out of its range.
    BackendError
        When tensorboardX is missing: how to get it.

    Examples
    --------
    >>> import nnx
    >>> trainer = nnx.Trainer(nnx.mlp([1, 1]), backend="numpy")
    >>> board = TensorBoard("runs/1", histograms=True)  # doctest: +SKIP
    >>> trainer.fit([[0.0, 1.0]], [0, 1], epochs=9, callbacks=board)  # doctest: +SKIP
    """

    def __init__(self, folder: str | Path, every_steps: int | None = None, histograms: bool = False) -> None:
        self.folder = as_path("folder", folder)
        self.every_steps = None if every_steps is None else positive_int("every_steps", every_steps)
        self.histograms = flag("histograms", histograms)
        require("tensorboardX", "tensorboard")
        self._events: Any = None
        self.often = self.every_steps is not None
        self._done = 0  # steps

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy has, or a pickle: nothing of a fit that runs."""
        return {**vars(self), "_events": None}

    def on_fit_start(self, trainer: Fit, epochs: int) -> None:
        """Begin a file, which hides what the folder has at later steps."""
        # tensorboardX's SummaryWriter hands events to a thread, and its flush does not wait for them: an epoch would
        # be lost with a killed process, and its checkpoint be past it. Its writer of events itself is used.
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        self._done = trainer.steps
        self.folder.mkdir(parents=True, exist_ok=True)
        # The file's name has the second in which it begins, which another fit may share.
        suffix = f".{self._done:08d}.{os.getpid()}"
        with naming(self.folder):
            self._events = EventsWriter(str(self.folder / "events"), suffix)
        begins = SessionLog(status=SessionLog.START)
        self._event(Event(wall_time=time.time(), step=self._done + 1, session_log=begins))

    def on_step(self, trainer: Fit, progress: Progress) -> None:
        """Write the cost, if it is its turn."""
        self._done = progress.done
        if self.every_steps is not None and self._done % self.every_steps == 0:
            self._scalar("cost", progress.cost)

    def on_epoch(self, trainer: Fit, progress: Progress) -> None:
        """Write what was measured, to the disk before the epoch's checkpoint."""
        from tensorboardX.summary import histogram

        self._done = progress.done
        refuse_taken(("learning_rate", "cost"), progress.measured or {})
        for name, value in {**(progress.measured or {}), "learning_rate": trainer.learning_rate}.items():
            if isinstance(value, Real):
                self._scalar(name, value)
        if self.histograms:
            for name, p in trainer.parameters.items():
                self._write(histogram(f"parameters/{name}", p, 50))
        with self._naming():
            self._events.flush()

    def on_fit_end(self, trainer: Fit) -> None:
        """Close the file."""
        if self._events is not None:
            try:
                with self._naming():
                    self._events.close()
            finally:
                self._events = None

    def _scalar(self, name: str, value: Any) -> None:
        from tensorboardX.summary import scalar

        self._write(scalar(name, float(value)))

    def _write(self, summary: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._event(Event(wall_time=time.time(), step=self._done, summary=summary))

    def _event(self, event: Any) -> None:
        with self._naming():
            self._events.write_event(event)

    def _naming(self) -> AbstractContextManager[None]:
        """Let errors of the disk name the file, as far as tensorboardX tells which it is."""
        return naming(Path(getattr(self._events, "_file_name", self.folder)))
