"""Mini-batches of arrays: the samples of each step."""

from collections.abc import Generator, Iterator
from functools import cached_property
from typing import Any, Protocol, TypeAlias

from nnx.array import host
from nnx.array.gather import Data, mini_batch
from nnx.array.hashes import fingerprint
from nnx.array.namespace import Array, array_namespace
from nnx.port.base import Backend

Piece: TypeAlias = tuple[tuple[Array, Array, Array | None], int, bool]
"""((X, Y, w), start, ends): the samples of one computation, on the device; w (m,) or None.

start is the place of its first sample in the batch, above 0 only in later micro-batches. ends says whether the step
ends
with it. A piece whose weights are all 0 has no samples, X (n[0], 0)."""


class Provider(Protocol):
    """The batches of each epoch: `Batches`, `Stream` or `Iterated`."""

    exponent: int
    """The weights that were given are multiplied by 2^exponent: see `nnx.batches.sample_weights.in_range`."""

    @property
    def fingerprint(self) -> str:
        """A hash of some of the samples; empty where they are read piece by piece."""

    @property
    def again(self) -> bool:
        """Whether an epoch can be read again."""

    def go_on(self, epochs: int) -> None:
        """Go on as after this number of epochs."""

    @property
    def draws(self) -> bool:
        """Whether an epoch may draw random numbers from the trainer's generator."""

    @property
    def m(self) -> int | None:
        """The samples of an epoch; None: not known yet."""

    @property
    def steps(self) -> int | None:
        """The steps of an epoch; None: not known yet."""

    @property
    def at_once(self) -> int | None:
        """The samples of one computation; None: not known yet."""

    def epoch(self, skip: int = 0) -> Generator[Piece, None, None]:
        """Return the pieces of one epoch without its first `skip` steps; the epoch is the same for any skip.

        Random numbers are drawn here, before the first piece. Close the iterator when you stop early.
        """


def places(m: int, size: int) -> list[slice]:
    """Return the slices that cut m samples into pieces of this size, the last one smaller.

    Examples
    --------
    >>> places(5, 2)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    return [slice(start, min(start + size, m)) for start in range(0, m, size)]


def pieces(
    m: int, batch_size: int, micro_batch: int | None = None, skip: int = 0
) -> Iterator[tuple[slice, int, bool]]:
    """Yield the (place, start, ends) that cut m samples into steps, and these into pieces.

    Examples
    --------
    >>> for place, start, ends in pieces(8, 5, 3):
    ...     print(place, start, ends)
    slice(0, 3, None) 0 False
    slice(3, 5, None) 3 True
    slice(5, 8, None) 0 True
    """
    for first in range(skip * batch_size, m, batch_size):
        size = min(batch_size, m - first)
        for piece in places(size, micro_batch or size):
            yield slice(first + piece.start, first + piece.stop), piece.start, piece.stop == size


def chosen(m: int, weights: Any, count: int, seed: int) -> Any:
    """Return the places of this number of m samples, drawn from those of weight above 0, ascending."""
    weighs = range(m) if weights is None else weights.nonzero()[0]
    found = host.generator(seed).choice(weighs, min(count, len(weighs)), replace=False)
    found.sort()
    return found


class Counted:
    """The base of providers with known samples: epochs differ only in their random numbers."""

    m: int
    batch_size: int
    micro_batch: int | None
    exponent = 0
    _rng: Any

    @property
    def fingerprint(self) -> str:
        """A hash of some of the samples; empty where they are read piece by piece."""
        return ""

    @property
    def draws(self) -> bool:
        """Whether an epoch draws random numbers: its order."""
        return self._rng is not None

    @cached_property
    def steps(self) -> int:
        """The number of steps in an epoch."""
        return -(-self.m // self.batch_size)

    @property
    def at_once(self) -> int:
        """The samples of one computation."""
        return min(self.micro_batch or self.batch_size, self.batch_size)

    def __len__(self) -> int:
        """Return the number of steps in an epoch."""
        return self.steps

    @property
    def again(self) -> bool:
        """Whether an epoch can be read again."""
        return True

    def go_on(self, epochs: int) -> None:
        """Do nothing: restoring the random numbers is enough."""


class Batches(Counted):
    """The mini-batches of arrays in each epoch, the last one smaller when batch_size does not divide m.

    Parameters
    ----------
    backend : Backend
        Where X, Y and w live.
    X : array (n[0], m)
    Y : array (n[L], m), or class indices (m,)
    w : array (m,) or None
        The samples' weights.
    batch_size : int or None
        None: the whole of X in every step, as in the notes.
    rng : numpy.random.Generator or None
        Shuffles the samples anew each epoch; None leaves them in order.
    micro_batch : int or None
        The samples computed at once: a larger batch comes in pieces. None: the batch.
    m : int or None
        The samples of an epoch, where they are some of X; None: all.
    """

    def __init__(
        self,
        backend: Backend,
        X: Array,
        Y: Array,
        w: Array | None = None,
        batch_size: int | None = None,
        rng: Any = None,
        micro_batch: int | None = None,
        m: int | None = None,
    ) -> None:
        self.m: int = X.shape[-1] if m is None else m
        self.batch_size: int = min(batch_size or self.m, self.m)
        self.micro_batch = micro_batch
        self._backend, self._rng = backend, rng if self.steps > 1 else None  # one step: any order is the same
        self.data: Data = X, Y, w
        self._weightless = None if w is None else self._without_weight(w)

    def _without_weight(self, w: Array) -> Any:
        """Return whether each sample has the weight 0, a NumPy array (m,); None if they are too few for a batch."""
        found = self._backend.to_numpy(w) == 0
        least = min(self.size(-1), self.micro_batch or self.m)
        return found if int(found.sum()) >= least else None

    @property
    def even(self) -> bool:
        """Whether all batches have one size, and each has a sample of weight above 0 for certain."""
        return self.m % self.batch_size == 0 and self._weightless is None

    def order(self, epochs: int = 1) -> Array | None:
        """Draw the order of the samples in the next epochs, one after the other; None: as they are."""
        if self._rng is None:
            return None
        orders = [self._rng.permutation(self.m) for _ in range(epochs)]
        return self._backend.asarray(host.concat(orders) if epochs > 1 else orders[0])

    def size(self, step: int) -> int:
        """Return the samples of a step, counted from 0, or from the end."""
        last = self.steps - 1
        return self.m - last * self.batch_size if step in (-1, last) else self.batch_size

    def idle(self, order: Array | None) -> list[int]:
        """Return the steps of an epoch whose samples all have the weight 0, ascending."""
        if self._weightless is None:
            return []
        found = self._weightless if order is None else self._weightless[self._on_host(order)]
        return [step for step, place in enumerate(places(self.m, self.batch_size)) if found[place].all()]

    @property
    def fingerprint(self) -> str:
        """A hash of some of the samples."""
        return fingerprint(None if x is None else self._backend.to_numpy(x) for x in self.data)

    def _on_host(self, order: Any) -> Any:
        return self._backend.to_numpy(order)

    def taken(self, order: Array | None, step: int, m: int) -> tuple[Data, Array | None, int, int]:
        """Return data, order, at and m, as `Program.run` takes them, for a step of m samples and those behind it."""
        return self.data, order, step * self.batch_size, m

    def batch(self, order: Array | None, step: int) -> Data:
        """Return the batch of a step."""
        return mini_batch(self.data, order, step * self.batch_size, self.size(step))

    def weights(self, order: Array | None, step: int, m: int, count: int) -> list[Any]:
        """Return the weights of as many steps of m samples, each the sum over its samples."""
        w = self.data[2]
        if w is None:
            return [float(m)] * count
        xp = array_namespace(w)
        places = [slice(k * self.batch_size, k * self.batch_size + m) for k in range(step, step + count)]
        return [xp.sum(w[place] if order is None else xp.take(w, order[place])) for place in places]

    def some(self, count: int | None, batch_size: int, seed: int) -> "Batches":
        """Return the batches, in order, of this number of samples of weight above 0; None: of all."""
        X, Y, w = self.data
        if count is not None and count < self.m:
            weights = None if w is None else self._backend.to_numpy(w)
            xp, places = array_namespace(X), self._backend.asarray(chosen(self.m, weights, count, seed))
            X, Y = xp.take(X, places, axis=-1), xp.take(Y, places, axis=-1)
            w = None if w is None else xp.take(w, places, axis=0)
        found = Batches(self._backend, X, Y, w, batch_size)
        found.exponent = self.exponent
        return found

    def epoch(self, skip: int = 0) -> Generator[Piece, None, None]:
        """Return the pieces of one epoch without its first `skip` steps; its order is drawn here."""
        return self._pieces(self.order(), skip)

    def _pieces(self, order: Array | None, skip: int) -> Generator[Piece, None, None]:
        found = self._weightless
        if found is not None and order is not None:
            found = found[self._backend.to_numpy(order)]
        for place, start, ends in pieces(self.m, self.batch_size, self.micro_batch, skip):
            nothing = found is not None and found[place].all()
            size = 0 if nothing else place.stop - place.start
            yield mini_batch(self.data, order, place.start, size), start, ends
