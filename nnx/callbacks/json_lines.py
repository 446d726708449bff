"""A log of JSON lines."""

import json
from pathlib import Path
from typing import Any

from nnx.callbacks.fit import Fit, epochs_done
from nnx.callbacks.line_log import LineLog
from nnx.callbacks.progress import Progress
from nnx.errors import positive_int
from nnx.metrics.history import without_nan


class JSONLines(LineLog):
    """Writes one JSON object a line (https://jsonlines.org) after every epoch.

    {"epoch", "step", "seconds", "learning_rate", "loss", ...}: the epochs and steps of the trainer so far, the wall
    time of the epoch without the validation, the rate of the next step, and all numbers that were measured. NaN and
    infinities are null.

    Each line is on its way to the disk when the epoch's callbacks are over. A resumed fit drops lines later than its
    checkpoint, so that every epoch is there once. A second fit with the same object appends.

    Parameters
    ----------
    path : path
        The folder is made if it does not exist.
    every_steps : int or None
        If given, also {"epoch", "step", "cost"} after every so many steps; reading the cost waits for a GPU.
    overwrite : bool
        Whether a new fit may replace an existing file. If not, that is an error, unless the fit has `resume=` and there
        was no checkpoint yet.

    Raises
    ------
    InputError
        For a parameter out of its range, and when a fit would overwrite the file.

    Examples
    --------
    >>> import tempfile, nnx
    >>> trainer = nnx.Trainer(nnx.mlp([1, 1]), backend="numpy")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     log = JSONLines(f"{folder}/log.jsonl")
    ...     _ = trainer.fit([[0.0, 1.0]], [0, 1], epochs=2, callbacks=log)
    ...     print(log.path.read_text())
    {"epoch": 1, "step": 1, "seconds": ..., "learning_rate": 0.001..., "loss": ...}
    {"epoch": 2, "step": 2, "seconds": ..., "learning_rate": 0.001..., "loss": ...}
    """

    def __init__(self, path: str | Path, every_steps: int | None = None, overwrite: bool = False) -> None:
        super().__init__(path, overwrite)
        self.every_steps = None if every_steps is None else positive_int("every_steps", every_steps)
        self.often = self.every_steps is not None

    def on_step(self, trainer: Fit, progress: Progress) -> None:
        """Write the step's line, if it is time."""
        if self.every_steps is not None and progress.done % self.every_steps == 0:
            self.write({"epoch": epochs_done(trainer) + 1, "step": progress.done, "cost": progress.cost})

    def write(self, record: dict[str, Any]) -> None:
        """Append a record to the file."""
        self._append(json.dumps(without_nan(record), allow_nan=False))
