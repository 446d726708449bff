"""Messages for a disk that is full or fails when the model is written, and the place where the model goes then."""

import json
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from nnx.callbacks.fit import Fit
from nnx.cli import show
from nnx.errors import size
from nnx.train import model_file


def why(error: OSError, folder: Path, trainer: Any) -> str:
    """Return which file could not be written, why, how many bytes the model takes, and how many are free."""
    said = f"{str(error.filename or folder)!r} cannot be written: {error.strerror or error}"
    with suppress(OSError):
        free = shutil.disk_usage(folder).free
        return (
            f"{said}. The model takes {size(needed(trainer))}, and {size(free)} are free in {str(folder)!r}"
        )
    return said


def needed(trainer: Any) -> int:
    """Return about the bytes of a trainer's model file: parameters, the optimizer's memory, and the description."""
    tensors, description = model_file.collect(trainer.session)
    return sum(int(tensor.nbytes) for tensor in tensors.values()) + len(json.dumps(description, default=str))


def may_try_again(said: str) -> bool:
    """Ask in a terminal for room on the disk; return whether to write again."""
    if show.silent() or sys.stdin is None or not (sys.stdin.isatty() and show.console.is_terminal):
        return False
    show.complain(f"{said}. The model is kept in memory")
    try:
        input("Make room, then press Enter to write it; Ctrl-C gives up. ")
    except (KeyboardInterrupt, EOFError):
        show.console.print()
        return False
    return True


def elsewhere(trainer: Fit, name: str) -> Path | None:
    """Write the model into a new folder among the temporary files; return its path, None if that fails, too."""
    try:
        path = Path(mkdtemp(prefix="nnx-")) / name
    except OSError:
        return None
    try:
        trainer.save(path)
    except OSError:
        shutil.rmtree(path.parent, ignore_errors=True)
        return None
    return path
