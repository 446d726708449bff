"""held_out.npz: the predictions for a run's held-out samples, from which its pictures can be drawn again."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nnx.errors import InputError, first_line
from nnx.io.atomic_write import written_aside

HELD_OUT = "held_out.npz"

KEPT = -1
"""Stands for the epoch of the parameters that the model has, where these are not those after the last epoch."""

MOST = 2**24
"""Numbers of A that are kept: of more samples, so many that lie equally far apart."""


@dataclass(frozen=True)
class HeldOut:
    """The outputs for held-out samples, with their targets.

    Attributes
    ----------
    A : array (n[L], m)
    y : array (m,) or (n[L], m)
        The classes' indices, or numbers in the target's unit; several labels at once, or several numbers, have a row
        each.
    X : array (2, m) or None
        The samples, as they were trained on, where n[0] = 2.
    epochs, thetas : sequences
        The parameters after some epochs, where n[0] = 2: see `nnx.Snapshots`. The model's own are the last; where
        they are none of these, as after early stopping, their epoch is `KEPT`.
    total : int or None
        How many samples were held out; these may be some of them.
    """

    A: Any
    y: Any
    X: Any = None
    epochs: Sequence[int] = field(default_factory=list)
    thetas: Sequence[Any] = field(default_factory=list)
    total: int | None = None


def of(trainer: Any, X: Any, Y: Any, y: Any, snapshots: Any = None) -> HeldOut:
    """Return the saved part of held-out samples: X (n[0], m), Y as trained, y (m,) the target's own values."""
    total = np.asarray(X).shape[1]
    every = -(-total * trainer.network.n[-1] // MOST)
    X = np.asarray(X)[:, ::every]
    output, A = trainer.network.output, trainer._predictor.predict(X)
    true = np.asarray(Y if output.classes else y)[..., ::every]
    if true.ndim == 2 and len(true) > 1 and output.classes and output.exclusive:  # one-hot
        true = true.argmax(axis=0)
    if true.shape != A.shape or len(A) == 1:
        true = true.reshape(-1)
    if trainer.network.n[0] != 2:
        return HeldOut(A, true, total=total)
    epochs, thetas = list(getattr(snapshots, "epochs", [])), list(getattr(snapshots, "thetas", []))
    if thetas and not np.array_equal(thetas[-1], trainer.theta):
        epochs, thetas = [*epochs, KEPT], [*thetas, trainer.theta]
    return HeldOut(A, true, np.asarray(X, float), epochs, thetas, total)


def write(held_out: HeldOut, path: Path) -> None:
    """Write it to a .npz, aside first, then renamed."""
    arrays: dict[str, Any] = {name: np.asarray(x) for name, x in vars(held_out).items() if x is not None}
    with written_aside(path) as aside, aside.open("wb") as file:
        np.savez(file, **arrays)


def read(path: Path) -> HeldOut:
    """Return the contents of such a file; nothing is unpickled.

    Raises
    ------
    InputError
        When it cannot be read.
    """
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        if "total" in arrays:
            arrays["total"] = int(arrays["total"])
        found = HeldOut(**arrays)
        fits = (
            found.A.ndim == 2
            and found.y.shape in (found.A.shape[1:], found.A.shape)
            and len(found.epochs) == len(found.thetas)
        )
    except Exception as error:  # a damaged file makes the readers of zip and npy raise errors of many kinds
        raise InputError(f"{str(path)!r} cannot be read: {first_line(error)}") from error
    if not fits:
        raise InputError(f"{str(path)!r} is damaged: its arrays are not of the same samples")
    return found
