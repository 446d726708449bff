"""A private folder, and checksums of its files: for files that run as a program when they are loaded."""

import atexit
import hashlib
import logging
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from importlib import import_module
from pathlib import Path

from nnx.io.atomic_write import written_aside

_log = logging.getLogger("nnx")

OTHERS = stat.S_IWGRP | stat.S_IWOTH
"""The bits of a mode by which other users may write."""


class UnsafeError(Exception):
    """Another user could have written here."""


def user_cache() -> Path:
    """Return this user's folder for files of nnx that can be made anew; a RuntimeError if the user has no home."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "nnx" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "nnx"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "nnx"


@lru_cache
def process_folder() -> Path:
    """Return a folder for this process alone, which is removed at its end."""
    folder = tempfile.TemporaryDirectory(prefix="nnx-")
    atexit.register(folder.cleanup)
    return Path(folder.name)


def problem_of(found: os.stat_result, kind: Callable[[int], bool] = stat.S_ISDIR) -> str | None:
    """Return what is wrong with a folder, or another kind of file, that only this user should write; None: nothing.

    Parameters
    ----------
    found : os.stat_result
        Of the thing itself, as `os.lstat` returns it.
    kind : callable
        Tells from a mode whether it is the expected kind.
    """
    if stat.S_ISLNK(found.st_mode):
        return "is a symbolic link"
    if not kind(found.st_mode):
        return "is no folder" if kind is stat.S_ISDIR else "is no regular file"
    if not hasattr(os, "geteuid"):  # Windows, whose folders of a user are the user's own
        return None
    if found.st_uid != os.geteuid():
        return f"belongs to another user (user id {found.st_uid})"
    if found.st_mode & OTHERS:
        return f"can be written by other users (mode {stat.S_IMODE(found.st_mode):04o})"
    return None


def make_private(folder: Path) -> None:
    """Make a folder that only this user can read and write, or check and close the one that is there.

    Raises
    ------
    UnsafeError
        When it is a link, another user's, or could be written by others.
    OSError
        When it cannot be made.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        folder.chmod(0o700)  # whatever the umask
    wrong = problem_of(folder.lstat())
    if wrong is not None:
        raise UnsafeError(f"{str(folder)!r} {wrong}")
    if stat.S_IMODE(folder.lstat().st_mode) != 0o700:
        folder.chmod(0o700)


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Keep other processes out of this block, by a lock on a file; it is not emptied, and no link to it is followed.

    On Windows, and where the file cannot be opened or locked, nothing is kept out.
    """
    file = -1
    try:
        fcntl = import_module("fcntl")
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        if stat.S_ISREG(os.fstat(file).st_mode):
            fcntl.flock(file, fcntl.LOCK_EX)
    except (ImportError, OSError) as error:
        _log.debug("%s locks nothing: %s", path, error)
    try:
        yield
    finally:
        if file >= 0:
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_UN)  # also for a child that has inherited the file
            os.close(file)


class SealedFiles:
    """The files of one name in a private folder, with their checksums (SHA-256), which are a file beside them.

    Parameters
    ----------
    folder : Path
    name : str
        Their names begin with it and a dot, in the folder's `__pycache__`.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name, self._sums = folder / "__pycache__", name, folder / f"{name}.sha256"

    def files(self) -> list[Path]:
        """Return all of them."""
        return sorted(self._folder.glob(f"{self._name}.*"))

    def are_intact(self) -> bool:
        """Whether there are some, and all are as they were written by this user."""
        return bool(self.files()) and not self._damaged()

    def remove_damaged(self) -> None:
        """Remove those that are not as they were written."""
        for path in self._damaged():
            path.unlink()

    def remove(self) -> None:
        """Remove all of them."""
        for path in self.files():
            path.unlink()

    def fingerprint(self) -> object:
        """Return a value that differs once one of them has been written: names, times and sizes."""
        found = []
        for path in self.files():
            with suppress(OSError):
                found.append((path.name, path.stat().st_mtime_ns, path.stat().st_size))
        return found

    def seal(self) -> None:
        """Note the checksums of the files as they are now, and make the files private."""
        for path in self.files():
            path.chmod(0o600)
        write_private(self._sums, "".join(f"{_sum(path)}  {path.name}\n" for path in self.files()))

    def _damaged(self) -> list[Path]:
        lines = (read_private(self._sums) or "").splitlines()
        sums = {name: sum for sum, _, name in (line.partition("  ") for line in lines)}
        return [path for path in self.files() if _sum(path) != sums.get(path.name, "not listed")]


def read_private(path: Path) -> str | None:
    """Return the text of a file that only this user can have written; None where there is none."""
    data = _data(path)
    return None if data is None else data.decode("utf-8", "replace")


def write_private(path: Path, text: str) -> None:
    """Write a file that only this user can read."""
    with written_aside(path) as aside:
        aside.chmod(0o600)
        aside.write_text(text, encoding="utf-8", newline="")


def _data(path: Path) -> bytes | None:
    try:
        return path.read_bytes() if problem_of(path.lstat(), stat.S_ISREG) is None else None
    except OSError:
        return None


def _sum(path: Path) -> str | None:
    data = _data(path)
    return None if data is None else hashlib.sha256(data).hexdigest()
