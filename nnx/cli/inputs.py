"""What several commands take: lists of numbers, data, and outputs that must not be there yet."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nnx.data import files
from nnx.data.builtin import BUILTIN, load
from nnx.data.source import Arrays, Table
from nnx.errors import InputError, positive_int


class UsageError(InputError):
    """Something typed that is wrong whatever the data are: the exit code is 2, as for an unknown option."""


@contextmanager
def typed() -> Iterator[None]:
    """Make every InputError within a UsageError: there, only what was typed is looked at."""
    try:
        yield
    except UsageError:
        raise
    except InputError as error:
        raise UsageError(str(error)) from error


def integers(name: str, text: str) -> list[int]:
    """Return "128,64" as [128, 64]."""
    try:
        return [positive_int(name, int(part)) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{name} must be positive integers such as 128,64; given {text!r}") from None


def source(data: str, target: str | None, seed: int, predicting: bool = False) -> Arrays | Table:
    """Return the data set of this name, or what the file of this name holds."""
    if data in BUILTIN:
        if target is not None and not predicting:
            raise InputError(f"the data set {data!r} has a target of its own; --target is for files")
        return load(data, seed)
    try:
        return files.read(Path(data), target, predicting)
    except InputError as error:
        if not Path(data).exists() and Path(data).suffix == "":
            raise InputError(
                f"{error}, nor a data set of that name; there are: {', '.join(BUILTIN)}"
            ) from None
        raise


def refuse_existing(out: Path, empty_folder: bool = False) -> None:
    """Raise an InputError when the output is there already: nothing is overwritten unasked."""
    if out.exists() and not (empty_folder and out.is_dir() and not any(out.iterdir())):
        raise InputError(
            f"{str(out)!r} exists already; choose another --out, or give --overwrite to replace it"
        )
