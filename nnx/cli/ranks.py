"""The command line on several ranks: the first one alone writes and says something."""

import os
import sys
from collections.abc import Sequence

from nnx.port.communicators import communicator

OPTION = "--communicator"


def begin(arguments: Sequence[str]) -> None:
    """Meet the other ranks before anything can fail. All but the first then say nothing.

    What ends all ranks is said by the rank where it happened: see `nnx.port.failures`.
    """
    for at, word in enumerate(arguments):
        name, given, value = word.partition("=")
        if name == OPTION and (value := value if given else " ".join(arguments[at + 1 : at + 2])):
            if communicator(value).rank:
                sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
            return
