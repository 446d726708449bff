"""Samples with targets, to test a model on: read in pieces, prepared as the training part was."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nnx.data.encoding import Notes
from nnx.data.prepare import Preparation
from nnx.data.source import Arrays, Table, left_out, none_labelled


@dataclass
class Labelled:
    """The samples of pieces that have a target.

    Attributes
    ----------
    where : str
        What they are called in errors.
    pieces : iterable
    preparation : Preparation
    target : str
    dtype : {"float64", "float32"}
    m, rows : int
        How many samples with a target, and how many in all, have been read.
    """

    where: str
    pieces: Iterable[Arrays | Table]
    preparation: Preparation
    target: str
    dtype: str
    m: int = 0
    rows: int = 0
    notes: Notes = field(default_factory=Notes)

    def __iter__(self) -> Iterator[tuple[Any, Any, Any]]:
        """Yield X (n[0], m), Y and y of each piece."""
        preparation, target = self.preparation, self.target
        for piece in self.pieces:
            kept = piece.labelled(target)
            numbers = self.rows + 1 if kept.rows is None else self.rows + 1 + kept.rows
            self.rows += len(piece)
            if not len(kept):
                continue
            self.m += len(kept)
            y = kept.targets(target, preparation.labels)
            Y = preparation.Y(y, numbers, self.dtype)
            values = kept.values(preparation.features, preparation.named)
            yield preparation.X(values, self.dtype, self.notes), Y, y
        if not self.m:
            raise none_labelled(target, self.rows, self.where)

    def whole(self) -> tuple[Any, Any, Any]:
        """Return X (n[0], m), Y and y (m,) of all pieces."""
        X, Y, y = zip(*((X.T, Y, y) for X, Y, y in self), strict=True)
        return np.concatenate(X).T, np.concatenate(Y, axis=-1), np.concatenate(y)

    def said(self) -> list[str]:
        """Return the notes on the rows: values that were filled in or unknown, and rows left out."""
        missing = self.rows - self.m
        return [*self.notes.lines(), *([left_out(missing, self.target)] if missing else [])]
