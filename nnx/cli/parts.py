"""The parts of the data: one to train on, one that stops and chooses (validation), and one that is reported (test)."""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nnx.cli.inputs import pieces
from nnx.cli.options import Options
from nnx.cli.predict import tell
from nnx.cli.show import warn
from nnx.data.labelled import Labelled
from nnx.data.prepare import Preparation
from nnx.data.source import Arrays, Samples, Table
from nnx.data.splits import folds, split
from nnx.errors import InputError, count
from nnx.support.schema import Whole
from nnx.support.schema import check as check_types

NAMES = ("validation", "test")

Source = float | str | Arrays
"""Where a part is from: a share of the data (0: there is none), a file, or arrays of the data's file."""

Part = tuple[Any, Any, Any]
"""X (n[0], m), Y as the network is trained on it, and y (m,) as in the file."""

ROWS = 2**13
"""The rows of a file that are prepared at once."""


def wanted(options: Options) -> tuple[float | str, float | str]:
    """Return the validation part and the test part: a share of the samples, 0 for none, or a file."""
    validation = options.held_out if options.validation is None else _read("validation", options.validation)
    return validation, 0.0 if options.test is None else _read("test", options.test)


def _read(name: str, text: str) -> float | str:
    try:
        share = float(text)
    except ValueError:
        return text
    if not 0 <= share < 1:
        raise InputError(
            f"{name} must be a share of the samples, from 0 (none) to less than 1, or a file; given {text!r}"
        )
    return share


def check(options: Options) -> tuple[float | str, float | str]:
    """Return the parts of `wanted`, checked.

    Raises
    ------
    InputError
        When a share is none, the shares leave nothing to train on, or there is a single fold.
    """
    if not 0 <= options.held_out < 1:
        raise InputError(
            f"held-out must be between 0 and 1, the share of the samples, or 0 for none; given {options.held_out}"
        )
    if options.folds is not None and options.folds < 2:
        raise InputError(f"folds must be 2 or more; given {options.folds}")
    validation, test = wanted(options)
    if sum(share for share in (validation, test) if isinstance(share, float)) >= 1:
        raise InputError(
            f"the shares for validation, {validation:g}, and test, {test:g}, leave nothing to train on; expected a sum "
            "of less than 1"
        )
    return validation, test


def sources(options: Options, whole: Arrays | Table) -> tuple[Source, Source]:
    """Return where the validation and the test part are from; the data's own parts, where it is not said."""
    validation, test = wanted(options)
    ready = whole.ready if isinstance(whole, Arrays) else {}
    own = ready.get("validation", validation) if options.validation is None and validation else validation
    return own, ready.get("test", test) if options.test is None else test


def rows(
    samples: Samples, task: str, of: Sequence[Source], options: Options, fold: int | None = None
) -> tuple[Any, Any, Any]:
    """Return the row numbers of the training, the validation and the test part; None for a part that is no share.

    In a fold the test part is the fold's, and the validation part a share of the rest.
    """
    validation, test = of
    rest, tested = _cut(samples, task, test, options.seed, None)
    m = len(samples.X)
    if fold is not None:
        rest, tested = folds(samples, task, options.folds or 2, options.seed, rest)[fold]
        m = len(rest)
    if isinstance(validation, float) and rest is not None:
        validation *= m / len(rest)  # a share of all, though some have been taken
        if validation >= 1:
            raise InputError(f"{count(m, 'sample')} are too few for a validation part and a test part")
    train, validated = _cut(samples, task, validation, options.seed, rest)
    return slice(None) if train is None else train, validated, tested


def _cut(samples: Samples, task: str, share: Source, seed: int, of: Any) -> tuple[Any, Any]:
    """Return the rows that are left, and a share of them."""
    return split(samples, task, share, seed, of) if share and isinstance(share, float) else (of, None)


def of_source(name: str, source: Source, options: Options, preparation: Preparation) -> Part | None:
    """Return the samples of a file, or of the data's own part, prepared as the training part is.

    Raises
    ------
    InputError
        When it cannot be read, lacks a column, or has a label that the model does not know.
    """
    if isinstance(source, float):
        return None
    if not isinstance(source, str):
        return of_pieces(source.where, [source], preparation, options.dtype)
    found = pieces(source, ROWS, preparation.target, True, preparation.dialect.over())
    try:
        return of_pieces(source, found, preparation, options.dtype)
    except InputError as error:
        if source in str(error):
            raise
        raise InputError(f"--{name} {source}: {error}") from error


def of_pieces(called: str, found: Iterable[Arrays | Table], preparation: Preparation, dtype: str) -> Part:
    """Return the samples of pieces that have a target, prepared."""
    labelled = Labelled(called, found, preparation, preparation.target, dtype)
    part = labelled.whole()
    tell(labelled.said(), f"{called}: ")
    return part


def described(of: Sequence[Source], held: Mapping[str, Part | None], seed: int) -> dict[str, Any]:
    """Return the description of the parts for a model file: the source of each, its samples and their checksum."""
    return {"seed": seed} | {
        name: None if part is None else _described(part, source)
        for source, (name, part) in zip(of, held.items(), strict=True)
    }


def _described(part: Part, source: Source) -> dict[str, Any]:
    if isinstance(source, Arrays):
        source = source.where
    elif isinstance(source, str) and Path(source).is_file():
        source = str(Path(source).resolve())
    X, Y, _ = part
    checksum = 0
    for array in (X.T, Y):
        checksum = zlib.crc32(np.ascontiguousarray(array).data, checksum)
    return {"of": source, "samples": X.shape[1], "checksum": checksum}


_PART = ({"of": (str, float), "samples": Whole(1), "checksum": Whole()}, None)


def read(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the description of the parts in a model file; nothing for an earlier version.

    Raises
    ------
    InputError
        When it is not what `described` returns.
    """
    found: dict[str, Any] = metadata.get("parts", {})
    check_types("parts", found, {"seed?": Whole(), **{f"{name}?": _PART for name in NAMES}})
    return found


def origin(part: Mapping[str, Any]) -> str:
    """Return where a part is from, in words.

    Examples
    --------
    >>> origin({"of": 0.2, "samples": 20})
    '20 samples, 20% of the data'
    """
    of = part["of"]
    where = of if isinstance(of, str) else f"{100 * of:.4g}% of the data"
    return f"{count(part['samples'], 'sample')}, {where}"


def words(trained: int, of: Mapping[str, Any]) -> str:
    """Return how many samples are in which part, of those that `described` returns.

    Examples
    --------
    >>> words(80, {"validation": {"of": 0.2, "samples": 20}, "test": {"of": "new/test.csv", "samples": 5}})
    '80 to train on, 20 for validation, 5 (test.csv) to test'
    """
    validation, test = of["validation"], of["test"]
    if not validation and not test:
        return "none held out"
    if not test and isinstance(validation["of"], float):
        return f"{trained:,} to train on, {validation['samples']:,} held out"
    stops = f"{_words(validation)} for validation" if validation else "none for validation"
    return ", ".join([f"{trained:,} to train on", stops, *([f"{_words(test)} to test"] if test else [])])


def _words(part: Mapping[str, Any]) -> str:
    of = part["of"]
    return f"{part['samples']:,}" if isinstance(of, float) else f"{part['samples']:,} ({Path(of).name})"


def warn_of_shared(of: Sequence[Source], held: Mapping[str, Sequence[Any] | None]) -> None:
    """Warn if a file has many samples that are in another part, too; not if most of that part's are alike anyway.

    Parameters
    ----------
    of : tuple
        As `sources` returns.
    held : dict
        X and Y under "training" and the parts' names.
    """
    if all(isinstance(source, float) for source in of):
        return
    others = {name: _hashes(part) for name, part in held.items() if part is not None}
    for name, source in zip(NAMES, of, strict=True):
        if isinstance(source, float):
            continue
        own, said = others.pop(name), []
        for called, theirs in others.items():
            known = set(theirs)
            same = sum(one in known for one in own)
            if 2 * same > min(len(own), len(theirs)) and 2 * len(known) > len(theirs):
                said.append(f"{same:,} in the {called} part")
        if said:
            warn(
                f"of the {count(len(own), 'sample')} of the {name} part there are {' and '.join(said)}, too: these "
                "scores say little about new samples"
            )


def _hashes(part: Sequence[Any]) -> list[int]:
    """Return a number for each sample of X and Y, the same for the same sample."""
    return [hash(x.tobytes() + y.tobytes()) for x, y in zip(part[0].T, part[1].T, strict=True)]


def beside(data: str) -> str | None:
    """Return MNIST's file of test images that lies beside its training images, if there is one."""
    path = Path(data)
    if not path.name.startswith("train-images") or not path.is_file():
        return None
    return next((str(one) for one in sorted(path.parent.glob("t10k-images*"))), None)
