"""Event files for TensorBoard, by tensorboardX."""

import os
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnx.callbacks.base import Callback
from nnx.errors import positive_int
from nnx.port import require
from nnx.progress import Progress

if TYPE_CHECKING:
    from nnx.trainer import Trainer


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
        self.folder = Path(folder)
        self.every_steps = None if every_steps is None else positive_int("every_steps", every_steps)
        self.histograms = bool(histograms)
        self._module = require("tensorboardX", "pip install 'nnx-array[tensorboard]'")
        self._writer: Any = None
        self._done = 0  # steps

    def on_fit_start(self, trainer: "Trainer", epochs: int) -> None:
        """Begin a file, which hides what the folder has at later steps."""
        self._done = trainer.steps
        # Its name has the second in which it begins, which another fit may share.
        suffix = f".{self._done:08d}.{os.getpid()}"
        self._writer = self._module.SummaryWriter(
            str(self.folder), purge_step=self._done + 1, filename_suffix=suffix
        )

    def on_step(self, trainer: "Trainer", progress: Progress) -> None:
        """Write the cost, if it is its turn."""
        self._done += 1
        if self.every_steps is not None and self._done % self.every_steps == 0:
            self._writer.add_scalar("cost", progress.cost, self._done)

    def on_epoch(self, trainer: "Trainer", progress: Progress) -> None:
        """Write what was measured."""
        self._done = trainer.steps
        for name, value in {**(progress.measured or {}), "learning_rate": trainer.learning_rate}.items():
            if isinstance(value, Real):
                self._writer.add_scalar(name, value, self._done)
        if self.histograms:
            for name, p in trainer.parameters.items():
                self._writer.add_histogram(f"parameters/{name}", p, self._done)
        self._writer.flush()

    def on_fit_end(self, trainer: "Trainer") -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
