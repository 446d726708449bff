"""The orders of the samples, drawn from scikit-learn's kind of random numbers."""

from typing import Any

import numpy as np


class Shuffles:
    """Stands in the place of a trainer's `rng`: each epoch shuffles the order of the epoch before.

    So the same random_state gives the batches that scikit-learn's MLP has.

    Parameters
    ----------
    random_state : numpy.random.RandomState

    Examples
    --------
    >>> shuffles = Shuffles(np.random.RandomState(0))
    >>> shuffles.permutation(4), shuffles.permutation(4)
    (array([2, 3, 1, 0]), array([0, 2, 3, 1]))
    """

    def __init__(self, random_state: Any) -> None:
        self._random_state = random_state
        self._order: Any = None

    def permutation(self, m: int) -> Any:
        """Return the numbers 0..m-1 in the next order."""
        before = np.arange(m) if self._order is None else self._order
        self._order = before[self._random_state.permutation(m)]
        return self._order

    @property
    def bit_generator(self) -> "Shuffles":
        """What has the state: it itself."""
        return self

    @property
    def state(self) -> Any:
        """All that the next order depends on."""
        return self._random_state.get_state(legacy=False), self._order

    @state.setter
    def state(self, state: Any) -> None:
        inner, self._order = state
        self._random_state.set_state(inner)
