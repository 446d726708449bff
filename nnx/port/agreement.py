"""Numbers and texts that the ranks of a run take over from one of them. All ranks call these functions together."""

from array import array
from typing import Any

from nnx.port.communicator import Communicator
from nnx.support.tree import leaves, mapped


def of_first(communicator: Communicator, numbers: Any) -> Any:
    """Return a tree of numbers, of one form on all ranks, with those of rank 0."""
    if communicator.size == 1:
        return numbers
    vector = array("d", leaves(numbers))
    communicator.broadcast(vector)
    its = iter(vector)
    return mapped(numbers, lambda leaf: type(leaf)(next(its)))


def text_of(communicator: Communicator, root: int, text: str) -> str:
    """Return the text of one rank."""
    data = bytearray(text.encode())
    length = array("q", [len(data)])
    communicator.broadcast(length, root)
    if communicator.rank != root:
        data = bytearray(length[0])
    communicator.broadcast(data, root)
    return data.decode()


def ranks_that(communicator: Communicator, answer: bool) -> list[int]:
    """Return the ranks whose answer is True, ascending."""
    answers = array("q", [0] * communicator.size)
    answers[communicator.rank] = int(answer)
    communicator.sum(answers)
    return [rank for rank, yes in enumerate(answers) if yes]
