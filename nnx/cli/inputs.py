"""Arguments of several commands: lists of numbers, data, and outputs that must not exist yet."""

import io
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nnx.cli.members import predicts
from nnx.cli.show import warn
from nnx.data import files
from nnx.data.builtin import BUILTIN, load
from nnx.data.dialect import PLAIN, Dialect
from nnx.data.gzipped import MAGIC, Opened
from nnx.data.prepare import Preparation
from nnx.data.source import Arrays, Table
from nnx.data.tables import CSV, STANDARD_INPUT
from nnx.errors import InputError, did_you_mean, positive_int, unknown
from nnx.io.atomic_write import neighbours
from nnx.port.registry import AUTO, check_device_of, names
from nnx.train.model_file import file_of
from nnx.train.trainer import Trainer

WIDTHS = ",-"
"""The separators of the widths of layers: tables name a network 784-512-10."""


class UsageError(InputError):
    """Something typed that is wrong whatever the data are: the exit code is 2, as for an unknown option."""


@contextmanager
def typed() -> Iterator[None]:
    """Make every InputError within it a UsageError: only the command line is checked there."""
    try:
        yield
    except UsageError:
        raise
    except InputError as error:
        raise UsageError(str(error)) from error


def check_backend(name: str, device: str | None) -> None:
    """Raise an InputError for a backend or a device of no known name."""
    if name != AUTO and name not in names():
        raise unknown("backend", name, [AUTO, *names()])
    check_device_of(name, device)


def integers(name: str, text: str, apart: str = ",") -> list[int]:
    """Return "128,64" as [128, 64]; `apart` are the characters that may stand between two."""
    try:
        return [positive_int(name, int(part)) for part in re.split(f"[{re.escape(apart)}]", text)]
    except ValueError:
        raise InputError(f"{name} must be positive integers such as 128,64; given {text!r}") from None


def source(
    data: str,
    target: str | None,
    seed: int,
    dialect: Dialect = PLAIN,
) -> Arrays | Table:
    """Return the data set of this name, or the data of the file of this name."""
    if data in BUILTIN:
        if target is not None:
            raise InputError(f"the data set {data!r} has a target of its own; --target is for files")
        return load(data, seed)
    if data == "-" or _is_pipe(data):
        raise UsageError(
            f"training reads its data more than once, and {data!r} is a pipe; write what comes through it to a file"
        )
    path = _file(data)
    return files.read(path, target, dialect)


def pieces(
    data: str,
    size: int,
    target: str | None = None,
    predicting: bool = True,
    dialect: Dialect = PLAIN,
) -> Iterator[Arrays | Table]:
    """Yield the samples of a data set, a file, or (-) of the standard input, `size` at once.

    The last piece alone has fewer. Of a table no more is in memory than a few megabytes.
    """
    if data in BUILTIN:
        found: Iterator[Arrays | Table] = iter([load(data)])
    elif data == "-":
        if sys.stdin is None:
            raise InputError(f"{STANDARD_INPUT} is closed; give FILE, or pipe a table in")
        found = _stream(STANDARD_INPUT, sys.stdin.buffer, dialect)
    elif _is_pipe(data):  # as the shell's <(command) is
        found = _pipe(data, dialect)
    else:
        found = files.pieces(_file(data), target, predicting, dialect)
    rest: Arrays | Table | None = None
    for piece in found:
        if isinstance(piece, Arrays) and piece.note:
            warn(piece.note, "Note")
        whole = piece if rest is None else rest.joined(piece)
        end = len(whole) - len(whole) % size
        for start in range(0, end, size):
            yield whole.part(start, start + size)
        rest = whole.part(end, len(whole))
    if rest is not None and len(rest):
        yield rest


def model_file(path: Path) -> Path:
    """Return the model file of what was typed as MODEL: a file, or the folder of a run.

    Raises
    ------
    InputError
        For data in its place, and for an ONNX file.
    """
    ending = next((one for one in reversed(path.suffixes) if one.lower() != ".gz"), "").lower()
    name, wanted = (
        str(path),
        "expected a model: the folder that `nnx train` left, or the model.safetensors in it",
    )
    if name in BUILTIN and not path.exists():
        raise InputError(f"{name!r} is a data set; {wanted}")
    if path.is_file() and ending in (*files.ENDINGS, ".onnx"):
        what = "an ONNX file, which nnx.convert.from_onnx reads" if ending == ".onnx" else "a file of data"
        raise InputError(f"{name!r} is {what}; {wanted}")
    return file_of(path)


def check_order(path: Path, data: str) -> None:
    """Raise an InputError where the data stand before the model."""
    if (
        path.suffix != ".safetensors"
        and path.is_file()
        and (Path(data).is_dir() or data.endswith(".safetensors"))
    ):
        raise InputError(f"the model comes first, then the data: {data} {path}")


def model(path: Path, backend: str, device: str | None, precision: str | None) -> tuple[Trainer, Preparation]:
    """Return the model of a model file or a run's folder."""
    file = model_file(path)
    trainer = Trainer.load(file, backend, device, precision)
    if not predicts(trainer):
        raise InputError(f"{str(file)!r} has no member that predicts: they have diverged; train again")
    try:
        return trainer, Preparation.of(trainer.metadata)
    except InputError as error:
        raise InputError(f"{str(file)!r}: {error}") from error


def at_once(trainer: Trainer) -> int:
    """Return the number of samples to compute at once: of X and the widest layer no more than some megabytes."""
    return max(1, min(8192, 2**22 // max(trainer.network.n)))


def _is_pipe(data: str) -> bool:
    try:
        return Path(data).is_fifo()
    except OSError:  # no name that a file can have, which is said where it is opened
        return False


def _file(data: str) -> Path:
    """Return the path of a file, saying so if it holds something else than its ending says."""
    path, there = Path(data), os.path.lexists(data)
    if "://" in data and not there:
        raise InputError(f"{data!r} is a URL; expected a file: download it first")
    if not there and path.suffix == "" and path.name == data:
        hint = f". {did_you_mean(data, BUILTIN)}".rstrip(" .") or neighbours(path)
        if re.fullmatch(r"\d+(\.\d+)?%", data):
            hint = f". A share is a number such as {float(data[:-1]) / 100:g}"
        raise InputError(
            f"there is no file {data!r}, nor a data set of that name; there are: {', '.join(BUILTIN)}{hint}"
        )
    if path.suffix == ".safetensors" and path.is_file():
        raise InputError(
            f"{data!r} is a model; expected data: CSV, Parquet, .npz, IDX or the name of a data set"
        )
    if note := files.misnamed(path):
        warn(note, "Note")
    return path


def _pipe(name: str, dialect: Dialect) -> Iterator[Arrays | Table]:
    try:
        stream = Path(name).open("rb")  # noqa: SIM115  # closed below
    except OSError as error:
        raise InputError(f"{name!r} cannot be read: {error.strerror or error}") from error
    with stream:
        yield from _stream(name, stream, dialect)


def _stream(where: str, stream: Any, dialect: Dialect) -> Iterator[Arrays | Table]:
    """Yield the data of a pipe: CSV as it comes; other formats go through a temporary file."""
    called = where if where == STANDARD_INPUT else repr(where)
    stream = Opened(called, stream, unzip=False)
    head = stream.read(files.HEAD)
    if head[:2] == MAGIC:
        stream = Opened(called, _resumed(head, stream), unzip=True)
        head = stream.read(files.HEAD)
    if not head:
        raise InputError(
            f"{where} is empty; name a file, or give it a table, as in `cat data.csv | nnx predict MODEL`"
        )
    if files.kind_of(where, head) == "CSV":
        table = CSV(where, head, lambda: _resumed(head, stream), dialect)
        yield from files.csv_pieces(table)
        return
    with TemporaryDirectory() as folder:
        path = Path(folder) / "data"
        try:
            with path.open("wb") as file:
                shutil.copyfileobj(_resumed(head, stream), file)
        except OSError as error:
            raise InputError(
                f"{called} is written to a file in {folder} to be read, which failed: {error.strerror or error}"
            ) from error
        try:
            for piece in files.pieces(path):
                piece.where = where
                yield piece
        except InputError as error:
            said = str(error).replace(repr(str(path)), called).replace(str(path), called)
            raise InputError(said) from error


class _Resumed(io.RawIOBase):
    """A stream whose first bytes have been read already."""

    def __init__(self, head: bytes, rest: Any) -> None:
        self.head, self.rest = head, rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self.head[: len(buffer)]
        self.head = self.head[len(data) :]
        data = data or self.rest.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _resumed(head: bytes, rest: Any) -> io.BufferedReader:
    return io.BufferedReader(_Resumed(head, rest))


def refuse_existing(out: Path, empty_folder: bool = False, called: str = "--out") -> None:
    """Raise an InputError when the output is there already: nothing is overwritten unasked."""
    try:
        taken = os.path.lexists(out) and not (empty_folder and out.is_dir() and not any(out.iterdir()))
    except OSError as error:
        raise InputError(f"{str(out)!r} cannot be written: {error.strerror or error}") from error
    if taken:
        raise InputError(
            f"{str(out)!r} exists already; choose another {called}, or give --overwrite to replace it"
        )
