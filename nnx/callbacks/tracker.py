"""The base of the callbacks of experiment trackers: a run, its numbers, and failures that end no fit."""

import sys
import tempfile
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple

from nnx.callbacks.fit import Fit, epochs_done, rate_of
from nnx.callbacks.progress import Progress
from nnx.callbacks.resumable import Resumable
from nnx.callbacks.run_parameters import run_parameters
from nnx.errors import InputError, first_line, flag, shown
from nnx.model.outputs.custom import check_saved
from nnx.support.deadline import within
from nnx.support.schema import Whole
from nnx.support.warned import warn

EVERY = 1.0
"""Seconds between two transfers of numbers. Those of the epochs in between go together."""

FINISHED, FAILED, KILLED = "FINISHED", "FAILED", "KILLED"


class Row(NamedTuple):
    """The numbers of an epoch, from 1, and the time, in seconds since 1970."""

    epoch: int
    time: float
    numbers: dict[str, float]


class Tracker(Resumable):
    """Records a fit as a run of an experiment tracker.

    A package or a server that is missing, or that fails later, ends no fit: one warning says it. After a failure
    nothing is sent until the end of the fit. Then the rest is sent, and the run is ended, if the tracker answers again.

    A second fit with the same object goes on in its run, and so does a resumed fit. A copy (`copy.deepcopy`, or an
    estimator's clone) begins a run of its own.

    Parameters
    ----------
    run : str or None
        The id of a run to go on with.
    params : dict or None
        Further parameters of the run, beside those of the trainer.
    model : bool
        Whether the model file is stored with the run at the end, unless the fit fails.

    Attributes
    ----------
    run : str or None
        The id of the run; None before the first fit, or where there is none.
    """

    writes = True
    service = "the tracker"
    wait = 10.0
    """Seconds after which a call of the tracker counts as failed."""

    def __init__(self, run: str | None, params: Mapping[str, Any] | None, model: bool) -> None:
        if params is not None and not isinstance(params, Mapping):
            raise InputError(f"params must be a dict of the run's parameters, or None; given {shown(params)}")
        self.given_run = text_or_none("run", run)
        self.params = dict(params or {})
        self.model = flag("model", model)
        self.last = self.model  # EarlyStopping restores its weights before
        self._forget()

    def _forget(self) -> None:
        self.run = self.given_run
        self._failed = self._warned = self._is_open = self._joined = False
        self._rows: list[Row] = []
        self._offset = self._logged = self._epoch = 0
        self._sent = 0.0
        self._not_opened: str | None = None
        """The id of a run that the last fit could not go on with: the next one tries again."""
        self._before: BaseException | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Return the contents of a copy or a pickle: its settings, and no run."""
        other = object.__new__(type(self))
        vars(other).update({name: x for name, x in vars(self).items() if name not in self.handles})
        other._forget()
        return vars(other)

    handles: tuple[str, ...] = ()
    """The attributes that are objects of the tracker's package."""

    # --- a fit ---

    def begin(self, trainer: Fit, state: dict[str, Any] | None) -> None:
        """Begin a run, or go on with that of the checkpoint, or of this object's last fit."""
        if self.model:
            check_saved(trainer.network.output)
        before, epoch = self.run or self._not_opened, self._epoch
        goes_on = before is not None and not self._joined
        run = before if goes_on else None
        self._forget()
        self.run, self._offset = run or self.run, epoch if goes_on and epoch else epochs_done(trainer)
        if state is not None:
            self.run, self._offset = state["run"] or self.run, state["offset"]
        self._before = sys.exception()  # of a fit that is called where one is handled
        given = {**run_parameters(trainer), **self.params}
        self._try("{} does not record this fit", self.open, given, trainer.measures, state is not None)
        if not self._is_open:
            self.run, self._not_opened = None, self.run
        elif self._joined and self.run == before and state is None and epoch:
            self._offset = epoch

    def state(self) -> dict[str, Any]:
        """Return the run's id, and the epochs before this fit. The numbers so far are sent first."""
        self._flush()
        return {"run": self.run or self._not_opened, "offset": self._offset}

    def expects(self, trainer: Fit, state: Mapping[str, Any]) -> Any:
        """Return the form of the state in a checkpoint."""
        return {"run": (str, None), "offset": Whole()}

    def on_epoch(self, trainer: Fit, progress: Progress) -> None:
        """Take the epoch's numbers; send them about once a second."""
        self._epoch = self._offset + progress.epoch
        if not self._is_open or self._epoch <= self._logged:
            return
        measured = {**(progress.measured or {}), "learning_rate": rate_of(trainer)}
        numbers = {name: float(x) for name, x in measured.items() if isinstance(x, Real)}
        self._rows.append(Row(self._epoch, time.time(), numbers))
        if time.monotonic() - self._sent >= EVERY:
            self._flush()

    def on_fit_end(self, trainer: Fit) -> None:
        """Send the rest, and end the run as finished, failed or, after Ctrl-C, killed; also after a failure."""
        if not self._is_open:
            return
        status = self._status(trainer)
        lacks = f"the run {self.run} of {{}} may lack its last numbers, and may be left open"
        self._failed = False
        self._flush(lacks)
        if self.model and status != FAILED:
            self._try(f"the run {self.run} of {{}} has no model", self._store, trainer)
        self._try(lacks, self.close, status)
        self._is_open = False

    def _flush(self, lacks: str = "") -> None:
        if self._rows and self._is_open and not self._failed:
            rows = [*self._rows]
            lacks = lacks or f"{{}} takes no numbers from epoch {rows[0].epoch} on until the fit's end"
            if self._try(lacks, self.send, rows):
                del self._rows[: len(rows)]
            self._sent = time.monotonic()

    def _store(self, trainer: Fit) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.safetensors"
            trainer.save(path)
            within(6 * self.wait, lambda: self.upload(path))

    def _status(self, trainer: Fit) -> str:
        error = sys.exception()
        if error is not None and error is not self._before:
            pruned = type(error).__name__ == "TrialPruned"  # of Optuna's
            return FAILED if isinstance(error, Exception) and not pruned else KILLED
        errors = getattr(trainer, "errors", ())
        return FAILED if errors and all(errors) else FINISHED

    def _try(self, lacks: str, action: Callable[..., Any], *arguments: Any) -> bool:
        """Do something of the tracker; return whether it is done. The first failure of a fit is a warning."""
        try:
            action(*arguments)
            return True
        except Exception as error:
            if not self._warned:
                why = f"{type(error).__name__}: {first_line(error)}"
                warn(f"{lacks.format(self.service)}; the fit goes on ({why})")
            self._failed = self._warned = True
            return False

    # --- the tracker ---

    @abstractmethod
    def open(self, params: dict[str, Any], measures: tuple[str, ...], resumed: bool) -> None:
        """Begin a run with these parameters, or go on with `run`; set `run` and `_is_open` as soon as there is one."""

    @abstractmethod
    def send(self, rows: list[Row]) -> None:
        """Send the numbers of epochs."""

    @abstractmethod
    def upload(self, path: Path) -> None:
        """Store a file with the run."""

    @abstractmethod
    def close(self, status: str) -> None:
        """End the run, unless it was joined."""


def text_or_none(name: str, value: object) -> str | None:
    """Return a text, or None; an InputError that names it for anything else."""
    if value is None or (isinstance(value, str) and value):
        return value
    raise InputError(f"{name} must be a text, or None; given {shown(value)}")
