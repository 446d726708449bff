"""What a run keeps of its held-out samples, so that its pictures can be drawn again: held_out.npz."""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nnx.errors import InputError
from nnx.files import written_aside

MOST = 2**24
"""Numbers of A that are kept: of more samples, so many that lie equally far apart."""


@dataclass(frozen=True)
class HeldOut:
    """The outputs for samples that were held out, with what is true of them.

    Attributes
    ----------
    A : array (n[L], m)
    y : array (m,)
        The classes' indices, or numbers in the target's unit.
    X : array (2, m) or None
        The samples, as they were trained on, where n[0] = 2.
    epochs, thetas : sequences
        The parameters after some epochs, where n[0] = 2: see `nnx.Snapshots`.
    """

    A: Any
    y: Any
    X: Any = None
    epochs: Sequence[int] = field(default_factory=list)
    thetas: Sequence[Any] = field(default_factory=list)


def of(trainer: Any, X: Any, Y: Any, y: Any, snapshots: Any = None) -> HeldOut:
    """Return what is to be kept of held-out samples: X (n[0], m), Y as trained, y (m,) the target's own values."""
    every = -(-np.asarray(X).shape[1] * trainer.network.n[-1] // MOST)
    X = np.asarray(X)[:, ::every]
    true = np.asarray(Y if trainer.network.output.classes else y)[..., ::every].reshape(-1)
    A = trainer.predict(X)
    if trainer.network.n[0] != 2:
        return HeldOut(A, true)
    return HeldOut(
        A, true, np.asarray(X, float), getattr(snapshots, "epochs", []), getattr(snapshots, "thetas", [])
    )


def write(held_out: HeldOut, path: Path) -> None:
    """Write it to a .npz, aside first, then renamed."""
    arrays: dict[str, Any] = {name: np.asarray(x) for name, x in vars(held_out).items() if x is not None}
    with written_aside(path) as aside, aside.open("wb") as file:
        np.savez(file, **arrays)


def read(path: Path) -> HeldOut:
    """Return what such a file holds; nothing is unpickled.

    Raises
    ------
    InputError
        When it cannot be read.
    """
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        found = HeldOut(**arrays)
        fits = (
            found.A.ndim == 2
            and found.y.shape == found.A.shape[1:]
            and len(found.epochs) == len(found.thetas)
        )
    except (OSError, ValueError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{str(path)!r} cannot be read: {error}") from error
    if not fits:
        raise InputError(f"{str(path)!r} is damaged: its arrays are not of the same samples")
    return found
