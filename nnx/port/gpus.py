"""The GPUs that this process sees, by NVIDIA's driver: the same GPU has the same name in all processes."""

import ctypes
from typing import Any

from nnx.port import registry

UUID_BYTES = 16


def gpus() -> list[bytes]:
    """Return the UUID of each GPU that this process sees, in the driver's order; without a driver none.

    Source: CUDA's driver API, cuDeviceGetUuid_v2.
    """
    try:
        cuda = ctypes.CDLL(registry.DRIVER)
        found, count = list[bytes](), ctypes.c_int()
        _call(cuda.cuInit, 0)
        _call(cuda.cuDeviceGetCount, ctypes.byref(count))
        for number in range(count.value):
            device, uuid = ctypes.c_int(), (ctypes.c_ubyte * UUID_BYTES)()
            _call(cuda.cuDeviceGet, ctypes.byref(device), number)
            _call(cuda.cuDeviceGetUuid_v2, uuid, device)
            found.append(bytes(uuid))
    except (OSError, AttributeError):  # no driver, one that fails, or one before CUDA 11.4
        return []
    return found


def _call(function: Any, *arguments: Any) -> None:
    if status := function(*arguments):
        raise OSError(status, function.__name__)
