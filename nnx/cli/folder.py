"""A run's folder: what lies in it, and how it is made, taken over, and given up."""

from dataclasses import dataclass, field
from pathlib import Path

from nnx.errors import InputError
from nnx.files import written_aside

MODEL, HISTORY, CONFIG = "model.safetensors", "history.jsonl", "config.toml"
CHECKPOINTS = "checkpoints"


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
    _before: bytes | None = None  # the configuration of an earlier run, which is being overwritten

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

        Unless the run goes on, the checkpoints of an earlier one are removed: nothing may go on from them.

        Raises
        ------
        InputError
            When it cannot.
        """
        path = self.path / CONFIG
        self._before = path.read_bytes() if path.is_file() else None
        try:
            with written_aside(path) as aside:  # a failed write leaves the last good one
                aside.write_text(config, encoding="utf-8")
            if not resume:
                for old in (self.path / CHECKPOINTS).glob("*.safetensors"):
                    old.unlink()
        except OSError as error:
            self.give_up()
            raise _unwritable(self.path, error, another=not resume) from error

    def give_up(self) -> None:
        """Take back what was made for a run that has learned nothing, as far as nothing else is in it."""
        checkpoints = self.path / CHECKPOINTS
        if checkpoints.is_dir() and not any(checkpoints.iterdir()):
            checkpoints.rmdir()
        if not checkpoints.is_dir():
            config = self.path / CONFIG
            if self._before is not None:
                config.write_bytes(self._before)
            else:
                config.unlink(missing_ok=True)
        for path in self.made:
            if any(path.iterdir()):
                return
            path.rmdir()


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
