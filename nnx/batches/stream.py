"""Mini-batches of samples that are read piece by piece: files, and sparse matrices."""

from collections.abc import Callable, Generator, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple, TypeAlias

from nnx.array import host
from nnx.batches import Counted, Piece, pieces, places
from nnx.batches.prefetch import prefetch
from nnx.batches.source import Source
from nnx.batches.sources import Samples, Sparse, converted, cut, placeholder, recognise, whole
from nnx.errors import InputError
from nnx.port.base import Backend

NUMBERS = 2**22
"""The most numbers of X that are read from a file at once, unless a batch has more."""


Cut: TypeAlias = tuple[Any, int, bool]
"""A piece of a step: its places in a block, a slice or an array; its first place in the step; whether it ends it."""

Block: TypeAlias = tuple[slice, Iterable[Cut]]
"""The samples that are read at once, and the pieces that they are cut into."""


class Checks(NamedTuple):
    """What is asked of the samples, on the host; each raises an InputError that begins with the name given.

    Attributes
    ----------
    features : function (name, X) -> X
    targets : function (name, Y, m) -> Y
        Of m samples.
    weights : function (name, w, Y, m) -> w or None
        Y is what `targets` returned. w is also None, or whatever was given that is no array.
    batch_weights : function (name, w, Y, m) -> w or None, or None
        The same where only a part of the samples is seen at once; None: as `weights`.
    find : function ("X" or "Y", name, names of columns) -> names or None, or None
        Which columns of a table to take, in which order; None: all as they come.
    """

    features: Callable[[str, Any], Any]
    targets: Callable[[str, Any, int], Any]
    weights: Callable[[str, Any, Any, int], Any]
    batch_weights: Callable[[str, Any, Any, int], Any] | None = None
    find: Callable[[str, str, list[str]], list[str] | None] | None = None

    def recognise(self, what: str, name: str, x: Any, rows: bool = False) -> Samples:
        """Return what was handed in as X, Y or w (`what`), a table's columns found by their names."""
        find = None if self.find is None or what not in ("X", "Y") else partial(self.find, what)
        return recognise(name, x, rows, find)

    def part(self, place: str, X: Any, Y: Any, w: Any, whose: str = "") -> "Host":
        """Return the samples of a part, checked; `place` says in errors which."""
        X = self.features(f"{whose}X{place}", X)
        m = X.shape[-1]
        Y = self.targets(f"{whose}Y{place}", Y, m)
        return Host(X, Y, (self.batch_weights or self.weights)(f"{whose}w{place}", w, Y, m))


class Host(NamedTuple):
    """Samples on the host; Y None where there are no targets."""

    X: Any
    Y: Any
    w: Any

    @property
    def m(self) -> int:
        """The number of samples."""
        return int(self.X.shape[-1])

    def cut(self, part: Any) -> "Host":
        """Return the samples that a slice, or an array of numbers, names."""
        return Host(*(cut(x, part) for x in self))

    def piece(self, backend: Backend, dtype: str, whole: bool = False) -> tuple[Any, Any, Any]:
        """Return the samples on the device, X and w in this dtype; none where the weights are all 0, unless `whole`."""
        X, Y, w = self
        if w is not None and not whole and not w.any():
            X, Y, w = self.cut(slice(0, 0))
        return (
            backend.asarray(converted(X, dtype), dtype),
            None if Y is None else backend.asarray(Y),
            None if w is None else backend.asarray(converted(w, dtype), dtype),
        )


class Stream(Counted):
    """The mini-batches of a source in each epoch, read ahead by a thread; only pieces of it are on the device.

    Arrays and sparse matrices are shuffled as in `Batches`. A file is shuffled in blocks: contiguous ones of whole
    batches, at most 2^22 numbers of X or one batch, are read in a new order in every epoch. Each block of several
    batches is shuffled within. So the samples of a batch come from one block: shuffle a file whose classes lie one
    behind the other once, when you write it.

    Parameters
    ----------
    backend : Backend
    X : Source or array (n[0], m)
        As `nnx.batches.sources.recognise` returns it.
    Y : Source or array (n[L], m), or class indices (m,), or None
    w : Source or array (m,), or whatever else `checks.weights` takes
    batch_size, rng, micro_batch
        As of `Batches`. With micro_batch one piece after the other is on the device, never the batch.
    checks : Checks
        What is in memory is checked here, what is read from a file whenever it is read.
    dtype : {"float32", "float64"}
        Of X on the device; converted on the host.
    ahead : int
        Pieces that are read, and on the device, before they are asked for; 0: none, and no thread.
    whose : str
        Stands before the names X, Y and w in errors.

    Raises
    ------
    InputError
        When X, Y and w do not fit each other or the checks; in the course of an epoch, when the samples cannot be
        read or do not pass the checks: which they are.

    Examples
    --------
    >>> import numpy as np, tempfile, nnx
    >>> from nnx.batches.sources import recognise
    >>> checks = Checks(lambda name, X: X, lambda name, Y, m: Y, lambda name, w, Y, m: w)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/x.npy", np.arange(10.0).reshape(5, 2))  # 5 samples, as rows
    ...     X = recognise("X", np.load(f"{folder}/x.npy", mmap_mode="r").T)
    ...     stream = Stream(
    ...         nnx.backend("numpy"), X, np.arange(5), batch_size=2, checks=checks, dtype="float32"
    ...     )
    ...     [(X.shape, Y.tolist()) for (X, Y, w), start, ends in stream.epoch()]
    [((2, 2), [0, 1]), ((2, 2), [2, 3]), ((2, 1), [4])]
    """

    def __init__(
        self,
        backend: Backend,
        X: Samples,
        Y: Samples | None,
        w: Any = None,
        batch_size: int | None = None,
        rng: Any = None,
        micro_batch: int | None = None,
        *,
        checks: Checks,
        dtype: str,
        ahead: int = 2,
        whose: str = "",
    ) -> None:
        self._backend, self._checks, self._dtype = backend, checks, dtype
        self._ahead, self._whose = ahead, whose
        self._in_memory = isinstance(X, Sparse) or not isinstance(X, Source)
        X = self._check_features(X)
        self.m: int = X.shape[-1]
        self.batch_size: int = min(batch_size or self.m, self.m)
        self.micro_batch = micro_batch
        self._rng = rng if self.steps > 1 else None  # the order of the samples has no meaning in one step
        # Y and w are either both checked now, or both read and checked with X.
        self._late = isinstance(Y, Source) and not self._in_memory
        if self._late:
            w = host.as_numbers(f"{whose}w", w) if isinstance(w, list | tuple) else w
            given: list[tuple[str, Any]] = [("Y", Y), ("w", w)]
            for name, x in given:
                if hasattr(x, "shape") and x.shape[-1] != self.m:
                    raise InputError(
                        f"{whose}{name} has shape {tuple(x.shape)}; expected {self.m} samples, as {whose}X has"
                    )
        elif Y is not None:
            Y = checks.targets(f"{whose}Y", whole(Y), self.m)
            w = checks.weights(f"{whose}w", whole(w), Y, self.m)
        self._samples = Host(X, Y, w)

    def _check_features(self, X: Samples) -> Samples:
        name, features = f"{self._whose}X", self._checks.features
        if not isinstance(X, Source):
            return features(name, X)
        try:
            features(name, placeholder(X))
        except InputError as error:
            raise InputError(
                f"{error}. {name} is {X.where}, with (n[0], m) = {X.shape}: its samples are its columns, or its rows "
                f"when it is handed in as nnx.Rows({name}), and then alone"
            ) from error
        if isinstance(X, Sparse):  # in memory, and its zeros are finite
            for j in [0, *X.doubtful()]:
                features(f"{name}, sample {j}", X.read(j, j + 1))
        return X

    def epoch(self, skip: int = 0) -> Generator[Piece, None, None]:
        """Return the pieces of one epoch without its first `skip` steps; its order is drawn here.

        What is skipped is not read.
        """
        rng = self._rng
        if self._in_memory:
            order = None if rng is None else rng.permutation(self.m)
            blocks: Iterator[Block] = iter([(slice(0, self.m), self._cuts(order, self.m, skip))])
        elif rng is None:
            blocks = self._in_order(skip)
        else:
            blocks = self._shuffled(host.generator(int(rng.integers(2**63))), skip)
        return prefetch(self._on_device(blocks), self._ahead)

    def _on_device(self, blocks: Iterator[Block]) -> Generator[Piece, None, None]:
        for place, cuts in blocks:
            for held, start, ends in self._held(place, cuts):
                yield held.piece(self._backend, self._dtype), start, ends

    def _held(self, place: slice, cuts: Iterable[Cut]) -> Iterator[tuple[Host, int, bool]]:
        """Yield the pieces of a block; it is read whole."""
        block = self._read(place)
        for part, start, ends in cuts:
            yield block.cut(part), start, ends

    def _in_order(self, skip: int) -> Iterator[Block]:
        unit = self.batch_size
        if self.micro_batch and self._at_once(unit) * self._samples.X.shape[0] > NUMBERS:
            unit = min(self.micro_batch, unit)  # a batch need not be in memory whole
        cuts: list[Cut] = []
        place = slice(0, 0)
        for found, start, ends in pieces(self.m, self.batch_size, self.micro_batch, skip):
            if found.stop > place.stop:
                if cuts:
                    yield place, cuts
                place, cuts = slice(found.start, min(found.start + self._at_once(unit), self.m)), []
            cuts.append((slice(found.start - place.start, found.stop - place.start), start, ends))
        if cuts:
            yield place, cuts

    def _shuffled(self, rng: Any, skip: int) -> Iterator[Block]:
        blocks = places(self.m, self._at_once(self.batch_size))
        for index in rng.permutation(len(blocks)):
            m = blocks[index].stop - blocks[index].start
            steps = -(-m // self.batch_size)
            order = rng.permutation(m) if steps > 1 else None  # within one step it has no meaning
            if skip < steps:
                yield blocks[index], self._cuts(order, m, skip)
            skip = max(0, skip - steps)

    def _cuts(self, order: Any, m: int, skip: int) -> Iterator[Cut]:
        """Yield the pieces of a block of m samples in some order; None: as they are."""
        for place, start, ends in pieces(m, self.batch_size, self.micro_batch, skip):
            yield place if order is None else order[place], start, ends

    def _at_once(self, unit: int) -> int:
        """Return how many samples are read at once: a multiple of `unit`."""
        n: int = self._samples.X.shape[0]
        return max(1, NUMBERS // (n * unit)) * unit

    def _read(self, place: slice) -> Host:
        """Return these samples, those of a file checked."""
        if self._in_memory:
            return self._samples if place == slice(0, self.m) else self._samples.cut(place)
        where, (X, Y, w) = f", samples {place.start} to {place.stop - 1}", self._samples.cut(place)
        if self._late:
            return self._checks.part(where, X, Y, w, self._whose)
        return Host(self._checks.features(f"{self._whose}X{where}", X), Y, w)
