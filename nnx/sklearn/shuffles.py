"""The orders of the samples, drawn from scikit-learn's kind of random numbers."""

from typing import Any


class Shuffles:
    """Stands in the place of a trainer's `rng`: each epoch shuffles the order of the epoch before.

    So the same random_state gives the batches that scikit-learn's MLP has.

    Parameters
    ----------
    random_state : numpy.random.RandomState

    Examples
    --------
    >>> import numpy as np
    >>> shuffles = Shuffles(np.random.RandomState(0))
    >>> shuffles.permutation(4), shuffles.permutation(4)
    (array([2, 3, 1, 0]), array([2, 1, 3, 0]))
    """

    def __init__(self, random_state: Any) -> None:
        self._random_state = random_state
        self._orders: dict[int, Any] = {}  # the last two by their number
        self.state = 0

    def permutation(self, m: int) -> Any:
        """Return the numbers 0..m-1 in the next order."""
        self.state += 1
        if self.state not in self._orders:
            last = self._orders.get(self.state - 1)
            drawn = self._random_state.permutation(m)
            self._orders = {self.state - 1: last, self.state: drawn if last is None else last[drawn]}
        return self._orders[self.state]

    def permuted(self, orders: Any, axis: int, out: Any) -> Any:
        """Draw an order into each row of `out`."""
        for order in out:
            order[:] = self.permutation(len(order))
        return out

    @property
    def bit_generator(self) -> "Shuffles":
        """The object with `state`: itself. The state is the number of drawn orders, and may be set one back."""
        return self
