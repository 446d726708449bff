"""A table that is handed in from Python: its rows to train on and those held out, and its pieces."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from nnx.array import host
from nnx.batches import frames
from nnx.batches.sample_weights import held_out_weights
from nnx.data import files
from nnx.data.dialect import Dialect
from nnx.data.labelled import Labelled
from nnx.data.prepare import Preparation
from nnx.data.source import Arrays, Table, left_out
from nnx.data.splits import split
from nnx.data.task import decided
from nnx.errors import InputError, as_path, listed, number, scalar, shown
from nnx.errors.texts import shape_of
from nnx.model.network import Network

_log = logging.getLogger("nnx")


@dataclass(frozen=True)
class Parts:
    """The rows of a table, prepared.

    Attributes
    ----------
    m : int
        The rows of the table.
    labelled : array of int, or None
        The rows that have a target; None: all.
    preparation : Preparation
        Learned from the rows to train on.
    reason : str or None
        Why the task is what it is, if none was asked for.
    rows : (array, array or None)
        The rows to train on and those held out, of the labelled ones.
    train, validation : (X, Y); or None for no validation
    """

    m: int
    labelled: Any
    preparation: Preparation
    reason: str | None
    rows: tuple[Any, Any]
    train: tuple[Any, Any]
    validation: tuple[Any, Any] | None

    def weighted(self, sample_weight: Any, class_weight: Any, network: Network) -> tuple[Any, Any]:
        """Return the weights of the rows to train on, and the validation with those that it would have in training."""
        weights, of_validation = self._weights(sample_weight)
        if not self.validation:
            return weights, None
        X, Y = self.validation
        return weights, (
            X,
            Y,
            held_out_weights(of_validation, class_weight, Y, network.output, network.n[-1]),
        )

    def _weights(self, given: Any) -> tuple[Any, Any]:
        """Return the weights of the rows to train on, and of those that are held out, or None."""
        if given is None:
            return None, None
        w = host.as_host(host.as_numbers("sample_weight", given))
        if w.shape != (self.m,):
            raise InputError(
                f"sample_weight has shape {w.shape}; expected ({self.m},), one for each row of the table"
            )
        w, (train, rest) = w if self.labelled is None else w[self.labelled], self.rows
        return w[train], None if rest is None else w[rest]


def parts_of(
    table: Any,
    target: str | None,
    drop: Sequence[str],
    dialect: Dialect,
    day_first: bool | None,
    task: str,
    validation: Any,
    dtype: str,
    seed: Any,
) -> Parts:
    """Return the parts of a table; the arguments are those of `nnx.Tabular`.

    Raises
    ------
    InputError
        When the table cannot be read, lacks the target or holds a column of no use.
    """
    if isinstance(table, str | os.PathLike):
        whole: Any = files.read(as_path("table", table), target, dialect)
    else:
        whole = _frame(table, lambda name: name not in drop, dialect)
    samples = whole.training(target, drop, day_first)
    m, rows_labelled = len(whole), whole.labelled(samples.target).rows
    if samples.left_out:
        _log.warning("%s", left_out(samples.left_out, samples.target))
    samples, found, other, reason = decided(samples, task)
    if (isinstance(seed, list | tuple) or shape_of(seed)) and len(seed):
        seed = seed[0]  # of the members'
    if other:
        _log.warning("%s, since %s; else give task=%r", found, reason, other)
    train: Any = slice(None)
    rest = None
    if is_share := isinstance(scalar(validation), float | int):
        share = number("validation", validation, "a share from 0 to 1, or a table", lambda x: 0 <= x < 1)
        train, rest = split(samples, found, share, seed) if share else (train, None)
    preparation = Preparation.learn(samples, found, train)
    if preparation.unused:
        _log.warning("columns left out: %s", listed(preparation.unused, 12))
    held_out = None if rest is None else preparation.part(samples, rest, dtype)[:2]
    if not is_share:
        labelled = labelled_rows(validation, preparation, dtype)
        held_out = labelled.whole()[:2]
        tell(labelled.said())
    train_part = preparation.part(samples, train, dtype)[:2]
    return Parts(m, rows_labelled, preparation, reason, (train, rest), train_part, held_out)


def pieces(table: Any, prepared: Preparation) -> Iterator[Any]:
    """Yield the samples piece by piece: tables, or one array (m, features)."""
    if isinstance(table, str | os.PathLike):
        yield from files.pieces(as_path("table", table), prepared.target, True, prepared.dialect.over())
    elif prepared.named or frames.frame(table) is not None:
        wanted = {*prepared.features, prepared.target}
        yield _frame(table, lambda name: name in wanted or not prepared.named, prepared.dialect)
    else:
        yield Arrays("the array", host.as_host(host.as_numbers("table", table)), None)


def labelled_rows(table: Any, preparation: Preparation, dtype: str) -> Labelled:
    """Return the rows of a table that have a target."""
    return Labelled("the table", pieces(table, preparation), preparation, preparation.target, dtype)


def _frame(table: Any, read: Callable[[str], bool], dialect: Dialect) -> Table:
    """Return a table that was handed in, with the columns that `read` is true of."""
    found = frames.frame(table)
    if found is None:
        raise InputError(
            "table must be the path of a file, a pandas or polars data frame, an Arrow table, or a dict of columns "
            f"such as {{'size': [1, 2]}}; given {shown(table)}"
        )
    if not found.m:
        raise InputError("the table has no rows")
    from nnx.data.frames import table as as_table  # which needs polars

    return as_table(found, read, dialect)


def tell(lines: Iterable[str]) -> None:
    """Log what was filled in, not known and left out, where a script's user sees it."""
    for line in lines:
        _log.warning("%s", line)
