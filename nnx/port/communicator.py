"""The communicator: the processes that train one network together, its ranks, and sums over all of them."""

import sys
from abc import ABC, abstractmethod
from typing import Any, NoReturn, Self


class Communicator(ABC):
    """The ranks of a run: processes with the same program, each with samples of its own.

    All ranks make their communicators together, and call the same methods in the same order, but for `abort`. A vector
    that is handed in is an array of NumPy's or of Python's, in one piece of memory and of one length on all ranks.

    Attributes
    ----------
    name : str
        The entry point's name.
    rank : int
        The number of this process, from 0.
    size : int
        The number of processes.
    """

    name: str
    rank: int = 0
    size: int = 1

    @abstractmethod
    def sum(self, vector: Any) -> None:
        """Put the sum of all ranks' vectors into each of them. All ranks get the same bits."""

    @abstractmethod
    def broadcast(self, vector: Any, root: int = 0) -> None:
        """Put the numbers of the rank `root` into the vectors of all."""

    @abstractmethod
    def barrier(self) -> None:
        """Wait until all ranks are here."""

    @abstractmethod
    def meet(self, seconds: float) -> bool:
        """Return whether all ranks call this within so many seconds. After False the caller must `abort`."""

    @abstractmethod
    def abort(self, code: int = 1) -> NoReturn:
        """End the processes of all ranks at once, with this exit status."""

    @property
    def threads(self) -> int | None:
        """How many threads a rank may have beside the others of its machine; None: as one process has."""
        return None

    def describe(self) -> str:
        """Return "name: more", for people."""
        return f"{self.name}: rank {self.rank} of {self.size}"

    def __deepcopy__(self, memo: Any) -> Self:
        return self  # it is that of the process

    def __repr__(self) -> str:
        return f"<nnx communicator {self.describe()}>"


class Wrapper(Communicator):
    """The same ranks as those of another communicator, whose methods it calls: the base of one that changes some.

    Examples
    --------
    >>> Wrapper(Alone())
    <nnx communicator alone: rank 0 of 1>
    """

    def __init__(self, ranks: Communicator) -> None:
        self.name, self.rank, self.size, self._ranks = ranks.name, ranks.rank, ranks.size, ranks

    def sum(self, vector: Any) -> None:
        """Put the sum of all ranks' vectors into each of them."""
        self._ranks.sum(vector)

    def broadcast(self, vector: Any, root: int = 0) -> None:
        """Put the numbers of the rank `root` into the vectors of all."""
        self._ranks.broadcast(vector, root)

    def barrier(self) -> None:
        """Wait until all ranks are here."""
        self._ranks.barrier()

    def meet(self, seconds: float) -> bool:
        """Return whether all ranks call this within so many seconds. After False the caller must `abort`."""
        return self._ranks.meet(seconds)

    def abort(self, code: int = 1) -> NoReturn:
        """End the processes of all ranks at once, with this exit status."""
        self._ranks.abort(code)

    @property
    def threads(self) -> int | None:
        """How many threads a rank may have beside the others of its machine."""
        return self._ranks.threads


class Alone(Communicator):
    """The communicator of one process.

    Examples
    --------
    >>> Alone()
    <nnx communicator alone: rank 0 of 1>
    """

    name = "alone"

    def sum(self, vector: Any) -> None:
        """Leave the vector as it is."""

    def broadcast(self, vector: Any, root: int = 0) -> None:
        """Leave the vector as it is."""

    def barrier(self) -> None:
        """Do nothing."""

    def meet(self, seconds: float) -> bool:
        """Return True."""
        return True

    def abort(self, code: int = 1) -> NoReturn:
        """End this process."""
        sys.exit(code)
