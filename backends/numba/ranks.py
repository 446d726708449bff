"""The sum over the ranks of a run as a function that a compiled step calls."""

import ctypes
from typing import Any

import numpy as np

from nnx.port.communicator import Communicator


class RankSum:
    """Sums a vector of a compiled step over all ranks, in place.

    No error crosses compiled code. So the first one is saved; the sums of the steps behind it do nothing.

    Parameters
    ----------
    communicator : Communicator
    dtype : str
        Of the vector.

    Attributes
    ----------
    address : int
        Of the function, which takes the vector's address and its size.
    """

    def __init__(self, communicator: Communicator, dtype: str) -> None:
        self._communicator, self._dtype = communicator, np.dtype(dtype)
        self._error: BaseException | None = None
        self._vectors: dict[tuple[int, int], Any] = {}  # a step has its vector in one place
        self._function = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64)(self._sum)
        self.address = ctypes.cast(self._function, ctypes.c_void_p).value

    def _sum(self, address: int, size: int) -> None:
        if self._error is not None:
            return
        try:
            if (address, size) not in self._vectors:
                memory: Any = (ctypes.c_uint8 * (size * self._dtype.itemsize)).from_address(address)
                self._vectors = {(address, size): np.frombuffer(memory, self._dtype)}
            self._communicator.sum(self._vectors[address, size])
        except BaseException as error:
            self._error = error

    def check(self) -> None:
        """Raise the error of a sum, if there was one."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error
