"""Mini-batches: the samples of each step."""

from collections.abc import Iterator
from typing import Any

from nnx.arrays import Array, array_namespace
from nnx.port import Backend
from nnx.step import Batch


def places(m: int, size: int) -> list[slice]:
    """Return the slices that cut m samples into pieces of this size, the last one smaller.

    Examples
    --------
    >>> places(5, 2)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    return [slice(start, min(start + size, m)) for start in range(0, m, size)]


class Batches:
    """The mini-batches of each epoch, the last one smaller when batch_size does not divide m.

    Parameters
    ----------
    backend : Backend
        Where X and Y live.
    X : array (n[0], m)
    Y : array (n[L], m), or class indices (m,)
    batch_size : int or None
        None: the whole of X in every step, as in the notes.
    rng : numpy.random.Generator or None
        Shuffles the samples anew each epoch; None leaves them in order.
    """

    def __init__(
        self, backend: Backend, X: Array, Y: Array, batch_size: int | None = None, rng: Any = None
    ) -> None:
        self.m: int = X.shape[-1]
        self.batch_size: int = min(batch_size or self.m, self.m)
        self._backend, self._rng = backend, rng
        self._X, self._Y = X, Y
        # Where the data came with samples as rows, X^T's rows lie in one piece each: those are gathered.
        self._rows = array_namespace(X).matrix_transpose(X) if rng is not None and len(self) > 1 else None

    def __len__(self) -> int:
        """Return the number of steps in an epoch."""
        return -(-self.m // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        """Yield one epoch's batches."""
        if len(self) == 1:  # the order of the samples has no meaning in one step
            yield self._X, self._Y
            return
        if self._rows is None:
            for place in places(self.m, self.batch_size):
                yield self._X[:, place], self._Y[..., place]
            return
        xp = array_namespace(self._rows)
        order = self._backend.asarray(self._rng.permutation(self.m))
        for place in places(self.m, self.batch_size):
            picked = order[place]
            X = xp.matrix_transpose(xp.take(self._rows, picked, axis=0))
            yield X, xp.take(self._Y, picked, axis=-1)
