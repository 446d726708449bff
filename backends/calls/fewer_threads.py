"""One thread for small products: to share a short product out costs more than it saves, above all on busy cores."""

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from nnx.compiler import Graph
from nnx.compiler.thresholds import ONE_THREAD_FLOPS


def is_small(graph: Graph) -> bool:
    """Whether a graph has products, and all of them are small."""
    products = [2 * op.reads[0].size * op.out.shape[-1] for op in graph.ops if op.name == "matmul"]
    return bool(products) and max(products) < ONE_THREAD_FLOPS


class Fewer:
    """Lets libraries have one thread for a while, and gives them back what they had.

    Parameters
    ----------
    get : callable
        Returns the number of threads of each library, a list.
    put : callable
        Takes such a list, and sets them.
    of_thread : bool
        Whether what is set holds for the thread that sets it (and for threads that begin then), as in PyTorch.
    """

    def __init__(
        self, get: Callable[[], list[int]], put: Callable[[list[int]], None], of_thread: bool = False
    ) -> None:
        self._get, self._put, self._of_thread = get, put, of_thread
        self._begin()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._before: list[int] = []
        self._inside: Counter[int] = Counter()  # how often each of the user's threads is within

    @property
    def idle(self) -> bool:
        """Whether nothing is changed now."""
        return not self._inside

    def usual(self) -> list[int]:
        """Return the number of threads of each library, without what this has changed."""
        with self._lock:
            return self._before if self._inside else self._get()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Let there be one thread within; several of the user's threads may be within at once."""
        me = threading.get_ident()
        with self._lock:
            if not self._inside:
                self._before = self._get()
            if me not in self._inside:
                self._put([1] * len(self._before))
            self._inside[me] += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside[me] -= 1
                if self._inside[me] <= 0:
                    del self._inside[me]
                    if self._of_thread or not self._inside:
                        self._put(self._before)
