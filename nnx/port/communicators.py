"""Choosing a communicator by its name."""

import logging
from typing import Any

from nnx.errors import BackendError, CommunicatorError, InputError, first_line, shown, unknown
from nnx.port import entry_points
from nnx.port.communicator import Communicator
from nnx.port.failures import watch
from nnx.support.rank_threads import limit_threads
from nnx.support.starting import ctrl_c_kept

GROUP = "nnx.communicators"
"""The entry-point group of all communicators, nnx's own and others."""

ALONE = "alone"

_log = logging.getLogger("nnx")
_made: dict[str, Communicator] = {}


def communicator(name: str | Communicator | None = None) -> Communicator:
    """Return a communicator, the same one for each call with its name. All ranks call this together.

    Parameters
    ----------
    name : {"alone", "mpi", "nccl"}, Communicator or None
        "mpi": the processes that mpiexec or a cluster's scheduler has started, by mpi4py. "nccl": the same, and CuPy's
        gradients are summed by NCCL. A name may be that of another installed package; a communicator is taken as it
        is. None: "alone", this process.

    Raises
    ------
    InputError
        For a name that no installed package provides.
    CommunicatorError
        When it does not work here: what is missing, and how to install it.

    Examples
    --------
    >>> communicator("alone").size
    1
    """
    if isinstance(name, Communicator):
        return name
    name = ALONE if name is None else name
    if not isinstance(name, str) or not 0 < len(name) <= 100:
        raise InputError(
            f"communicator must be a name, such as 'mpi', or an nnx.Communicator, not {shown(name)}"
        )
    if name not in _made:
        _made[name] = _load(name)
    return _made[name]


def _load(name: str) -> Communicator:
    entry = entry_points.entry(GROUP, name)
    if entry is None:
        raise unknown("communicator", name, entry_points.names(GROUP))
    try:
        with ctrl_c_kept():
            made: Any = entry.load()()
    except BackendError as error:
        raise CommunicatorError(f"communicator {name!r} cannot be used here: {error}") from error
    except Exception as error:  # of any package
        raise CommunicatorError(
            f"communicator {name!r} ({entry.value}) fails: {type(error).__name__}: {first_line(error)}"
        ) from error
    if not isinstance(made, Communicator):
        raise CommunicatorError(f"communicator {name!r} ({entry.value}) is no nnx.Communicator")
    if made.size > 1:
        watch(made)
        if made.threads is not None:
            limit_threads(made.threads)
    elif name != ALONE:
        _log.warning(
            "communicator %r has one rank, this process. To have four: mpiexec -n 4 python PROGRAM", name
        )
    return made
