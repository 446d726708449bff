"""The check that a path leads to a regular file."""

import stat
from pathlib import Path

from nnx.errors import InputError
from nnx.io.atomic_write import neighbours


def regular(path: Path, what: str = "") -> None:
    """Raise an InputError unless there is a regular file of this name; `what` names the wanted file in it."""
    called = repr(str(path))
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        link = (
            f": the link leads to {str(path.readlink())!r}, which is not there" if path.is_symlink() else ""
        )
        raise InputError(f"there is no file {called}{what}{link or neighbours(path)}") from error
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise InputError(
            f"{called} is no file that can be read: {getattr(error, 'strerror', error)}"
        ) from error
    if stat.S_ISDIR(mode):
        images = next((str(one) for one in sorted(path.glob("train-images*"))), None)
        hint = f", such as {images!r} in it" if images else ""
        raise InputError(f"{called} is a folder; expected a file{hint}")
    if not stat.S_ISREG(mode):
        raise InputError(f"{called} is no regular file; write what it gives to one")
