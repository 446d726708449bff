"""The GPU of a rank: each of those on a machine takes its own."""

from contextlib import suppress

from nnx.errors import BackendError, InputError
from nnx.port import registry
from nnx.port.base import Backend
from nnx.port.communicator import Communicator
from nnx.port.registry import Choice


def choose_of_rank(
    backend: str | Backend | None, device: str | None, precision: str | None, communicator: Communicator
) -> Choice:
    """Return a backend and why it was chosen (`nnx.port.registry.choose`), of several ranks on this machine's own GPU.

    Raises
    ------
    BackendError
        When the machine has more ranks than GPUs.
    """
    choose, local = registry.choose, communicator.local_size
    if (
        local == 1
        or isinstance(backend, Backend)
        or device not in (None, "cuda")
        or not registry.has_driver()
    ):
        return choose(backend, device, precision)
    own, why = f"cuda:{communicator.local_rank}", "no backend can use it"
    try:
        return choose(backend, own, precision)
    except (BackendError, InputError) as error:
        why = str(error)
    with suppress(BackendError):
        found = choose(backend, device, precision)
        if found.backend.device.partition(":")[0] != "cuda":
            return found  # of the CPU's
    raise BackendError(
        f"rank {communicator.rank} is number {communicator.local_rank} of {local} on its machine, and has no GPU "
        f"{own}: {why}. Start no more ranks on a machine than it has GPUs, or give device='cpu'"
    )
