"""What the ranks of a fit agree on: they make the same decisions, from the same numbers.

The costs and the state of all ranks are equal, since each step adds up what all have computed. Times are not, nor what
a callback asks for. So the ranks take over such numbers from one of them, always at the same place in the fit.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from nnx.array.hashes import hash_of
from nnx.batches import Provider
from nnx.errors import CommunicatorError, InputError, shown
from nnx.optimizers import describe as describe_optimizer
from nnx.optimizers.lbfgs import LBFGS
from nnx.port.agreement import ranks_that, text_of
from nnx.port.communicator import Communicator
from nnx.train.model_file import Saved
from nnx.train.session import Session
from nnx.version import __version__

HASHED = "parameters", "samples or weights", "validation samples"
"""Of these a hash is compared, which says nothing to people."""


def agree_on_end(session: Session) -> bool:
    """Return whether the fit ends: on all ranks, if one of them has been told to stop."""
    communicator = session.communicator
    if communicator.size == 1:
        return session.stopped is not None
    if stopping := ranks_that(communicator, session.stopped is not None):
        session.stopped = text_of(communicator, stopping[0], session.stopped or "")
    return bool(stopping)


def check_resumed(communicator: Communicator, found: Saved | None) -> None:
    """Raise an InputError unless all ranks have read the same checkpoint, or none."""
    if communicator.size > 1 and (differ := _others(communicator, "" if found is None else _hash(found))):
        raise InputError(
            f"rank {differ[0]} goes on from another checkpoint than rank 0, or from none; give a folder on a disk that "
            "all ranks see"
        )


def check_state(session: Session) -> None:
    """Raise a CommunicatorError unless all ranks have the same parameters, learning rate and steps."""
    communicator = session.communicator
    if communicator.size > 1 and (differ := _others(communicator, _hash_of_state(session))):
        raise CommunicatorError(
            f"rank {differ[0]} has other parameters than rank 0 after epoch {len(session.records)}: all do the same "
            "steps, so a callback has changed them on some ranks only, or the ranks' processors or libraries differ"
        )


def _others(communicator: Communicator, own: str) -> list[int]:
    """Return the ranks whose text is another one than that of rank 0."""
    return ranks_that(communicator, text_of(communicator, 0, own) != own)


def _hash_of_state(session: Session) -> str:
    """Return a hash of the parameters, the learning rate and the number of steps."""
    state = session.read("theta", "alpha", "t")
    return hash_of(map(session.backend.to_numpy, state.values()))


def _hash(saved: Saved) -> str:
    """Return a hash of the content of a file."""
    return hash_of(saved.tensors.values()) + json.dumps(saved.run, sort_keys=True, default=repr)


def check_kind(communicator: Communicator, is_iterable: bool) -> None:
    """Raise an InputError unless all ranks hand in an iterable of batches, or all X and Y."""
    if communicator.size > 1 and (found := ranks_that(communicator, is_iterable)):
        others = [rank for rank in range(communicator.size) if rank not in found]
        if others:
            raise InputError(
                f"rank {found[0]} hands in an iterable of batches, rank {others[0]} X and Y; all ranks must hand in "
                "the same kind"
            )


def check_alike(
    session: Session,
    epochs: int,
    callbacks: list[str],
    plan: Mapping[str, Any],
    samples: Provider,
    validation: Provider | None,
) -> None:
    """Raise an InputError unless the fit that begins is the same on all ranks. The message names the first difference.

    Parameters
    ----------
    session : Session
    epochs : int
    callbacks : list of str
        Their names.
    plan : dict
        As of `FitLoop`: the number of samples, batch_size, ...
    samples, validation : Provider
        Of which some are compared.
    """
    communicator = session.communicator
    if communicator.size == 1:
        return
    if isinstance(session.optimizer, LBFGS):
        raise InputError(
            "L-BFGS cannot be used on several ranks: its line search looks at the whole cost on one; use Adam, or one "
            "rank"
        )
    own = _plain(
        {
            "nnx": __version__,
            "backend": session.backend.name,
            "precision": session.backend.precision,
            "network": session.network.describe(),
            "optimizer": describe_optimizer(session.optimizer),
            "regularization": asdict(session.regularization),
            "dtype": session.dtype,
            "seed": session.seed,
            "shuffles": session.rng.bit_generator.state,
            "parameters": _hash_of_state(session),
            "epochs": epochs,
            "callbacks": callbacks,
            **plan,
            "samples or weights": samples.fingerprint,
            "validation samples": "" if validation is None else validation.fingerprint,
        }
    )
    first = json.loads(text_of(communicator, 0, json.dumps(own)))
    said = _difference(communicator.rank, own, first)
    if differ := ranks_that(communicator, bool(said)):
        raise InputError(text_of(communicator, differ[0], said))


def _plain(x: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(x, default=repr))


def _difference(rank: int, own: Mapping[str, Any], first: Mapping[str, Any]) -> str:
    """Return the first difference of two descriptions of a fit; "" for none."""
    for name in dict.fromkeys([*first, *own]):
        if own.get(name) != first.get(name):
            differs = f"{name} = {shown(own.get(name))}, rank 0 has {shown(first.get(name))}"
            if name in HASHED:
                differs = f"other {name} than rank 0"
            return (
                f"rank {rank} has {differs}; all ranks must train the same network, in the same way, on the same "
                "samples"
            )
    return ""
