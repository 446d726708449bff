"""Model files: safetensors, whose header also holds a description in JSON. Nothing is ever unpickled.

Every parameter is a tensor under its name in the notes' shape ("W1", "b1", ...), so that any tool that reads
safetensors can use the weights; the optimizer's own vectors are under "optimizer.NAME".

The header begins with the SHA-256 of the whole file, computed with zeros in its place: no flipped bit stays unnoticed.
"""

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from nnx.errors import InputError, ModelFileError, size
from nnx.io.atomic_write import naming, neighbours, written_aside
from nnx.support.install import install
from nnx.support.limits import available
from nnx.version import __version__

FORMAT = 2
"""The newest version of the format: it reads this and all earlier ones. Version 2 is that of a trainer with members."""

BEGIN = b'{"__metadata__":{"sha256":"'
"""The beginning of the header, before the checksum; older files have none."""

SMALL = 2**26
"""Bytes that a file takes without a look at the free memory."""

DIGITS = 64
"""Of the checksum."""

KNOWN = {"format", "format_version", "nnx_version", "description"}
"""The other metadata."""


def write(
    path: str | Path, tensors: Mapping[str, Any], description: Mapping[str, Any], version: int = 1
) -> None:
    """Write a model file, aside first, then renamed over `path`. The same content gives the same bytes.

    `version` is that of the format: the first that has all of this content.

    Raises
    ------
    InputError
        When the description has other values than JSON's, or there is no such folder.
    OSError
        When the disk is full, read-only or failing.
    """
    metadata = {"format": "nnx", "format_version": str(version), "nnx_version": __version__}
    for name, part in description.items():
        try:
            json.dumps(part, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(
                f"the trainer's {name} cannot be saved: {error}. A model file holds it as JSON: numbers of "
                "Python (not of NumPy) that are finite, strings, lists, and dicts with strings as keys"
            ) from error
    metadata["description"] = json.dumps(description)
    with written_aside(Path(path)) as aside, aside.open("wb") as file:
        file.writelines(packed(tensors, metadata))


def packed(tensors: Mapping[str, Any], metadata: Mapping[str, str]) -> tuple[Any, Any]:
    """Return the bytes of a file in two pieces: the header, with the checksum of all, and the tensors."""
    from safetensors.numpy import save

    arrays = {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}
    need = 2 * sum(x.nbytes for x in arrays.values())  # the bytes of each, and those of the file
    if (
        need > SMALL and (free := available()) is not None and need > free
    ):  # safetensors would end the process
        raise MemoryError(f"to write the model takes {size(need)} of memory, and {size(free)} are free")
    saved = memoryview(save(arrays))
    n = int.from_bytes(saved[:8], "little")
    # safetensors would write the metadata in an order of its own, which differs from call to call.
    header = {"__metadata__": {"sha256": "0" * DIGITS, **metadata}, **json.loads(bytes(saved[8 : 8 + n]))}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    begin = bytearray(len(text).to_bytes(8, "little") + text)
    begin[_PLACE] = _checksum(begin, saved[8 + n :])
    return begin, saved[8 + n :]


def read(path: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the tensors and the description of a model file.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    ModelFileError
        When it is truncated, changed since it was written, no safetensors file, not one of nnx's, or of a newer format.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    path = Path(path)
    if not path.is_file():
        hint = "; give the model.safetensors in it" if path.is_dir() else neighbours(path)
        raise FileNotFoundError(f"there is no model file {str(path)!r}{hint}")
    with naming(path):
        content = path.read_bytes()
    metadata = _metadata(path, content, len(content))
    try:
        tensors = dict(sorted(load(content).items()))
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise _no_model(path, error, len(content)) from error
    if content.startswith(BEGIN, 8):
        if _checksum(content) != content[_PLACE]:
            raise ModelFileError(
                f"{str(path)!r} is damaged: it is not as nnx wrote it, since its checksum is not that of its content"
            )
    elif set(metadata) - KNOWN:
        raise ModelFileError(
            f"{str(path)!r} is damaged, or another program has changed it: its header is not as nnx writes it"
        )
    try:
        description = json.loads(metadata["description"], parse_constant=_refused)
        if not isinstance(description, dict):
            raise TypeError(f"expected an object, not {type(description).__name__}")
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ModelFileError(f"{str(path)!r} has no readable description ({error})") from error
    return tensors, description


def versions(path: str | Path) -> tuple[str, int]:
    """Return the version of nnx that wrote a model file, and that of its format.

    Raises
    ------
    ModelFileError
        When it is not one of nnx's.
    """
    path = Path(path)
    with naming(path), path.open("rb") as file:
        size = path.stat().st_size
        n = file.read(8)
        content = n + file.read(min(int.from_bytes(n, "little"), size))
    metadata = _metadata(path, content, size)
    return metadata.get("nnx_version", "unknown"), int(metadata["format_version"])


def is_ours(path: Path) -> bool:
    """Whether a file is one of nnx's, or too damaged to tell whose it is."""
    try:
        versions(path)
    except ModelFileError as error:
        return not isinstance(error, _ForeignError)
    return True


class _ForeignError(ModelFileError):
    """A whole file, but of another program."""


_PLACE = slice(8 + len(BEGIN), 8 + len(BEGIN) + DIGITS)


def _checksum(*content: Any) -> bytes:
    """Return the SHA-256 of a file's bytes, in pieces, with zeros in place of the checksum."""
    first, *others = (memoryview(piece) for piece in content)
    found = sha256(first[: _PLACE.start])
    found.update(b"0" * DIGITS)
    for piece in (first[_PLACE.stop :], *others):
        found.update(piece)
    return found.hexdigest().encode()


def _metadata(path: Path, content: bytes, size: int) -> dict[str, str]:
    """Return the metadata in the header that a file begins with, if it is one of nnx's."""
    n = int.from_bytes(content[:8], "little")
    try:
        if len(content) < 8 or n > size - 8:
            raise ValueError("it ends within its header")
        header = json.loads(content[8 : 8 + n])
        metadata = header.get("__metadata__", {})
        if not all(isinstance(value, str) for value in metadata.values()):
            raise TypeError("its metadata are no texts")
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise _no_model(path, error, size) from error
    _check(path, metadata)
    return dict(metadata)


def _no_model(path: Path, error: Exception, size: int) -> ModelFileError:
    return ModelFileError(
        f"{str(path)!r} is truncated or no safetensors file ({error}); "
        f"expected a model that nnx has saved. It has {size} bytes"
    )


def _refused(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _check(path: Path, metadata: Mapping[str, str]) -> None:
    if metadata.get("format") != "nnx":
        raise _ForeignError(
            f"{str(path)!r} is a safetensors file, but not an nnx model (its metadata has no format=nnx); "
            "expected a model that nnx has saved"
        )
    version = metadata.get("format_version", "")
    if not (version.isdecimal() and len(version) < 10):
        raise ModelFileError(f"{str(path)!r} is damaged: its format version is {version[:20]!r}, no number")
    if int(version) > FORMAT:
        raise ModelFileError(
            f"{str(path)!r} has format version {version!r}, written by nnx {metadata.get('nnx_version')}; "
            f"this is nnx {__version__}, which reads up to version {FORMAT}. Upgrade: {install(more='-U ')}"
        )
