"""What the ranks of a fit agree on: they make the same decisions, from the same numbers.

The costs and the state of all ranks are equal, since each step adds up what all have computed. Times are not, nor what
a callback asks for. So the ranks take over such numbers from one of them, always at the same place in the fit.
"""

import hashlib
import json
from array import array
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from nnx.array import host
from nnx.errors import CommunicatorError, InputError, shown
from nnx.optimizers import describe as describe_optimizer
from nnx.optimizers.lbfgs import LBFGS
from nnx.port.communicator import Communicator
from nnx.support.tree import leaves, mapped
from nnx.train.session import Session
from nnx.version import __version__


def of_first(communicator: Communicator, numbers: Any) -> Any:
    """Return a tree of numbers, of one form on all ranks, with those of rank 0."""
    if communicator.size == 1:
        return numbers
    vector = array("d", leaves(numbers))
    communicator.broadcast(vector)
    its = iter(vector)
    return mapped(numbers, lambda leaf: type(leaf)(next(its)))


def text_of(communicator: Communicator, root: int, text: str) -> str:
    """Return the text of one rank."""
    data = bytearray(text.encode())
    length = array("q", [len(data)])
    communicator.broadcast(length, root)
    if communicator.rank != root:
        data = bytearray(length[0])
    communicator.broadcast(data, root)
    return data.decode()


def ranks_that(communicator: Communicator, answer: bool) -> list[int]:
    """Return the ranks whose answer is True, ascending."""
    answers = array("q", [0] * communicator.size)
    answers[communicator.rank] = int(answer)
    communicator.sum(answers)
    return [rank for rank, yes in enumerate(answers) if yes]


def agree_on_end(session: Session) -> None:
    """Let the fit end on all ranks if a callback of one of them has said so."""
    communicator = session.communicator
    if communicator.size > 1 and (stopping := ranks_that(communicator, session.stopped is not None)):
        session.stopped = text_of(communicator, stopping[0], session.stopped or "")


def check_resumed(session: Session) -> None:
    """Raise an InputError unless all ranks go on from the same checkpoint."""
    if differ := _others(session):
        raise InputError(
            f"rank {differ[0]} goes on from another checkpoint than rank 0, or from none; give a folder on a disk that "
            "all ranks see"
        )


def check_state(session: Session) -> None:
    """Raise a CommunicatorError unless all ranks have the same parameters, learning rate and steps."""
    if differ := _others(session):
        raise CommunicatorError(
            f"rank {differ[0]} has other parameters than rank 0 after epoch {len(session.records)}: all do the same "
            "steps, so a callback has changed them on some ranks only, or the ranks' processors or libraries differ"
        )


def _others(session: Session) -> list[int]:
    """Return the ranks that have other parameters than rank 0, another learning rate or other steps."""
    communicator = session.communicator
    if communicator.size == 1:
        return []
    own = _hash(session)
    return ranks_that(communicator, text_of(communicator, 0, own) != own)


def _hash(session: Session) -> str:
    """Return a hash of the parameters, the learning rate and the number of steps."""
    found, state = hashlib.blake2b(digest_size=16), session.read("theta", "alpha", "t")
    for x in state.values():
        found.update(host.copy(session.backend.to_numpy(x)).tobytes())
    return found.hexdigest()


def check_alike(
    session: Session, epochs: int, callbacks: list[str], plan: Mapping[str, Any], samples: str
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
    samples : str
        A hash of some samples.
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
            "parameters": _hash(session),
            "epochs": epochs,
            "callbacks": callbacks,
            **plan,
            "samples": samples,
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
            return (
                f"rank {rank} has {name} = {shown(own.get(name))}, rank 0 has {shown(first.get(name))}; all ranks must "
                "train the same network, in the same way, on the same samples"
            )
    return ""
