"""A log of comma-separated values."""

import csv
import io
from collections.abc import Iterable
from numbers import Real
from pathlib import Path
from typing import Any

from nnx.callbacks.fit import Fit
from nnx.callbacks.line_log import LineLog
from nnx.io.atomic_write import clear_left, written_aside


class CSVLog(LineLog):
    """Writes one line of comma-separated values after every epoch, under a first line of their names.

    epoch,step,seconds,learning_rate,loss,...: the epochs and steps of the trainer so far, the wall time of the epoch
    without the validation, the rate of the next step, and all single numbers that were measured.

    Each line is on its way to the disk when the epoch's callbacks are over. A resumed fit drops lines later than its
    checkpoint, so that every epoch is there once. A second fit with the same object appends. A
    number that is new in a later epoch becomes a last column, empty before. The column of a number that is measured no
    more stays empty.

    Parameters
    ----------
    path : path
        The folder is made if it does not exist.
    overwrite : bool
        Whether a new fit may replace an existing file. If not, that is an error, unless the fit has `resume=` and there
        was no checkpoint yet.

    Raises
    ------
    InputError
        When a fit would overwrite the file.

    Examples
    --------
    >>> import tempfile, nnx
    >>> trainer = nnx.Trainer(nnx.mlp([1, 1]), backend="numpy")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     log = CSVLog(f"{folder}/log.csv")
    ...     _ = trainer.fit([[0.0, 1.0]], [0, 1], epochs=2, callbacks=log)
    ...     print(log.path.read_text())
    epoch,step,seconds,learning_rate,loss
    1,1,...,0.001...,0...
    2,2,...,0.001...,0...
    """

    def __init__(self, path: str | Path, overwrite: bool = False) -> None:
        super().__init__(path, overwrite)
        self._columns: list[str] = []

    def begin(self, trainer: Fit, state: dict[str, Any] | None) -> None:
        """Begin a file, or go on with it: its columns are those that it has."""
        super().begin(trainer, state)
        clear_left(self.path.parent, self.path.name.__eq__)
        self._columns = next(csv.reader(self._read()), [])

    def write(self, record: dict[str, Any]) -> None:
        """Append a record to the file; with a new column, write the file anew."""
        record = {name: value for name, value in record.items() if isinstance(value, Real)}
        if new := [name for name in record if name not in self._columns]:
            rows = list(csv.DictReader(self._read()))
            self._columns += new
            with written_aside(self.path) as aside:
                lines = [_line(self._columns), *(_line(self._values(row)) for row in rows)]
                aside.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="")
            self.lines = len(lines)
        self._append(_line(self._values(record)))

    def _read(self) -> io.StringIO:
        return io.StringIO(self.path.read_text(encoding="utf-8"))

    def _values(self, record: dict[str, Any]) -> list[Any]:
        return [record.get(name, "") for name in self._columns]


def _line(values: Iterable[Any]) -> str:
    """Return one line, without its end."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(values)
    return text.getvalue()
