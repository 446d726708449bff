"""NCCL, by CuPy: sums over the GPUs of all ranks without the host. All else goes by MPI."""

from typing import Any, NoReturn

from nnx.errors import CommunicatorError, count
from nnx.port.base import require
from nnx.port.communicator import Communicator
from nnx.port.communicators import communicator
from nnx.port.rank_device import gpu_of

ID_BYTES = 128
"""The bytes of the number by which the ranks of NCCL find each other."""


class Nccl(Communicator):
    """The ranks of MPI, each with a GPU of its own: see `nnx.port.rank_device.gpu_of`."""

    name = "nccl"

    def __init__(self) -> None:
        self._ranks = communicator("mpi")
        self.rank, self.size = self._ranks.rank, self._ranks.size
        cupy = require("cupy", "cuda13", " (or cuda12)")
        self._nccl: Any = cupy.cuda.nccl
        if not getattr(self._nccl, "available", True):
            raise CommunicatorError(
                "CuPy finds no NCCL here; install it: python -m pip install nvidia-nccl-cu13 (or -cu12), or give "
                "communicator='mpi'"
            )
        number, gpus = gpu_of(self._ranks), cupy.cuda.runtime.getDeviceCount()
        if number >= gpus:
            raise CommunicatorError(
                f"rank {self.rank} shares its GPUs, 0 to {gpus - 1}, with {count(number, 'rank')} before it; start no "
                "more ranks on a machine than it has GPUs"
            )
        with cupy.cuda.Device(number):
            name = bytearray(self._nccl.get_unique_id() if self.rank == 0 else bytes(ID_BYTES))
            self._ranks.broadcast(name)
            self._gpus: Any = self._nccl.NcclCommunicator(self.size, bytes(name), self.rank)

    def sum_on_stream(self, source: int, target: int, size: int, dtype: str, stream: int) -> None:
        """Ask a stream, by its address, for the sum of all ranks' vectors; a stream that captures takes it, too."""
        kind = self._nccl.NCCL_FLOAT64 if dtype == "float64" else self._nccl.NCCL_FLOAT32
        self._gpus.allReduce(source, target, size, kind, self._nccl.NCCL_SUM, stream)

    @property
    def threads(self) -> int | None:
        """How many threads a rank may have beside the others of its machine."""
        return self._ranks.threads

    def sum(self, vector: Any) -> None:
        """Put the sum of all ranks' vectors, on the host, into each of them."""
        self._ranks.sum(vector)

    def broadcast(self, vector: Any, root: int = 0) -> None:
        """Put the numbers of the rank `root` into the vectors of all, on the host."""
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

    def describe(self) -> str:
        """Return the rank, and the versions of NCCL and MPI."""
        return f"nccl: rank {self.rank} of {self.size}, NCCL {self._nccl.get_version()}; {self._ranks.describe()}"
