"""Mini-batches of a stack of networks: each member has an order of its own, of all samples or of some."""

from collections.abc import Sequence
from typing import Any

from nnx.array import host
from nnx.array.namespace import Array, array_namespace
from nnx.batches import Batches
from nnx.errors import InputError
from nnx.port.base import Backend


class MemberBatches(Batches):
    """The mini-batches of each epoch of a stack.

    Parameters
    ----------
    backend, X, Y, batch_size, micro_batch, exponent
        As of `Batches`.
    w : array (m,), (K, m) or None
        The weights of the samples, of all members or of each.
    rngs : sequence of K numpy.random.Generator, or None
        Each shuffles a member's samples anew each epoch, as it would in a single run; None leaves them in order.
    rows : list of int
        The member in each row of the stack; -1: it is gone.
    samples : sequence of K integer arrays (m,), or None
        The samples that each member trains on, as their places in X, in the order of its single run; all of one
        length. None: all of X.

    Raises
    ------
    InputError
        When the members have different numbers of samples.
    """

    def __init__(
        self,
        backend: Backend,
        X: Array,
        Y: Array,
        w: Array | None,
        batch_size: int | None,
        rngs: Sequence[Any] | None,
        rows: list[int],
        samples: Sequence[Any] | None = None,
        micro_batch: int | None = None,
        exponent: int = 0,
    ) -> None:
        lengths = {len(places) for places in samples or ()}
        if len(lengths) > 1:
            raise InputError(
                f"members train on {' and '.join(map(str, sorted(lengths)))} samples; members of one stack need the "
                "same number of samples: train those with another number in another stack"
            )
        super().__init__(
            backend, X, Y, None, batch_size, rngs, micro_batch, lengths.pop() if lengths else None
        )
        self.data, self.exponent = (X, Y, w), exponent
        self.rngs, self.rows, self.samples = rngs, rows, samples
        self._fixed: Array | None = None

    def of(self, part: range) -> "MemberBatches":
        """Return the batches of some of the members, of the same samples."""
        members = slice(part.start, part.stop)
        X, Y, w = self.data
        return MemberBatches(
            self._backend, X, Y, w if w is None or w.ndim == 1 else w[members, ...], self.batch_size,
            self.rngs and self.rngs[members], [*range(len(part))], self.samples and self.samples[members],
            self.micro_batch, self.exponent,
        )  # fmt: skip

    def order(self, epochs: int = 1) -> Array | None:
        """Return the orders of the members in the next epochs, one after the other; None: as they are."""
        if self._rng is None:
            return self._in_order(epochs)
        return self._drawn(epochs)

    def _in_order(self, epochs: int) -> Array | None:
        """Return the places of samples that are not shuffled, which stay on the device."""
        if self.samples is not None and (self._fixed is None or self._fixed.shape[-1] < epochs * self.m):
            self._fixed = self._drawn(epochs)
        return self._fixed

    def _drawn(self, epochs: int) -> Array:
        live = [k for k in self.rows if k >= 0]
        found = host.in_order(len(live), epochs, self.m)
        for orders, k in zip(found, live, strict=True):
            if self._rng is not None:  # as `permutation(m)` draws them, one an epoch
                self._rng[k].permuted(orders, axis=1, out=orders)
            if self.samples is not None:
                orders[:] = self.samples[k][orders]
        if len(live) < len(self.rows):  # those that are gone draw no more: theirs is any order
            found = found[[live.index(k) if k >= 0 else 0 for k in self.rows]]
        return self._backend.asarray(found.reshape(len(self.rows), -1))

    def idle(self, order: Array | None) -> list[int]:
        """Return no step: the step of a stack leaves a member as it is whose samples all weigh 0."""
        return []

    def weights(self, order: Array | None, step: int, m: int, count: int) -> list[Any]:
        """Return the weights of as many steps of m samples, each the sum over its samples: (), or one for each row."""
        w = self.data[2]
        if w is None:
            return [float(m)] * count
        xp, found = array_namespace(w), []
        for k in range(step, step + count):
            place = slice(k * self.batch_size, k * self.batch_size + m)
            if order is None:
                own = w[..., place]
            elif w.ndim == 1:
                places = order[:, place]
                own = xp.reshape(xp.take(w, xp.reshape(places, (-1,))), places.shape)
            else:
                own = xp.take_along_axis(w, order[:, place], axis=-1)
            found.append(xp.sum(own, axis=-1))
        return found

    def weights_of_epochs(self, order: Array | None, epochs: int) -> list[Any]:
        """Return the weights of all steps of epochs: see `weights`."""
        full, found = self.m // self.batch_size, []
        for epoch in range(epochs):
            own = None if order is None else order[:, epoch * self.m : (epoch + 1) * self.m]
            found += self.weights(own, 0, self.batch_size, full)
            if full < self.steps:
                found += self.weights(own, full, self.size(-1), 1)
        return found

    def keep(self, rows: Sequence[int], members: list[int]) -> None:
        """Go on with the members that are in some of the rows."""
        X, Y, w = self.data
        if w is not None and w.ndim > 1:
            w = array_namespace(w).take(w, self._backend.asarray(host.stacked(rows)), axis=0)
        self.data = X, Y, w
        self.rows, self._fixed = members, None
