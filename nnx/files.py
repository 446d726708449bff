"""Files are written aside and renamed: a failed or interrupted write leaves the last good file."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nnx.errors import InputError


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Give a path to write to; on leaving, it takes the place of `path` in one step, or is removed."""
    if not path.name or path.is_dir():
        raise InputError(f"{str(path)!r} is a folder; expected the name of a file to write")
    if path.exists() and not path.is_file():
        raise InputError(f"{str(path)!r} is no regular file, which alone can be replaced")
    if not path.parent.is_dir():
        raise InputError(
            f"there is no folder {str(path.parent)!r} to write {path.name!r} into; make it first"
        )
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield aside
        with aside.open("rb+") as file:
            os.fsync(file.fileno())  # the bytes are on the disk before the name is
        aside.replace(path)
    except OSError as error:
        if str(error.filename) != str(aside):
            raise
        # of the name that was asked for, not of ours
        raise type(error)(error.errno, error.strerror, str(path)) from error
    finally:
        with suppress(OSError):  # it is not there, or the error above says why it cannot be
            aside.unlink()
