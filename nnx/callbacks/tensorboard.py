"""Event files for TensorBoard, by tensorboardX."""

import os
import time
from contextlib import AbstractContextManager
from numbers import Real
from pathlib import Path
from typing import Any

from nnx.callbacks.base import Callback
from nnx.callbacks.fit import Fit, rate_of, steps_done
from nnx.callbacks.line_log import refuse_taken
from nnx.callbacks.progress import Progress
from nnx.errors import as_path, flag, positive_int
from nnx.io.atomic_write import naming
from nnx.port.base import require


class TensorBoard(Callback):
    """Writes event files, which `tensorboard --logdir FOLDER` shows.

    After every epoch, at the number of steps that the trainer has done: all single numbers that were measured under
    their names in the history, and the learning rate of the next step.

    Each fit writes a file of its own. TensorBoard no longer shows events of later steps in the folder (of an epoch cut
    short, or another run), but nnx does not remove them.

    Parameters
    ----------
    folder : path
        Made if it does not exist.
    every_steps : int or None
        If given, also the "cost" after every so many steps; reading it waits for a GPU.
    histograms : bool
        Whether to write the distribution of each parameter, under "parameters/W1", ..., after every epoch.

    Raises
    ------
    InputError
        For a parameter out of its range.
    BackendError
        When tensorboardX is missing, with the command that installs it.

    Examples
    --------
    >>> import nnx
    >>> trainer = nnx.Trainer(nnx.mlp([1, 1]), backend="numpy")
    >>> board = TensorBoard("runs/1", histograms=True)  # doctest: +SKIP
    >>> trainer.fit([[0.0, 1.0]], [0, 1], epochs=9, callbacks=board)  # doctest: +SKIP
    """

    writes = True

    def __init__(self, folder: str | Path, every_steps: int | None = None, histograms: bool = False) -> None:
        self.folder = as_path("folder", folder)
        self.every_steps = None if every_steps is None else positive_int("every_steps", every_steps)
        self.histograms = flag("histograms", histograms)
        require("tensorboardX", "tensorboard")
        self._events: Any = None
        self.often = self.every_steps is not None
        self._done = 0  # steps

    def __getstate__(self) -> dict[str, Any]:
        """Return the contents of a copy or a pickle: no running fit."""
        return {**vars(self), "_events": None}

    def on_fit_start(self, trainer: Fit, epochs: int) -> None:
        """Begin a file, which hides events of later steps in the folder."""
        # tensorboardX's SummaryWriter hands events to a thread, and its flush does not wait for them. A killed process
        # would lose an epoch that its checkpoint has. So this uses its writer of events.
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        self._done = steps_done(trainer)
        self.folder.mkdir(parents=True, exist_ok=True)
        # The file's name has the second in which it begins, which another fit may share.
        suffix = f".{self._done:08d}.{os.getpid()}"
        with naming(self.folder):
            self._events = EventsWriter(str(self.folder / "events"), suffix)
        begins = SessionLog(status=SessionLog.START)
        self._event(Event(wall_time=time.time(), step=self._done + 1, session_log=begins))

    def on_step(self, trainer: Fit, progress: Progress) -> None:
        """Write the cost, if it is time."""
        self._done = progress.done
        if self.every_steps is not None and self._done % self.every_steps == 0:
            self._scalar("cost", progress.cost)

    def on_epoch(self, trainer: Fit, progress: Progress) -> None:
        """Write the measured numbers to the disk, before the epoch's checkpoint."""
        from tensorboardX.summary import histogram

        self._done = progress.done
        refuse_taken(("learning_rate", "cost"), progress.measured or {})
        for name, value in {**(progress.measured or {}), "learning_rate": rate_of(trainer)}.items():
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
        """Add the file's name to errors of the disk, if tensorboardX tells it."""
        return naming(Path(getattr(self._events, "_file_name", self.folder)))
