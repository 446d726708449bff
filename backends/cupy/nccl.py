"""NCCL, by CuPy: sums over the GPUs of all ranks without the host. All else goes by MPI."""

from typing import Any

from nnx.errors import CommunicatorError, count
from nnx.port.base import require
from nnx.port.communicator import Wrapper
from nnx.port.communicators import communicator
from nnx.port.rank_device import gpu_of

ID_BYTES = 128
"""The bytes of the number by which the ranks of NCCL find each other."""


class Nccl(Wrapper):
    """The ranks of MPI, each with a GPU of its own: see `nnx.port.rank_device.gpu_of`."""

    def __init__(self) -> None:
        super().__init__(communicator("mpi"))
        self.name = "nccl"
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

    def describe(self) -> str:
        """Return the rank, and the versions of NCCL and MPI."""
        return f"nccl: rank {self.rank} of {self.size}, NCCL {self._nccl.get_version()}; {self._ranks.describe()}"
