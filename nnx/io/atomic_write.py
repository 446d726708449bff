"""Files are written aside and renamed: a failed or interrupted write leaves the last good file.

While a file is written aside its writer holds a lock on it (`fcntl.flock`, if the system has it). The lock ends with
the process. So files of killed processes can be told from those that another process is writing.
"""

import errno
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType

from nnx.errors import InputError, nearest

_fcntl: ModuleType | None
try:
    import fcntl as _fcntl
except ImportError:  # Windows, where an open file cannot be removed by others
    _fcntl = None

LONGEST = 215
"""Bytes of a file's name that its name aside has, at most."""

_ASIDE = re.compile(r"\.(.+)\.[0-9]+(?:-[0-9a-f]{8})?\.tmp", re.DOTALL)
"""The name of a file that is written aside; earlier it had no random part."""


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Give a path to write to; on leaving, it takes the place of `path` in one step, or is removed.

    The bytes, then the name, are on the disk when the block is over. Several threads and processes may write one path
    at once: each has a file of its own, and the last one to end stays. A link is replaced, and not its target.

    Raises
    ------
    InputError
        When there is no such folder, or something else than a regular file stands there.
    OSError
        When the disk is full, read-only or failing; `filename` is `path`.
    """
    if not path.name or path.is_dir():
        raise InputError(f"{str(path)!r} is a folder; expected the name of a file to write")
    if path.exists() and not path.is_file():
        raise InputError(f"{str(path)!r} is no regular file, which alone can be replaced")
    if not path.parent.is_dir():
        raise InputError(
            f"there is no folder {str(path.parent)!r} to write {path.name!r} into; make it first"
        )
    clear_left(path.parent, lambda name: name == _short(path.name))
    file, aside = _begun(path)
    try:
        with naming(path, aside):
            yield aside
            os.fsync(file)  # the bytes are on the disk before the name is
            if _fcntl is None:
                file = _closed(file)  # Windows renames no open file
            aside.replace(path)
            _synchronize(path.parent)
    finally:
        with suppress(OSError):  # it is not there, or the error above says why it cannot be
            aside.unlink()
        _closed(file)


@contextmanager
def naming(path: Path, aside: Path | None = None) -> Iterator[None]:
    """Let an OSError that names no file, or the one written aside, name `path`."""
    try:
        yield
    except OSError as error:
        if error.filename is not None and str(error.filename) not in (str(path), str(aside)):
            raise  # of another file
        if error.errno is None:
            raise OSError(f"{str(path)!r}: {error}") from error
        raise OSError(error.errno, error.strerror, str(path)) from error


def neighbours(path: Path) -> str:
    """Return a question after the names in a folder that are the nearest to that of a path which is not there."""
    names: list[str] = []
    with suppress(OSError, ValueError):
        names = [one.name for one in path.parent.iterdir()]
    same = [name for name in names if name.partition(".")[0] == path.name]  # but for the ending
    near = [repr(str(path.with_name(name))) for name in same[:2] or nearest(path.name, names)]
    return f". Did you mean {' or '.join(near)}?" if near else ""


def clear_left(folder: Path, is_ours: Callable[[str], bool]) -> None:
    """Remove incomplete files of killed processes from a folder, only those with nnx's names."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            found = _ASIDE.fullmatch(entry.name)
            if found and is_ours(found[1]):
                with suppress(OSError):
                    _remove_if_left(folder / entry.name)


class Hold:
    """A folder that one writer has for itself until `release`, or until its process ends.

    Nothing is held where folders cannot be locked: on Windows, and on some network file systems.

    Parameters
    ----------
    folder : path
    owner : object
        Who writes. The same owner may hold a folder several times.

    Raises
    ------
    InputError
        When another one holds it.
    """

    _all: "dict[tuple[int, int, int], list[Hold]]" = {}  # noqa: RUF012  # of the process

    def __init__(self, folder: Path, owner: object) -> None:
        self.owner, self._file, self._key = owner, -1, (0, 0, 0)
        if _fcntl is None:
            return
        try:
            self._file = os.open(folder, os.O_RDONLY)
        except OSError:  # a folder may be written and not read
            return
        at = os.fstat(self._file)
        self._key = os.getpid(), at.st_dev, at.st_ino
        others = self._all.get(self._key, [])
        if others and others[0].owner is owner:
            others.append(self)
            return
        try:
            _fcntl.flock(self._file, _fcntl.LOCK_EX | _fcntl.LOCK_NB)
        except BlockingIOError:
            self._file = _closed(self._file)
            raise InputError(
                f"another training writes into {str(folder)!r} just now; wait until it has ended, or choose another "
                "folder"
            ) from None
        except OSError:
            self._file = _closed(self._file)
            return
        self._all[self._key] = [self]

    def release(self) -> None:
        """Let others write; a second call does nothing."""
        if self._file < 0 or self._key[0] != os.getpid():  # a child's copy
            return
        holds = self._all.get(self._key, [])
        first = bool(holds) and holds[0] is self
        if first and len(holds) > 1:  # the others go on with the file that is locked
            self._file, holds[1]._file = holds[1]._file, self._file
        elif first and _fcntl is not None:
            with suppress(OSError):
                _fcntl.flock(self._file, _fcntl.LOCK_UN)  # also for a child that has inherited the file
        if self in holds:
            holds.remove(self)
        if not holds:
            self._all.pop(self._key, None)
        self._file = _closed(self._file)


def _begun(path: Path) -> tuple[int, Path]:
    """Return an empty file beside `path`, open and locked, and its path: a name that no other writer has."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    while True:
        aside = path.with_name(f".{_short(path.name)}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
        try:
            with naming(path, aside):
                file = os.open(aside, flags, 0o666)
        except FileExistsError:
            continue
        if _locked(file, aside) is not False:
            return file, aside
        _closed(file)  # another one has cleared it away before it was locked


def _locked(file: int, path: Path) -> bool | None:
    """Lock an open file; False: another process has it, or it is no longer at its path. None: there are no locks."""
    if _fcntl is None:
        return None
    try:
        _fcntl.flock(file, _fcntl.LOCK_EX | _fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    try:
        return os.path.samestat(os.fstat(file), path.lstat())
    except FileNotFoundError:
        return False


def _remove_if_left(path: Path) -> None:
    """Remove a file that was written aside, unless a process still has it."""
    if _fcntl is None:
        if stat.S_ISREG(path.lstat().st_mode):
            path.unlink()
        return
    file = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if stat.S_ISREG(os.fstat(file).st_mode) and _locked(file, path):
            path.unlink()
    finally:
        _closed(file)


def _synchronize(folder: Path) -> None:
    """Write the folder's names to the disk, where the system can."""
    try:
        file = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows, or a folder that may be written and not read
        return
    try:
        os.fsync(file)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        _closed(file)


def _closed(file: int) -> int:
    """Close a file, and return the number for no file."""
    if file >= 0:
        with suppress(OSError):
            os.close(file)
    return -1


def _short(name: str) -> str:
    """Return a name with room for the other parts of a name aside: file systems take 255 bytes."""
    name_bytes = os.fsencode(name)
    return name if len(name_bytes) <= LONGEST else name_bytes[:LONGEST].decode(errors="ignore")
