"""Mini-batches of several ranks: of each batch a rank takes its share."""

from array import array
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from itertools import starmap
from typing import Any, NamedTuple

from nnx.array import host
from nnx.array.gather import Data, mini_batch
from nnx.array.hashes import fingerprint
from nnx.array.namespace import Array, array_namespace
from nnx.batches import Batches, Piece, chosen, pieces
from nnx.batches.iterated import Iterated
from nnx.batches.stream import Cut, Host, Stream
from nnx.port.base import Backend
from nnx.port.communicator import Communicator


def share_of(batch_size: int, communicator: Communicator) -> slice:
    """Return the places in a batch that a rank takes.

    Examples
    --------
    >>> from nnx.port.communicator import Alone
    >>> second = Alone()
    >>> second.rank, second.size = 1, 2
    >>> share_of(9, second)
    slice(5, 10, None)
    """
    each = -(-batch_size // communicator.size)
    return slice(communicator.rank * each, (communicator.rank + 1) * each)


class Order(NamedTuple):
    """The order of the samples in one epoch or several."""

    whole: Any
    """Of all samples, a NumPy array; the same on all ranks."""
    own: Array
    """Of this rank's, on its device."""


class RankBatches(Batches):
    """One rank's share of the mini-batches of each epoch. All ranks have the same samples and draw the same orders.

    Of a batch of m samples the rank r takes those from r s to (r + 1) s, where s is a full batch divided by the number
    of ranks, rounded up. So a rank's first place in a batch is the same in all batches, also in the smaller last one. A
    rank without samples in a batch takes one with the weight 0.

    Parameters
    ----------
    backend, batch_size, rng, micro_batch
        As of `Batches`. A micro-batch is a part of the rank's share.
    X, Y, w : NumPy arrays
        All samples, as of `Batches`. Without rng the rank's samples alone go to the device.
    communicator : Communicator

    Attributes
    ----------
    m, batch_size, steps
        Those of all ranks' samples.
    data : (X, Y, w)
        On the device: the samples of which this rank takes some.
    start : int
        The place of its first sample in each batch.

    Examples
    --------
    >>> import numpy as np, nnx
    >>> from nnx.port.communicator import Alone
    >>> second = Alone()
    >>> second.rank, second.size = 1, 2
    >>> found = RankBatches(nnx.backend("numpy"), np.ones((1, 9)), np.arange(9), None, 4, None, None, second)
    >>> [Y.tolist() for (_, Y, _), _, _ in found.epoch()]  # of the last batch, [8], it has none
    [[2, 3], [6, 7], [0]]
    """

    def __init__(
        self,
        backend: Backend,
        X: Any,
        Y: Any,
        w: Any,
        batch_size: int | None,
        rng: Any,
        micro_batch: int | None,
        communicator: Communicator,
    ) -> None:
        super().__init__(backend, X, Y, None, batch_size, rng, micro_batch)
        self._whole = X, Y, w
        self._places = share_of(self.batch_size, communicator)
        self.start = self._places.start
        if w is not None and int((w == 0).sum()) >= self.size(-1):
            self._weightless = w == 0
        self.data: Data = self._on_device(X, Y, w, None if self.draws else self._own(_in_order(self.m)))
        X, Y, _ = self._on_device(X, Y, None, _in_order(1))
        self._nothing: Data = X, Y, array_namespace(X).zeros_like(X[0, :])

    @property
    def fingerprint(self) -> str:
        """A hash of some of the samples of all ranks."""
        return fingerprint(self._whole)

    def _on_device(self, X: Any, Y: Any, w: Any, own: Any) -> Data:
        """Return samples on the device: those at some places, or all."""
        if own is not None:
            X, Y, w = X[:, own], Y[..., own], None if w is None else w[own]
        put = self._backend.asarray
        return put(X), put(Y), None if w is None else put(w)

    def _own(self, order: Any) -> Any:
        """Return this rank's part of an order: of each batch its share."""
        size, full = self.batch_size, len(order) // self.batch_size
        whole, rest = order[: full * size].reshape(full, size), order[full * size :]
        return host.concat([whole[:, self._places].reshape(-1), rest[self._places]])

    def _share(self, m: int) -> int:
        """Return how many of the samples of a batch this rank takes."""
        return max(0, min(int(self._places.stop), m) - int(self.start))

    def order(self, epochs: int = 1) -> Any:
        """Draw the order of the samples in the next epochs, one after the other; None: as they are."""
        if self._rng is None:
            return None
        whole = host.concat([self._rng.permutation(self.m) for _ in range(epochs)])
        return Order(whole, self._backend.asarray(self._own(whole)))

    def _on_host(self, order: Any) -> Any:
        return order.whole

    def taken(self, order: Any, step: int, m: int) -> tuple[Data, Array | None, int, int]:
        """Return data, order, at and m, as `Program.run` takes them, for a step of m samples of all ranks."""
        own = self._share(m)
        if not own:
            return self._nothing, None, 0, 1
        return self.data, None if order is None else order.own, step * self._share(self.batch_size), own

    def batch(self, order: Any, step: int) -> Data:
        """Return this rank's share of the batch of a step."""
        return mini_batch(*self.taken(order, step, self.size(step)))

    def weights(self, order: Any, step: int, m: int, count: int) -> list[Any]:
        """Return the weights of as many steps of m samples, each the sum over the samples of all ranks."""
        w = self._whole[2]
        if w is None:
            return [float(m)] * count
        starts = range(step * self.batch_size, (step + count) * self.batch_size, self.batch_size)
        steps = [slice(start, start + m) for start in starts]
        return [float(w[place if order is None else order.whole[place]].sum()) for place in steps]

    def some(self, count: int | None, batch_size: int, seed: int) -> Batches:
        """Return the batches, in order, of this number of all samples of weight above 0; None: of all."""
        X, Y, w = self._whole
        own = None if count is None or count >= self.m else chosen(self.m, w, count, seed)
        found = Batches(self._backend, *self._on_device(X, Y, w, own), batch_size)
        found.exponent = self.exponent
        return found

    def _pieces(self, order: Any, skip: int) -> Iterator[Piece]:  # type: ignore[override]
        left_out = set(self.idle(order))
        for step in range(skip, self.steps):
            data, own, at, m = self.taken(order, step, self.size(step))
            if step in left_out:
                yield mini_batch(data, own, at, 0), 0, True
                continue
            for place, start, ends in pieces(m, m, self.micro_batch):
                yield mini_batch(data, own, at + place.start, place.stop - place.start), start, ends


class RankStream(Stream):
    """One rank's share of the mini-batches of a source.

    Of a block of a file it reads the span that its samples lie in: of a large batch its stripe, of several small ones
    nearly all. The parameters are those of `Stream`, and the communicator. Each step has a piece, perhaps without
    samples.
    """

    def __init__(self, *arguments: Any, communicator: Communicator, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._places = share_of(self.batch_size, communicator)
        self.start = self._places.start

    def _held(self, place: slice, cuts: Iterable[Cut]) -> Iterator[tuple[Host, int, bool]]:
        own = [cut for cut in starmap(self._own, cuts) if _size(cut[0]) or cut[2]]
        if self._in_memory:
            return super()._held(place, own)
        spans = [_span(part) for part, _, _ in own if _size(part)]
        low, high = min((low for low, _ in spans), default=0), max((high for _, high in spans), default=1)
        moved = [(_moved(part, -low), start, ends) for part, start, ends in own]
        return super()._held(slice(place.start + low, place.start + high), moved)

    def _own(self, part: Any, start: int, ends: bool) -> Cut:
        """Return this rank's places of a piece of a step."""
        low, high = (min(max(place - start, 0), _size(part)) for place in (self.start, self._places.stop))
        taken = min(max(start, self.start), self._places.stop) - self.start  # of the step's earlier pieces
        own = part[low:high] if not isinstance(part, slice) else slice(part.start + low, part.start + high)
        return own, taken, ends


def _size(part: Any) -> int:
    return len(part) if not isinstance(part, slice) else part.stop - part.start


def _span(part: Any) -> tuple[int, int]:
    """Return the first of some places, and the one behind the last."""
    return (part.start, part.stop) if isinstance(part, slice) else (int(part.min()), int(part.max()) + 1)


def _moved(part: Any, by: int) -> Any:
    if not isinstance(part, slice):
        return part + by
    return slice(part.start + by, part.stop + by) if _size(part) else slice(0, 0)


class RankIterated:
    """The batches that each rank is given, side by side: a step has those of all ranks.

    An epoch has as many steps as the longest of them. A rank whose batches have ended has no samples in the others.

    Parameters
    ----------
    own : Iterated
        The batches of this rank, each in one piece.
    communicator : Communicator

    Attributes
    ----------
    ahead, samples : int
        Of the step under way: the samples of the ranks before this one, and those of all.
    """

    exponent, fingerprint, at_once, draws = 0, "", None, True

    def __init__(self, own: Iterated, communicator: Communicator) -> None:
        self._own, self._communicator = own, communicator
        own.whole = True  # the places of other ranks' samples depend on them
        self.ahead = self.samples = 0
        self.m: int | None = None
        self.steps = self._longest(own.steps)

    def _longest(self, steps: int | None) -> int | None:
        """Return the steps of the longest epoch of all ranks; None where one is not known."""
        found = array("q", [0] * self._communicator.size)
        found[self._communicator.rank] = -1 if steps is None else steps
        self._communicator.sum(found)
        return None if min(found) < 0 else max(found)

    @property
    def again(self) -> bool:
        """Whether an epoch can be read again."""
        return self._own.again

    def go_on(self, epochs: int) -> None:
        """Go on as after this number of epochs."""
        self._own.go_on(epochs)

    def epoch(self, skip: int = 0) -> Generator[Piece, None, None]:
        """Return this rank's batches of one epoch without its first `skip` steps."""
        rank, m, steps = self._communicator.rank, 0, skip
        none: Any = None
        with closing(self._own.epoch(skip)) as pieces:
            while True:
                piece = next(pieces, None)
                there = array("q", [0] * (self._communicator.size + 1))  # samples, and how many have a batch
                if piece is not None:
                    there[rank], there[-1] = piece[0][0].shape[-1], 1
                    none = tuple(None if x is None else x[..., :0] for x in piece[0])
                self._communicator.sum(there)
                if not there[-1]:
                    break
                self.ahead, self.samples = sum(there[:rank]), sum(there[:-1])
                m, steps = m + self.samples, steps + 1
                yield (none, 0, True) if piece is None else piece  # `Iterated` sees to a batch at least
        self.steps, self.m = steps, self.m if skip else m


def _in_order(m: int) -> Any:
    return host.in_order(1, 1, m)[0, 0, :]
