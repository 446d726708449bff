"""Arrays of samples from .npz and IDX files."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from nnx.data import memory
from nnx.data.idx import Header, idx_header, read_idx
from nnx.data.npz import Packed, npz_array, npz_headers, readable
from nnx.data.path_checks import regular
from nnx.data.source import Arrays
from nnx.errors import InputError, first_line, listed


def arrays_of(path: Path, kind: str, target: str | None, predicting: bool = False) -> Arrays:
    """Return the samples of a file of the kind ".npz" or "IDX"; with `predicting` it may lack the target."""
    return (_npz if kind == ".npz" else _images)(path, target, predicting)


def _npz(path: Path, target: str | None, predicting: bool) -> Arrays:
    where, arrays = str(path), npz_headers(path)
    there = target is not None and any(f"{target}{end}" in arrays for end in ("", "_train", "_test"))
    if target is not None and not there and not predicting:
        raise InputError(f"{where} has no array {target!r}; its arrays are: {_known(arrays)}")
    # A model's target may have been called otherwise in the file that it was trained on.
    key = (target or "y").removesuffix("_train") if there else "y"
    ready = {}
    for part, names in _parts(arrays, key, predicting).items():
        its, note = (
            f"{where}: {names[0]}, {names[1]}",
            f"of the arrays of {where!r} {' and '.join(names)} are read",
        )
        ready[part] = replace(_part(path, arrays, *names, predicting), where=its, target=key, note=note)
    if predicting and ready:
        return ready["test"]
    if ready:
        return replace(ready.pop("training"), where=where, note="", ready=ready)
    others = [name for name in arrays if name != key]
    if len(others) != 1 and "X" not in others:
        raise InputError(
            f"which array of {where} holds the features? Expected one named X; given: {_known(arrays)}"
        )
    return _part(path, arrays, others[0] if len(others) == 1 else "X", key, predicting)


PARTS = {"training": ("_train", ""), "validation": ("_val", "_valid", "_validation"), "test": ("_test",)}
"""The endings of the names of a part's arrays, as in x_train and y_train."""


def _parts(arrays: Mapping[str, Any], key: str, predicting: bool) -> dict[str, tuple[str, str]]:
    """Return the names of the features and the targets of each part, where arrays are split."""
    found = {
        part: names
        for part, ends in PARTS.items()
        for names in [(f"{x}{end}", f"{key}{end}") for end in reversed(ends) for x in "xX"]
        if names[0] in arrays and names[1] in arrays
    }
    if predicting:
        return {part: names for part, names in found.items() if part == "test"}
    return found if "training" in found and len(found) > 1 else {}


def _part(path: Path, arrays: Mapping[str, Packed], named: str, key: str, predicting: bool) -> Arrays:
    """Return features and targets by the names of their arrays."""
    where = str(path)
    X, y = arrays[named], arrays.get(key)
    m = X.shape[0] if X.shape else 0
    if X.dtype.hasobject:
        raise InputError(
            f"the features of {where} are Python objects, which cannot be read without unpickling; save numbers: "
            "X.astype(float)"
        )
    if len(X.shape) < 2 or 0 in X.shape or X.dtype.kind not in "biuf":
        raise InputError(
            f"the features of {where} have shape {X.shape} and dtype {X.dtype}; expected numbers (m, n[0]), "
            "samples as rows"
        )
    if y is not None and y.shape not in ((m,), (m, 1)):
        hint = "; samples are rows in a file: save X.T" if X.shape[1:] == y.shape else ""
        raise InputError(
            f"the targets {key!r} of {where} have shape {y.shape}; expected ({m},) for features {X.shape}{hint}"
        )
    if y is not None and (y.dtype.kind not in "biufUS" or y.dtype.hasobject):
        if not predicting:
            raise InputError(f"the targets {key!r} of {where} hold {y.dtype}; expected numbers or text")
        where, y = f"{where} (whose array {key!r} holds {y.dtype}, no numbers and no text)", None
    if y is None and not predicting:
        hint = (
            f" (whose arrays are {_known(arrays)}; --target NAME says which has them)"
            if len(arrays) > 1
            else ""
        )
        raise InputError(f"{where}{hint} has no targets to learn")
    _check_memory(path, X, 0 if y is None else y.nbytes, predicting)
    return Arrays(
        where,
        _rows(npz_array(path, named, X)),
        None if y is None else _labels(path, key, y),
        key,
        one_unit=X.dtype == np.uint8 or len(X.shape) > 2,  # images
        image_shape=_image_shape(X.shape),
    )


def _known(arrays: Mapping[str, Packed]) -> str:
    return listed((f"{readable(name)} {array.shape}" for name, array in arrays.items()), 20)


def _labels(path: Path, key: str, packed: Packed) -> Any:
    """Return the targets (m,) of an .npz file; bytes become text, which they are in UTF-8."""
    y = npz_array(path, key, packed).reshape(-1)
    if y.dtype.kind == "f" and y.dtype.itemsize > 8:
        return y.astype(float)
    try:
        if y.dtype.kind == "S":
            y = np.array([one.decode("utf-8") for one in y.tolist()], dtype=str)
        elif y.dtype.kind == "U":
            "".join(y.tolist()).encode("utf-8")
    except (ValueError, SystemError) as error:  # SystemError: CPython's, of characters beyond Unicode
        raise InputError(
            f"the targets {key!r} of {str(path)!r} hold text that is not in UTF-8 ({first_line(error)}); save them "
            "as text: y.astype(str)"
        ) from error
    return y


def _rows(X: Any) -> Any:
    """Return an array whose first axis is the samples as one of two axes."""
    return X.reshape(len(X), -1)


def _check_memory(path: Path, X: Header, others: int, predicting: bool) -> None:
    """Raise an InputError if the features of a file are more than the memory holds."""
    copies = 0 if predicting else 8 * X.nbytes // X.dtype.itemsize  # as float64, to train on
    memory.check(
        X.nbytes + others + copies,
        f"reading {str(path)!r}, whose features have shape {X.shape},",
        "Close other programs, or take a part of its samples",
    )


def _image_shape(shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return (h, w) or (h, w, channels) of an array of images, samples first; None if it is none."""
    return shape[1:] if len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3, 4)) else None


def _images(path: Path, target: str | None, predicting: bool) -> Arrays:
    X = idx_header(path)
    if len(X.shape) < 2:
        raise InputError(f"{str(path)!r} holds {X.shape} labels, no features; give the file with the images")
    if 0 in X.shape:
        raise InputError(f"{str(path)!r} holds no images: its shape is {X.shape}")
    axes = len(X.shape)
    custom = path.with_name(path.name.replace("images", "labels").replace(f"idx{axes}", "idx1"))
    labels: Path | None = Path(target) if target and not predicting else custom
    if target and not predicting:
        regular(Path(target), f" with the labels of {str(path)!r}")
    elif custom == path or not custom.is_file():
        labels = None
    if labels is not None and (shape := idx_header(labels).shape) != X.shape[:1]:
        raise InputError(f"{str(labels)!r} holds labels of shape {shape} for {X.shape[0]} images")
    where = str(path)
    if labels is None:
        where = f"{path} (whose labels, --target FILE, would be in {custom.name})"
        if not predicting:
            raise InputError(f"{where} has no targets to learn")
    _check_memory(path, X, 0, predicting)
    y = None if labels is None else read_idx(labels)
    return Arrays(where, _rows(read_idx(path)), y, "label", one_unit=True, image_shape=_image_shape(X.shape))
