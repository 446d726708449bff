"""A run's folder: what lies in it, and how it is made, taken over, and given up."""

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from nnx import checkpoint, saved
from nnx.errors import InputError
from nnx.files import written_aside
from nnx.plots.held_out import HELD_OUT
from nnx.plots.run import FORMATS, PICTURES, file_name

MODEL, HISTORY, CONFIG = "model.safetensors", "history.jsonl", "config.toml"
CHECKPOINTS = "checkpoints"
RESULTS, CSV = "results.json", "results.csv"
OF_A_RUN = (MODEL, HISTORY, HELD_OUT, *(file_name(kind, format) for kind in PICTURES for format in FORMATS))
OF_A_SWEEP = (RESULTS, CSV)
"""The files that only the one leaves: what overwrites the other removes them."""


@dataclass
class Folder:
    """The folder of a run, or of a sweep.

    Attributes
    ----------
    path : Path
    made : list of Path
        The folders that were made for it, the innermost first.
    """

    path: Path
    made: list[Path] = field(default_factory=list)
    _before: dict[str, bytes] = field(default_factory=dict)  # what is overwritten before anything is learned
    _runs: list[Path] = field(default_factory=list)  # of a sweep that is overwritten

    @classmethod
    def make(cls, out: Path | None, name: str) -> "Folder":
        """Make the folder asked for, or the first free runs/NAME-N.

        Raises
        ------
        InputError
            When there is a file of that name, or the folder cannot be made.
        """
        number = 1
        while True:
            path = out if out is not None else Path("runs") / f"{name}-{number}"
            made = [one for one in (path, *path.parents) if not one.exists()]
            try:
                path.mkdir(parents=True, exist_ok=out is not None)
            except FileExistsError:
                if out is not None:
                    raise InputError(f"{str(out)!r} is a file; expected a folder as --out") from None
                number += 1
            except OSError as error:
                raise _unwritable(path, error) from error
            else:
                return cls(path, made)

    def begin(self, config: str, resume: bool = False) -> None:
        """Write the configuration, which shows at once whether the folder can be written into.

        Unless the run goes on, an earlier one's checkpoints, and a sweep's results, are removed: nothing may go on
        from them.

        Raises
        ------
        InputError
            When it cannot.
        """
        path = self.path / CONFIG
        overwritten = (CONFIG,) if resume else (CONFIG, RESULTS)
        self._before = {
            name: (self.path / name).read_bytes() for name in overwritten if (self.path / name).is_file()
        }
        self._runs = [] if resume else runs_of(self.path)
        try:
            with written_aside(path) as aside:  # a failed write leaves the last good one
                aside.write_text(config, encoding="utf-8")
            if not resume:
                for run in (self.path, *self._runs):
                    for old in (run / CHECKPOINTS).glob("*.safetensors"):
                        old.unlink()
                (self.path / RESULTS).unlink(missing_ok=True)
        except OSError as error:
            self.give_up()
            raise _unwritable(self.path, error, another=not resume) from error

    @property
    def replaces(self) -> bool:
        """Whether an earlier run or sweep is there, which stays until there is something to put in its place."""
        return RESULTS in self._before or (CONFIG in self._before and (self.path / MODEL).is_file())

    def clear(self, names: Iterable[str], but: str = "") -> None:
        """Remove what an earlier run or sweep left: these files, and the runs of the sweep but one."""
        for name in names:
            (self.path / name).unlink(missing_ok=True)
        for run in self._runs:
            if run.name != but:
                shutil.rmtree(run, ignore_errors=True)

    def give_up(self) -> None:
        """Take back what was made for a run that has learned nothing, as far as nothing else is in it."""
        checkpoints = self.path / CHECKPOINTS
        if checkpoints.is_dir() and not any(checkpoints.iterdir()):
            checkpoints.rmdir()
        if not checkpoints.is_dir():
            (self.path / CONFIG).unlink(missing_ok=True)
            for name, content in self._before.items():
                (self.path / name).write_bytes(content)
        for path in self.made:
            if any(path.iterdir()):
                return
            path.rmdir()


def runs_of(folder: Path) -> list[Path]:
    """Return the folders of a sweep's runs, as its results name them; none where they cannot be read."""
    try:
        rows = json.loads((folder / RESULTS).read_text(encoding="utf-8"))["runs"]
        names = [row["run"] for row in rows]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [folder / name for name in names if isinstance(name, str) and name.isdecimal()]


def file_of(run: Path) -> Path:
    """Return the model file: of a folder its model, or the newest checkpoint of a run that was killed since.

    Raises
    ------
    InputError
        When there is none in the folder.
    """
    if not run.is_dir():
        return run
    model, found = run / MODEL, saved.checkpoints(run / CHECKPOINTS) or saved.checkpoints(run)
    if not model.is_file() and found:
        return found[-1]
    if not model.is_file():
        inside = sorted(path.parent for path in run.glob(f"*/{MODEL}"))
        hint = (
            f"give one of the runs in it, such as {str(inside[0])!r}"
            if inside
            else "give the folder that `nnx train` named, or a model file"
        )
        raise InputError(
            f"the folder {str(run)!r} holds no run: there is no {MODEL} in it, and no checkpoint; {hint}"
        )
    if found and found[-1].stat().st_mtime_ns > model.stat().st_mtime_ns:
        steps = [checkpoint.read(path)[1]["steps"] for path in (model, found[-1])]
        if steps[0] != steps[1]:  # else the run ended there, and a copy has the times of its copying
            return found[-1]
    return model


def name_of(data: str) -> str:
    """Return what a run on these data is called.

    Examples
    --------
    >>> name_of("tables/pets.csv.gz"), name_of("digits")
    ('pets', 'digits')
    """
    return Path(data).name.split(".")[0] or "run"


def _unwritable(path: Path, error: OSError, another: bool = True) -> InputError:
    why, advice = error.strerror or str(error), ". Choose another --out" if another else ""
    return InputError(f"the run's folder {str(path)!r} cannot be written: {why}{advice}")
