"""Checkpoints, from which a killed fit goes on."""

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnx.callbacks.fit import Fit, steps_done, why_ended
from nnx.callbacks.monitor import Monitor
from nnx.callbacks.progress import Progress
from nnx.callbacks.resumable import Resumable
from nnx.errors import CallbackError, InputError, as_path, flag, number, one_of, positive_int
from nnx.io import container, run_folder
from nnx.io.atomic_write import Hold, clear_left
from nnx.io.run_folder import BEST
from nnx.model.outputs.custom import check_saved


class Checkpoints(Resumable):
    """Writes the trainer, the place in its fit and the state of all callbacks to files, for `fit(resume=folder)`.

    The files are step-00001234.safetensors, by the steps that the trainer has done, and with `best` best.safetensors.
    Each is a model file, too (`nnx.Trainer.load`). `steps`, `minutes` and `epochs` say when they are written; one more
    follows the last epoch. Every file is written aside and renamed, and an older one is removed only then. So the
    folder always has a complete one.

    Only files of exactly these names count. Copies under other names, links and files of other programs stay.

    Parameters
    ----------
    folder : path
        Made if it does not exist. Only one fit at a time may write into it: another one, also of another process, is an
        error. Incomplete files of killed processes are removed.
    steps : int or None
        Every so many steps, counted over all epochs.
    minutes : float or None
        After the first step that ends this long after the last checkpoint.
    epochs : int or None
        Every so many epochs; 1 if neither steps nor minutes is given.
    keep : int or None
        The number of newest ones that stay; None: all. If a fit goes on from an earlier one (`fit(resume=file)`), the
        first new one replaces the later ones.
    best : str or None
        The name of a measured number. best.safetensors is the model of the epoch with its best value, over all fits
        with this object.
    mode : {"auto", "min", "max"}
        Whether the least or the greatest value is best; "auto" decides by the name.
    overwrite : bool
        Whether a new fit may remove another fit's checkpoints from the folder.

    Raises
    ------
    InputError
        For a parameter out of its range; when a new fit finds checkpoints of steps that it has not done; when another
        fit writes into the folder; for a name that the fit does not measure; for a loss
        without a name, which no file can hold.
    CallbackError
        When a file cannot be written or removed: the file, the reason, and the last good checkpoint. It ends the fit.

    Examples
    --------
    >>> import tempfile, nnx
    >>> def trained(epochs, folder):
    ...     trainer = nnx.Trainer(nnx.mlp([1, 1]), backend="numpy")
    ...     trainer.fit([[0.0, 1.0]], [0, 1], epochs, callbacks=Checkpoints(folder, keep=2), resume=folder)
    ...     return trainer
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     trainer = trained(3, folder)  # killed here, say
    ...     print(*sorted(path.name for path in Path(folder).iterdir()))
    ...     trained(5, folder).theta == trained(5, tempfile.mkdtemp()).theta
    step-00000002.safetensors step-00000003.safetensors
    array([ True,  True])
    """

    writes = True
    last = True  # so that the state of all others is that after the step, or epoch
    in_rounds = False  # whether it may be there where members train in rounds

    def __init__(
        self,
        folder: str | Path,
        steps: int | None = None,
        minutes: float | None = None,
        epochs: int | None = None,
        keep: int | None = 3,
        best: str | None = None,
        mode: str = "auto",
        overwrite: bool = False,
    ) -> None:
        self.overwrite = flag("overwrite", overwrite)
        self.folder = as_path("folder", folder)
        self.steps = None if steps is None else positive_int("steps", steps)
        self.minutes = math.inf
        if minutes is not None:
            self.minutes = number("minutes", minutes, "greater than 0", lambda x: x > 0)
        self.epochs = None if epochs is None else positive_int("epochs", epochs)
        if steps is None and minutes is None and epochs is None:
            self.epochs = 1
        self.keep = None if keep is None else positive_int("keep", keep)
        one_of("mode", mode, ("auto", "min", "max"))
        self.monitor = None if best is None else Monitor(best, mode=mode)
        self.often = self.steps is not None
        self._done = 0  # steps
        self._next = math.inf  # when, by the clock
        self._hold: Hold | None = None
        self._later: list[Path] = []  # than where the fit goes on from

    def begin(self, trainer: Fit, state: dict[str, Any] | None) -> None:
        """Prepare the folder: refuse that of another fit, and remove incomplete files."""
        check_saved(trainer.network.output)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"the folder {str(self.folder)!r} cannot be made: {error.strerror}") from error
        self._hold = Hold(self.folder, trainer)
        self._done = steps_done(trainer)
        if self.monitor is not None:
            self.monitor.begin(trainer, state if state is not None else self.monitor.state())
        later = [path for path in run_folder.checkpoints(self.folder) if _steps(path) > self._done]
        goes_on = state is not None and self._path().is_file()  # from one of this folder's
        if later and not goes_on and not self.overwrite:
            raise InputError(
                f"the folder {str(self.folder)!r} holds checkpoints of steps that this fit has not done, such as "
                f"{later[-1].name}; go on with theirs, fit(resume=folder), choose another folder, or say overwrite=True"
            )
        if not goes_on:
            self._remove(*later)
        self._later = later if goes_on else []
        clear_left(self.folder, run_folder.is_checkpoint)
        self._rest()

    def on_fit_end(self, trainer: Fit) -> None:
        """Let others write into the folder."""
        if self._hold is not None:
            self._hold.release()
            self._hold = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_hold": None}  # a copy holds nothing

    def expects(self, trainer: Fit, state: Mapping[str, Any]) -> Any:
        """Return the form of the state in a checkpoint."""
        return {} if self.monitor is None else self.monitor.expects(trainer, state)

    def state(self) -> dict[str, Any]:
        """Return the best value, so that a resumed fit replaces it only with better ones."""
        return {} if self.monitor is None else self.monitor.state()

    def on_step(self, trainer: Fit, progress: Progress) -> None:
        """Write a checkpoint if it is time; after the last step of an epoch `on_epoch` does."""
        self._done = progress.done
        ends = progress.step == progress.steps
        if why_ended(trainer) is not None or (self._due() and not ends):
            self._write(trainer, self._path())

    def on_epoch(self, trainer: Fit, progress: Progress) -> None:
        """Write the best model, and a checkpoint if it is time."""
        self._done = progress.done
        if self.monitor is not None and self.monitor.improved(progress):
            self._write(trainer, self.folder / BEST)
        every = self.epochs is not None and progress.epoch % self.epochs == 0
        ends = progress.epoch == progress.epochs or why_ended(trainer) is not None
        if every or ends or self._due():
            self._write(trainer, self._path())

    def _path(self) -> Path:
        return self.folder / run_folder.checkpoint_name(self._done)

    def _due(self) -> bool:
        return (self.steps is not None and self._done % self.steps == 0) or time.monotonic() >= self._next

    def _rest(self) -> None:
        self._next = time.monotonic() + 60 * self.minutes

    def _write(self, trainer: Fit, path: Path) -> None:
        try:
            trainer.save(path)
        except OSError as error:
            raise CallbackError(f"{str(path)!r} cannot be written: {_why(error)}; {self._left()}") from error
        if path.name == BEST:
            return
        self._rest()
        self._remove(*(one for one in self._later if one != path))
        self._later = []
        if self.keep is not None:
            done = [one for one in run_folder.checkpoints(self.folder) if _steps(one) <= self._done]
            self._remove(*done[: -self.keep])

    def _remove(self, *paths: Path) -> None:
        for path in paths:
            try:
                if path.is_file() and not path.is_symlink() and container.is_ours(path):
                    path.unlink(missing_ok=True)
            except OSError as error:
                raise CallbackError(
                    f"{str(path)!r} cannot be removed: {_why(error)}; {self._left()}"
                ) from error

    def _left(self) -> str:
        left = run_folder.checkpoints(self.folder)
        return f"the checkpoint {str(left[-1])!r} stays" if left else "there is no checkpoint before it"


def _steps(path: Path) -> int:
    return run_folder.steps_of(path.name) or 0


def _why(error: OSError) -> str:
    return error.strerror or str(error)
