"""Files opened for reading, gzipped or not; a failure during reading is an error that names the file."""

import gzip
import io
import zlib
from pathlib import Path
from typing import Any

from nnx.errors import InputError

MAGIC = b"\x1f\x8b"
MOST = 1032
"""How many times longer than its gzipped form a file can be at most: the limit of the format."""


class Opened(io.RawIOBase):
    """A binary file that is read forward.

    Parameters
    ----------
    called : str
        What an error calls it.
    file : binary file
        It is closed with this one.
    unzip : bool

    Raises
    ------
    InputError
        While it is read: when it is cut off, damaged, or cannot be read any more.
    """

    def __init__(self, called: str, file: Any, unzip: bool) -> None:
        self.called, self._file = called, file
        self._from = gzip.GzipFile(fileobj=file) if unzip else file

    def readable(self) -> bool:
        """Whether it can be read: always."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, as many as asked for unless the file ends before."""
        try:
            found: bytes = self._from.read(size)
        except EOFError as error:
            raise InputError(
                f"{self.called} cannot be read: it is cut off, its gzipped data have no end; {ADVICE}"
            ) from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise InputError(
                f"{self.called} cannot be read: it is damaged, {_what(error)}; {ADVICE}"
            ) from error
        except OSError as error:
            raise InputError(f"{self.called} cannot be read: {error.strerror or error}") from error
        return found

    def readinto(self, buffer: Any) -> int:
        """Read the next bytes into a buffer; return how many."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Close it."""
        self._file.close()
        super().close()


ADVICE = "copy it, or make it, once more"


def _what(error: Exception) -> str:
    """Return the fault of gzipped data."""
    said = str(error)
    if "CRC" in said:
        return "its checksum is not that of its data"
    if "length" in said:
        return "it holds another number of bytes than it says"
    if "Not a gzipped file" in said:
        return "bytes that are not gzipped follow its gzipped data"
    return f"its gzipped data cannot be unpacked ({said})"


def opened(path: Path) -> Opened:
    """Open a file, which is unzipped while it is read if it is gzipped.

    Raises
    ------
    InputError
        When it cannot be opened.
    """
    called = repr(str(path))
    try:
        return Opened(called, path.open("rb"), is_gzipped(path))
    except OSError as error:
        raise InputError(f"{called} cannot be read: {error.strerror or error}") from error


def is_gzipped(path: Path) -> bool:
    """Whether a file begins as gzipped ones do."""
    with path.open("rb") as file:
        return file.read(2) == MAGIC


def length(path: Path) -> int:
    """Return the bytes of a file, unpacked if it is gzipped: about as many, since gzip notes them modulo 2^32.

    What a damaged file notes, and no file can hold, does not count.
    """
    packed = path.stat().st_size
    if not is_gzipped(path):
        return packed
    with path.open("rb") as file:
        file.seek(max(0, packed - 4))
        noted = int.from_bytes(file.read(4), "little")
    return max(packed, noted if noted <= MOST * packed else 0)
