"""The samples of a training, read and prepared."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnx.cli import parts
from nnx.cli.inputs import source
from nnx.cli.options import Options
from nnx.cli.parts import Part
from nnx.data.prepare import Preparation
from nnx.data.task import decided


@dataclass(frozen=True)
class Data:
    """The samples of a run, as its network sees them.

    Attributes
    ----------
    m : int
        How many there are, those held out among them.
    preparation : Preparation
    X, Y : array (n[0], m), and (m,) or (n[L], m)
        To train on.
    validation : (X, Y, y) or None
        What stops the training and chooses the epoch; y (m,) as in the file.
    test : (X, Y, y) or None
        What is reported, and takes no part in any choice.
    parts : dict
        What `parts.described` returns of them.
    another : str or None
        The other task, if the target allows it and none was asked for.
    reason : str or None
        Why the task is what it is, if none was asked for.
    left_out : int
        How many rows were left out, since they have no target.
    """

    m: int
    preparation: Preparation
    X: Any
    Y: Any
    validation: Part | None
    test: Part | None
    parts: dict[str, Any]
    another: str | None
    reason: str | None
    left_out: int = 0

    @property
    def reported(self) -> Part | None:
        """The samples whose scores and pictures are reported: the test part; without one the validation part."""
        return self.test or self.validation


class Reader:
    """Reads and prepares data, and keeps the last: the runs of a sweep share them."""

    def __init__(self) -> None:
        self._sources: dict[Any, Any] = {}
        self._decided: dict[Any, Any] = {}
        self._data: dict[Any, Data] = {}

    def data(self, options: Options, fold: int | None = None) -> Data:
        """Return the data of a run, or of one of its folds."""
        drop = tuple(options.drop or ())
        own = (
            options.dialect,
            options.task,
            options.day_first,
            options.seed,
            options.dtype,
            parts.wanted(options),
            options.folds,
            fold,
        )
        key = options.data, options.target, drop, *own
        if key not in self._data:
            self._data = {}  # before others are made: two may be more than memory holds
            self._data = {key: self._prepared(options, drop, fold)}
        return self._data[key]

    def _prepared(self, options: Options, drop: Sequence[str], fold: int | None) -> Data:
        seed = 0 if Path(options.data).is_file() else options.seed  # which draws the generated ones
        of_source = options.data, options.target, seed, options.dialect
        if of_source not in self._sources:
            self._sources, self._decided = {}, {}
            self._sources = {of_source: source(*of_source)}
        whole = self._sources[of_source]
        of_samples = *of_source, drop, options.day_first, options.task
        if of_samples not in self._decided:  # folds, and runs with other seeds, share them
            self._decided = {}
            found = whole.training(options.target, drop, options.day_first)
            self._decided = {of_samples: decided(found, options.task)}
        samples, task, another, why = self._decided[of_samples]
        sources = parts.sources(options, whole)
        train, *shares = parts.rows(samples, task, sources, options, fold)
        preparation = Preparation.learn(samples, task, train)
        X, Y, _ = preparation.part(samples, train, options.dtype)
        held: dict[str, Part | None] = {}
        for name, source_of, rows in zip(parts.NAMES, sources, shares, strict=True):
            if rows is None:
                held[name] = parts.of_source(name, source_of, options, preparation)
            else:
                held[name] = preparation.part(samples, rows, options.dtype)
        if fold is None:
            parts.warn_of_shared(sources, {"training": (X, Y), **held})
        described = parts.described(sources, held, options.seed)
        return Data(
            len(samples.X),
            preparation,
            X,
            Y,
            **held,
            parts=described,
            another=another,
            reason=why,
            left_out=samples.left_out,
        )
