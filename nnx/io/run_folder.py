"""The names of the files that a run leaves in its folder: the model and the checkpoints."""

import re
from pathlib import Path

MODEL = "model.safetensors"
"""The model in a run's folder."""

CHECKPOINTS = "checkpoints"
"""The folder in a run's folder that `nnx train` writes checkpoints to."""

BEST = "best.safetensors"
"""The model of the best epoch, beside the checkpoints."""


def steps_of(name: str) -> int | None:
    """Return the steps that a checkpoint's name tells, None where it is not exactly a name that nnx gives.

    Examples
    --------
    >>> steps_of("step-00001234.safetensors"), steps_of("step-00001234 (1).safetensors")
    (1234, None)
    """
    found = re.fullmatch(r"step-([0-9]{8,})\.safetensors", name)
    return int(found[1]) if found and name == checkpoint_name(int(found[1])) else None


def checkpoint_name(steps: int) -> str:
    """Return the name of the checkpoint after so many steps."""
    return f"step-{steps:08d}.safetensors"


def is_checkpoint(name: str) -> bool:
    """Whether nnx gives a file among checkpoints this name."""
    return name == BEST or steps_of(name) is not None


def checkpoints(folder: Path) -> list[Path]:
    """Return the files of a folder that have the names of checkpoints, oldest first."""
    try:
        found = [(steps_of(path.name), path) for path in folder.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [path for _, path in sorted((n, path) for n, path in found if n is not None and path.is_file())]
