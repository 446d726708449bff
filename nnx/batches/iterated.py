"""Mini-batches of a list, a generator, PyTorch's DataLoader, or any other iterable."""

from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import islice
from typing import Any

from nnx.batches import Piece, pieces
from nnx.batches.prefetch import prefetch
from nnx.batches.source import Rows
from nnx.batches.sources import whole
from nnx.batches.stream import Checks, Host
from nnx.errors import InputError
from nnx.port.base import Backend

BATCH = "a batch is a tuple (X, Y) or (X, Y, w), with samples as columns"


class Iterated:
    """The batches of an iterable, each a step, read ahead by a thread.

    Parameters
    ----------
    backend : Backend
    batches : iterable, function that returns one, or `Rows` of either
        Of tuples (X, Y) or (X, Y, w), of any size. Each epoch begins an iterable anew; a generator, or other
        iterator, can be read only once. With `Rows` the samples are rows: X (k, n[0]).
    micro_batch : int or None
        The samples of one computation: a larger batch comes in pieces. None: the batch.
    checks : Checks
        The checks of every batch.
    dtype, ahead, whose
        As of `Stream`.
    steps : int or None
        Batches in an epoch: the first ones of an iterable, the next ones of an iterator. None: all.

    Attributes
    ----------
    steps : int or None
        Without the argument the len() of the iterable. None: not known before the first epoch's end.
    m : int or None
        The samples of the last epoch that was read completely.

    Raises
    ------
    InputError
        At once, when `batches` is no such object. During an epoch, when it ends too early, or when a batch does not
        pass the checks; the error names the step and the epoch.

    Examples
    --------
    >>> import numpy as np, nnx
    >>> checks = Checks(lambda name, X: X, lambda name, Y, m: Y, lambda name, w, Y, m: w)
    >>> def batches():
    ...     for k in (3, 2):
    ...         yield np.ones((2, k)), np.zeros(k)
    >>> given = Iterated(nnx.backend("numpy"), batches, checks=checks, dtype="float32")
    >>> given.steps
    >>> [X.shape for (X, Y, w), start, ends in given.epoch()]
    [(2, 3), (2, 2)]
    >>> given.steps, given.m
    (2, 5)
    """

    exponent, fingerprint = 0, ""
    at_once = None  # known of each batch when it comes
    whole = False
    """Whether batches whose weights are all 0 have their samples all the same."""

    def __init__(
        self,
        backend: Backend,
        batches: Iterable[Any] | Callable[[], Iterable[Any]] | Rows,
        micro_batch: int | None = None,
        *,
        checks: Checks,
        dtype: str,
        steps: int | None = None,
        ahead: int = 2,
        whose: str = "",
    ) -> None:
        given = batches.x if isinstance(batches, Rows) else batches
        if isinstance(given, str | bytes | type) or any(
            hasattr(given, part) for part in ("shape", "keys", "collect")
        ):
            raise InputError(
                f"{whose}Y is missing, and {whose}X is a {type(given).__name__}, not batches; give X and Y, or an "
                f"iterable of batches: {BATCH}"
            )
        if not (hasattr(given, "__iter__") or hasattr(given, "__getitem__") or callable(given)):
            raise InputError(
                f"{whose}X is a {type(given).__name__}; expected arrays X and Y, or an iterable of batches: {BATCH}"
            )
        self.micro_batch = micro_batch
        self.m: int | None = None
        self.steps: int | None = steps if steps is not None else _length(given)
        self._backend, self._checks, self._dtype = backend, checks, dtype
        self._given, self._rows, self._limit = given, isinstance(batches, Rows), steps
        self._once = hasattr(given, "__next__")
        self._ahead, self._whose, self._epochs = ahead, whose, 0
        self._dropped = 0  # batches of epochs that are over

    def __len__(self) -> int:
        """Return the number of steps in an epoch, or raise a TypeError if it is not known yet."""
        if self.steps is None:
            raise TypeError("how many batches an epoch has is not known before its end")
        return self.steps

    @property
    def draws(self) -> bool:
        """Whether an epoch may draw random numbers: a function may do so."""
        return True

    @property
    def again(self) -> bool:
        """Whether an epoch can be read again."""
        return not self._once

    def go_on(self, epochs: int) -> None:
        """Go on as after this number of epochs; an iterator's batches of these are read and dropped."""
        self._epochs = epochs
        if self._once and epochs:
            if self._limit is None:
                raise InputError(
                    f"{self._whose}X, a {type(self._given).__name__}, can be gone through but once, and {epochs} epochs"
                    " are over; hand in a list, or a function that returns a new one, or say how many steps there are"
                )
            self._dropped = epochs * self._limit

    def epoch(self, skip: int = 0) -> Generator[Piece, None, None]:
        """Return the pieces of one epoch; its first `skip` batches are read and dropped."""
        self._epochs += 1
        return prefetch(self._pieces(self._epochs, skip), self._ahead)

    def _pieces(self, epoch: int, skip: int) -> Generator[Piece, None, None]:
        batches = self._begin()
        dropped, self._dropped = self._dropped, 0
        for _ in islice(batches, dropped):
            pass
        step = m = 0
        try:
            for step, batch in enumerate(islice(batches, self._limit), 1):
                if step <= skip:
                    continue
                samples = self._checked(batch, f"step {step} of epoch {epoch}")
                k = samples.X.shape[-1]
                m += k
                for place, start, ends in pieces(k, k, self.micro_batch):
                    piece = samples if place == slice(0, k) else samples.cut(place)
                    yield piece.piece(self._backend, self._dtype, self.whole), start, ends
        finally:
            if not self._once and hasattr(batches, "close"):  # an iterator that the caller began stays open
                batches.close()
        if step < (self.steps or 1):  # fewer than steps=, or than in the last epoch
            raise self._ended(epoch, step)
        self.steps, self.m = step, self.m if skip else m

    def _begin(self) -> Iterator[Any]:
        given = self._given
        batches = given() if callable(given) and not hasattr(given, "__iter__") else given
        try:
            return iter(batches)
        except TypeError:
            raise InputError(
                f"{self._whose}X, a function, returned a {type(batches).__name__}; expected an iterator of "
                f"batches: {BATCH}"
            ) from None

    def _checked(self, batch: Any, where: str) -> Host:
        if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
            what = f" of {len(batch)}" if isinstance(batch, tuple | list) else ""
            raise InputError(f"{self._whose}{where} is a {type(batch).__name__}{what}; {BATCH}")
        X, Y, *w = (
            x
            if x is None
            else whole(self._checks.recognise(name, f"{self._whose}{name} in {where}", x, self._rows))
            for name, x in zip("XYw", batch, strict=False)
        )
        return self._checks.part(f" in {where}", X, Y, w[0] if w else None, self._whose)

    def _ended(self, epoch: int, step: int) -> InputError:
        expected = "at least 1 batch" if not self.steps else f"{self.steps} batches"
        advice = "Hand in more, or give fewer steps"
        if self._once:
            advice = "An iterator can be gone through but once: hand in a list, or a function that returns a new one"
        return InputError(
            f"{self._whose}X, a {type(self._given).__name__}, ended after {step} in epoch {epoch}; expected "
            f"{expected}. {advice}"
        )


def _length(given: Any) -> int | None:
    try:
        return len(given)
    except TypeError:
        return None
