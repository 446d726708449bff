"""The GPU of a rank: each of those that see the same GPUs takes its own."""

from array import array
from contextlib import suppress
from hashlib import blake2b

from nnx.errors import BackendError, InputError, count
from nnx.port import registry
from nnx.port.base import Backend
from nnx.port.communicator import Communicator
from nnx.port.gpus import gpus
from nnx.port.registry import Choice


def gpu_of(communicator: Communicator) -> int:
    """Return the number of this rank's GPU: how many ranks before it see the same GPUs. All ranks call this together.

    A launcher that gives each rank a GPU of its own, as the only one that it sees, makes it 0 on all.
    """
    seen = array("q", [0] * communicator.size)
    seen[communicator.rank] = int.from_bytes(blake2b(b"".join(gpus()), digest_size=7).digest(), "big")
    communicator.sum(seen)
    return seen[: communicator.rank].count(seen[communicator.rank])


def choose_of_rank(
    backend: str | Backend | None, device: str | None, precision: str | None, communicator: Communicator
) -> Choice:
    """Return a backend and why it was chosen (`nnx.port.registry.choose`), of several ranks on this rank's own GPU.

    Raises
    ------
    BackendError
        When more ranks see the same GPUs than there are.
    """
    choose = registry.choose
    if communicator.size == 1 or isinstance(backend, Backend) or device not in (None, "cuda"):
        return choose(backend, device, precision)
    number = gpu_of(communicator)
    if not number or not registry.has_driver():
        return choose(backend, device, precision)
    own = f"cuda:{number}"
    try:
        return choose(backend, own, precision)
    except (BackendError, InputError) as error:
        why = str(error)
    with suppress(BackendError):
        found = choose(backend, device, precision)
        if found.backend.device.partition(":")[0] != "cuda":
            return found  # of the CPU's
    before = count(number, "rank")
    raise BackendError(
        f"rank {communicator.rank} shares its GPUs with {before} before it, and there is no {own}: {why}. "
        "Start no more ranks on a machine than it has GPUs, or give device='cpu'"
    )
