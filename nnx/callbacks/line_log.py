"""Logs of one line an epoch, which a killed and resumed fit continues without a gap or a repetition."""

import os
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from nnx.callbacks.fit import Fit, epochs_done, rate_of
from nnx.callbacks.progress import Progress
from nnx.callbacks.resumable import Resumable
from nnx.errors import InputError, as_path, flag
from nnx.io.atomic_write import naming
from nnx.support.schema import Whole


class LineLog(Resumable):
    """A text file, one line an epoch.

    Each line is on its way to the disk when the epoch's callbacks are over. A resumed fit drops lines later than its
    checkpoint. A second fit with the same object appends.

    Parameters
    ----------
    path : path
        The folder is made if it does not exist.
    overwrite : bool
        Whether a new fit may replace an existing file. If not, that is an error, unless the fit has `resume=` and there
        was no checkpoint yet.
    """

    writes = True

    def __init__(self, path: str | Path, overwrite: bool = False) -> None:
        self.path = as_path("path", path)
        self.overwrite = flag("overwrite", overwrite)
        self.lines: int | None = None  # that this object has written, or found where it goes on

    def begin(self, trainer: Fit, state: dict[str, Any] | None) -> None:
        """Begin a file, or cut it to the lines that the checkpoint knows of."""
        if self.path.is_dir():
            raise InputError(f"{str(self.path)!r} is a folder; expected the name of a file to write")
        begins = state is None and self.lines is None
        # A fit that may go on from a checkpoint was killed before there was one: its log begins anew with it.
        if (
            begins
            and not (self.overwrite or trainer.resumes)
            and self.path.exists()
            and self.path.stat().st_size
        ):
            raise InputError(
                f"{str(self.path)!r} is there already; choose another name, say overwrite=True, or go on with its fit: "
                "fit(resume=...)"
            )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._cut(state["lines"] if state is not None else self.lines or 0)

    def state(self) -> dict[str, Any]:
        """Return the number of lines."""
        return {"lines": self.lines}

    def expects(self, trainer: Fit, state: Mapping[str, Any]) -> Any:
        """Return what a checkpoint must hold."""
        return {"lines": Whole()}

    def _cut(self, lines: int) -> None:
        """Keep so many lines, or those whole ones that there are."""
        with naming(self.path), self.path.open("ab+") as file:
            file.seek(0)
            size = self.lines = 0
            while self.lines < lines and (line := file.readline()).endswith(b"\n"):
                size, self.lines = size + len(line), self.lines + 1
            file.truncate(size)

    def _append(self, line: str) -> None:
        """Write a line, or nothing: what a full disk took of it is taken back."""
        with naming(self.path), self.path.open("ab", buffering=0) as file:
            size, data = file.seek(0, os.SEEK_END), f"{line}\n".encode()
            try:
                while data:
                    data = data[file.write(data) :]
            except BaseException:
                with suppress(OSError):
                    file.truncate(size)
                raise
        self.lines = (self.lines or 0) + 1

    def on_epoch(self, trainer: Fit, progress: Progress) -> None:
        """Write the epoch's line.

        Raises
        ------
        InputError
            Where another callback has put a number under one of the line's own names.
        """
        own = {
            "epoch": epochs_done(trainer),
            "step": progress.done,
            "seconds": round(progress.seconds, 6),
            "learning_rate": rate_of(trainer),
        }
        measured = progress.measured or {}
        refuse_taken(own, measured)
        self.write({**own, **measured})

    @abstractmethod
    def write(self, record: dict[str, Any]) -> None:
        """Append a record to the file."""


def refuse_taken(own: Iterable[str], measured: Mapping[str, Any]) -> None:
    """Raise an InputError where a measured number has one of a log's own names."""
    if taken := [name for name in own if name in measured]:
        raise InputError(f"a log has {taken[0]!r} itself; put the number that is measured under another name")
