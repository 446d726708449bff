"""Model files: safetensors, whose header also holds a description in JSON. Nothing is ever unpickled.

Every parameter is a tensor under its name in the notes' shape ("W1", "b1", ...), so that any tool that reads
safetensors can use the weights; the optimizer's own vectors are under "optimizer.NAME".
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nnx.errors import InputError, ModelFileError
from nnx.files import written_aside
from nnx.version import __version__

FORMAT = 1
"""The version of the format that this nnx writes; it reads this and all earlier ones."""


def write(path: str | Path, tensors: Mapping[str, Any], description: Mapping[str, Any]) -> None:
    """Write a model file, aside first, then renamed over `path`.

    Raises
    ------
    InputError
        When the description holds what JSON cannot, or there is no such folder.
    """
    from safetensors.numpy import save

    metadata = {"format": "nnx", "format_version": str(FORMAT), "nnx_version": __version__}
    for name, part in description.items():
        try:
            json.dumps(part, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(
                f"the trainer's {name} cannot be saved: {error}. A model file holds it as JSON: numbers of "
                "Python (not of NumPy) that are finite, strings, lists, and dicts with strings as keys"
            ) from error
    metadata["description"] = json.dumps(description)
    arrays = {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}
    with written_aside(Path(path)) as aside:
        aside.write_bytes(save(arrays, metadata))  # save_file would leave it readable by its owner alone


def read(path: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the tensors and the description of a model file.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    ModelFileError
        When it is truncated, no safetensors file, not one of nnx's, or of a newer format.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        hint = "; give the model.safetensors in it" if path.is_dir() else ""
        raise FileNotFoundError(f"there is no model file {str(path)!r}{hint}")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            _check(path, metadata)  # before the tensors of a file that may not be ours
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
    except (SafetensorError, ValueError, TypeError, AttributeError) as error:
        if isinstance(error, ModelFileError):
            raise
        raise ModelFileError(
            f"{str(path)!r} is truncated or no safetensors file ({error}); "
            f"expected a model that nnx has saved. It has {path.stat().st_size} bytes"
        ) from error
    try:
        description = json.loads(metadata["description"])
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
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise ModelFileError(f"{str(path)!r} is truncated or no safetensors file ({error})") from error
    _check(Path(path), metadata)
    return metadata.get("nnx_version", "unknown"), int(metadata["format_version"])


def _check(path: Path, metadata: Mapping[str, str]) -> None:
    if metadata.get("format") != "nnx":
        raise ModelFileError(
            f"{str(path)!r} is a safetensors file, but not an nnx model (its metadata has no format=nnx); "
            "expected a model that nnx has saved"
        )
    version = metadata.get("format_version", "")
    if not (version.isdecimal() and len(version) < 10):
        raise ModelFileError(f"{str(path)!r} is damaged: its format version is {version[:20]!r}, no number")
    if int(version) > FORMAT:
        raise ModelFileError(
            f"{str(path)!r} has format version {version!r}, written by nnx {metadata.get('nnx_version')}; "
            f"this is nnx {__version__}, which reads up to version {FORMAT}. Upgrade: pip install -U nnx-array"
        )
