"""The command line on several ranks: the first one alone writes and says something."""

import os
import sys
from collections.abc import Sequence

from nnx.port.communicators import communicator
from nnx.port.failures import say_by

OPTION = "--communicator"


def begin(arguments: Sequence[str]) -> None:
    """Meet the other ranks before anything can fail. All but the first then say nothing.

    What ends all ranks is said by the rank where it happened, see `nnx.port.failures`, in the command line's words.
    """
    for at, word in enumerate(arguments):
        name, given, value = word.partition("=")
        if name == OPTION and (value := value if given else " ".join(arguments[at + 1 : at + 2])):
            ranks = communicator(value)
            if ranks.size > 1:
                from nnx.cli.faults import said_of_a_rank

                say_by(said_of_a_rank)
            if ranks.rank:
                sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
            return
