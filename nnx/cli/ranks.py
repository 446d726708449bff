"""The command line on several ranks: the first one alone writes and says something."""

import os
import sys
from collections.abc import Sequence

from nnx.errors import InputError
from nnx.port.communicators import communicator
from nnx.port.failures import say_by

OPTION = "--communicator"

LAUNCHED = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "MV2_COMM_WORLD_RANK", "SLURM_PROCID")
"""The variables in which launchers number the processes: Open MPI's, MPICH's, MVAPICH's, Slurm's."""


def begin(arguments: Sequence[str]) -> None:
    """Meet the other ranks before anything can fail. All but the first then say nothing.

    What ends all ranks is said by the rank where it happened, see `nnx.port.failures`, in the command line's words.
    """
    for at, word in enumerate(arguments):
        name, given, value = word.partition("=")
        if name == OPTION and (value := value if given else " ".join(arguments[at + 1 : at + 2])):
            try:
                ranks = communicator(value)
            except InputError:
                if any(os.environ.get(name, "0") != "0" for name in LAUNCHED):
                    sys.exit()  # all have it; the first one says it, and its status is that of mpiexec
                raise
            if ranks.size > 1:
                from nnx.cli.faults import said_of_a_rank

                say_by(said_of_a_rank)
            if ranks.rank:
                sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
            return
