"""A run's folder: its files, and how it is made, taken over, and given up."""

import json
import os
import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from nnx.errors import InputError
from nnx.io import container, run_folder
from nnx.io.atomic_write import Hold, clear_left, written_aside
from nnx.io.run_folder import CHECKPOINTS, MODEL
from nnx.plots.held_out import HELD_OUT
from nnx.plots.run import FORMATS, PICTURES, file_name

HISTORY, CONFIG = "history.jsonl", "config.toml"
RESULTS, CSV, FOLDS = "results.json", "results.csv", "folds.json"
OF_A_RUN = (
    MODEL,
    HISTORY,
    HELD_OUT,
    FOLDS,
    *(file_name(kind, format) for kind in PICTURES for format in FORMATS),
)
OF_A_SWEEP = (RESULTS, CSV)
"""The files of only a run or only a sweep: one that overwrites the other removes them."""

OURS = {CONFIG, *OF_A_RUN, *OF_A_SWEEP}
"""All files that nnx writes into such a folder. Checkpoints are in a folder of their own."""


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
    _hold: Hold | None = None

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

    def check(self) -> None:
        """Raise an InputError when a run cannot go on here: another writes into it, or a file of it is not nnx's."""
        Hold(self.path, self).release()
        refuse_others(self.path, resume=True)

    def begin(self, config: str, resume: bool = False) -> None:
        """Write the configuration, which shows at once whether the folder can be written into.

        The folder is this run's alone until `end`. Unless the run goes on, an earlier one's checkpoints, and a sweep's
        results, are removed: nothing may go on from them.

        Raises
        ------
        InputError
            When it cannot be written, another process trains into it, or what would be replaced is not nnx's.
        """
        self._hold = Hold(self.path, self)
        path = self.path / CONFIG
        try:
            refuse_others(self.path, resume)
            clear_left(self.path, OURS.__contains__)
            overwritten = (CONFIG,) if resume else (CONFIG, RESULTS, FOLDS)
            self._before = {
                name: (self.path / name).read_bytes() for name in overwritten if (self.path / name).is_file()
            }
            self._runs = [] if resume else runs_of(self.path)
            with written_aside(path) as aside:  # a failed write leaves the last good one
                aside.write_text(config, encoding="utf-8")
            if not resume:
                for run in (self.path, *self._runs):
                    for old in _own_checkpoints(run):
                        old.unlink()
                for name in (RESULTS, FOLDS):
                    (self.path / name).unlink(missing_ok=True)
        except OSError as error:
            self.give_up()
            self.end()
            raise _unwritable(self.path, error, another=not resume) from error
        except BaseException:
            self.end()
            raise

    @contextmanager
    def held(self) -> Iterator[None]:
        """Have the folder alone again, after `end`."""
        self._hold = Hold(self.path, self)
        try:
            yield
        finally:
            self.end()

    def end(self) -> None:
        """Let others write into the folder."""
        if self._hold is not None:
            self._hold.release()

    @property
    def replaces(self) -> bool:
        """Whether an earlier run or sweep is there, which stays until there is something to put in its place."""
        return RESULTS in self._before or (CONFIG in self._before and (self.path / MODEL).is_file())

    def clear(self, names: Iterable[str], but: Collection[str] = ()) -> None:
        """Remove these files of an earlier run or sweep, and the runs of the sweep but some."""
        for name in names:
            (self.path / name).unlink(missing_ok=True)
        for run in self._runs:
            if run.name not in but:
                with suppress(OSError):
                    _remove_run(run)

    def give_up(self) -> None:
        """Remove the files of a run that has learned nothing, unless there are others in the folder."""
        checkpoints = self.path / CHECKPOINTS
        if checkpoints.is_dir() and not checkpoints.is_symlink() and not any(checkpoints.iterdir()):
            checkpoints.rmdir()
        if not run_folder.checkpoints(checkpoints):
            if CONFIG not in self._before:
                (self.path / CONFIG).unlink(missing_ok=True)
            for name, content in self._before.items():
                path = self.path / name
                if not path.is_file() or path.read_bytes() != content:
                    with written_aside(path) as aside:
                        aside.write_bytes(content)
        for path in self.made:
            if any(path.iterdir()):
                return
            path.rmdir()


def is_run(folder: Path) -> bool:
    """Whether `nnx train` made a run or a sweep in this folder: its configuration begins as nnx begins one."""
    path = folder / CONFIG
    try:
        with path.open(encoding="utf-8") as file:
            return re.match(r"# nnx \S+\. `nnx train --config` this file", file.readline(200)) is not None
    except (OSError, ValueError):
        return False


def refuse_others(folder: Path, resume: bool = False) -> None:
    """Raise an InputError for a file that would be replaced or removed and that nnx did not write in a run."""
    ours, checkpoints = is_run(folder), folder / CHECKPOINTS
    for path in (folder / name for name in sorted(OURS)):
        if path.is_symlink() or (path.exists() and not (ours and path.is_file())):
            raise _of_others(path, resume)
    if checkpoints.is_symlink() and not resume:
        raise _of_others(checkpoints, resume)
    own = set(_own_checkpoints(folder))
    for path in run_folder.checkpoints(checkpoints):
        if not resume and not (ours and path in own):
            raise _of_others(path, resume)


def _of_others(path: Path, resume: bool) -> InputError:
    what = "is a link" if path.is_symlink() else "was not written by nnx in a run of its own"
    advice = "move it elsewhere" if resume else "choose another --out, or move it elsewhere"
    return InputError(f"{str(path)!r} {what}, so that nnx neither replaces nor removes it; {advice}")


def _own_checkpoints(run: Path) -> list[Path]:
    """Return the checkpoints that nnx has written in a run's folder: no links, nor other programs' files."""
    folder = run / CHECKPOINTS
    if not is_run(run) or folder.is_symlink():
        return []
    return [one for one in run_folder.checkpoints(folder) if not one.is_symlink() and container.is_ours(one)]


def _remove_run(run: Path) -> None:
    """Remove nnx's files from the folder of a sweep's run, and the folder if it is then empty."""
    if not is_run(run):
        return
    clear_left(run, OURS.__contains__)
    clear_left(run / CHECKPOINTS, run_folder.is_checkpoint)
    for path in (*_own_checkpoints(run), *(run / name for name in sorted(OURS - {CONFIG})), run / CONFIG):
        if not path.is_symlink():
            path.unlink(missing_ok=True)
    for folder in (run / CHECKPOINTS, run):
        with suppress(OSError):  # it is not there, is a link, or something is in it
            folder.rmdir()


def runs_of(folder: Path) -> list[Path]:
    """Return the folders of a sweep's runs, as its results name them; none where they cannot be read."""
    try:
        rows = json.loads((folder / RESULTS).read_text(encoding="utf-8"))["runs"]
        names = [row["run"] for row in rows]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    runs = [folder / name for name in names if isinstance(name, str) and name.isdecimal()]
    return [run for run in runs if not run.is_symlink()]


def name_of(data: str) -> str:
    """Return the name of a run on these data.

    Examples
    --------
    >>> name_of("tables/pets.csv.gz"), name_of("digits")
    ('pets', 'digits')
    """
    name = Path(data).name.split(".")[0] or "run"
    # A number follows, and names have at most 255 bytes.
    return os.fsencode(name)[:200].decode("utf-8", "ignore")


def _unwritable(path: Path, error: OSError, another: bool = True) -> InputError:
    why, advice = error.strerror or str(error), ". Choose another --out" if another else ""
    where = f" (it failed at {str(error.filename)!r})" if error.filename not in (None, str(path)) else ""
    return InputError(f"the run's folder {str(path)!r} cannot be written: {why}{advice}{where}")
