"""A fit goes on from a checkpoint of the same network, optimizer, data and arguments."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from nnx.callbacks.base import Callbacks
from nnx.errors import BackendError, InputError, ModelFileError, count
from nnx.io.run_folder import CHECKPOINTS, checkpoints
from nnx.model.layers import as_text
from nnx.optimizers import describe as describe_optimizer
from nnx.support.schema import check
from nnx.train.model_file import Saved, collect, newest, none_readable, not_loadable, read, restore
from nnx.train.ranks import check_resumed
from nnx.train.session import Session


class Resumed(Protocol):
    """A fit that can go on from a checkpoint: the loop of one network, or a member's part of a stack's."""

    plan: dict[str, Any]
    callbacks: Callbacks
    batches: Any

    def restore(self, position: Mapping[str, Any]) -> None:
        """Go on from a position that was checked."""


def resume(session: Session, loop: Resumed, path: Path) -> None:
    """Take up the fit that a checkpoint, or the newest good one in a folder (or a run's), was written in.

    See `checkpoint_of`.

    Raises
    ------
    InputError
        When it is of another network, optimizer, or fit. The message says where they differ. When the ranks of a run
        have read different ones.
    ModelFileError
        When it cannot be read.
    """
    found = checkpoint_of(path)
    check_resumed(session.communicator, found and found[1])
    if found:
        path, saved = found
        if saved.members:
            raise InputError(
                f"the checkpoint {str(path)!r} is of a trainer with {len(saved.members)} members, and this one has one "
                f"network: make it with members={len(saved.members)}"
            )
        take_up([(path, session, loop, saved)])


def checkpoint_of(path: Path) -> tuple[Path, Saved] | None:
    """Return a checkpoint, or the newest good one in a folder (or a run's), and its content; None: there is none yet.

    Raises
    ------
    FileNotFoundError
        When there is no such file. (A folder without one is a fit that begins.)
    ModelFileError
        When it cannot be read.
    """
    if path.suffix == ".safetensors":
        return path, read(path)
    own = path / CHECKPOINTS  # of a run's folder
    folder = own if checkpoints(own) and not checkpoints(path) else path
    if found := newest(folder, complain=True):
        return found
    if there := len(checkpoints(folder)):
        raise none_readable(folder, there)
    logging.getLogger("nnx").info("there is no checkpoint in %r yet: the fit begins", str(path))
    return None


def take_up(
    fits: Sequence[tuple[Path, Session, Resumed, Saved]],
    of_all: Sequence[tuple[Path, Callbacks, Saved]] = (),
) -> None:
    """Let fits go on from checkpoints and their contents: that of one network, or of all members. All or none do.

    `of_all` are the callbacks of all members, and the content that has their states.
    """
    _check_fits(fits)
    where, before = fits[0][0], [collect(session) for _, session, _, _ in fits]
    known = [*((path, loop.callbacks, saved) for path, _, loop, saved in fits), *of_all]
    states = [_states_of(path, callbacks, saved.tensors, saved.run) for path, callbacks, saved in known]
    try:
        for at, session, _, saved in fits:
            where = at
            restore(session, saved.tensors, saved.run)
    except BackendError:
        raise
    except Exception as error:
        for (_, session, _, _), own in zip(fits, before, strict=True):
            restore(session, *own)
        raise not_loadable(where, error) from error
    for _, _, loop, saved in fits:
        loop.restore(saved.run["position"])
    for (_, callbacks, _), its in zip(known, states, strict=True):
        callbacks.restore(its)


def _check_fits(fits: Sequence[tuple[Path, Session, Resumed, Saved]]) -> None:
    """Raise an InputError unless the checkpoints are of these fits: of their networks, arguments and data."""
    for path, session, loop, saved in fits:
        said = f"the checkpoint {str(path)!r}"
        _check_parts(session, saved.run, said)
        if saved.run.get("position") is None:
            raise InputError(
                f"{said} was not written in a fit, so there is none to resume; nnx.Trainer.load goes on from it"
            )
        _check_position(loop, saved.run["position"], str(path))


def _states_of(
    path: Path, callbacks: Callbacks, tensors: Mapping[str, Any], run: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return the states in a checkpoint of those of these callbacks that have one.

    Raises
    ------
    InputError
        When it was written with other callbacks.
    ModelFileError
        When a state is none of its callback's.
    """
    saved, remembering = run.get("callbacks", []), callbacks.remembering
    names, own = [one["name"] for one in saved], [name for name, _ in remembering]
    if names != own:
        raise InputError(
            f"the checkpoint {str(path)!r} was written with the callbacks {', '.join(names) or 'none'}, this fit has "
            f"{', '.join(own) or 'none'} of those that have a state, which would be lost. Give the same ones"
        )
    states = [
        {**one["state"], **{key: tensors[f"callback.{i}.{key}"] for key in one["arrays"]}}
        for i, one in enumerate(saved)
    ]
    try:
        for state, (name, callback) in zip(states, remembering, strict=True):
            if expected := callback.expects(callbacks.trainer, state):
                check(f"the state of {name}", state, expected)
    except Exception as error:
        raise not_loadable(path, error) from error
    return states


def _check_parts(session: Session, saved: Mapping[str, Any], where: str) -> None:
    """Raise an InputError unless a checkpoint is of the session's network, optimizer, dtype and seed."""
    differs = difference(saved["network"], session.network.describe())
    if differs:
        raise InputError(f"{where} is of another network: {differs}")
    ours = {
        "optimizer": describe_optimizer(session.optimizer),
        "regularization": asdict(session.regularization),
        "dtype": session.dtype,
        "seed": session.seed,
    }
    for name, mine in ours.items():
        if _plain(saved.get(name, {})) != _plain(mine):
            raise InputError(
                f"{where} has the {name} {saved.get(name)!r}, this trainer {mine!r}; they must be equal"
            )


def _check_position(loop: Resumed, position: Mapping[str, Any], where: str) -> None:
    """Raise an InputError unless a position, in a file, is of this fit: which of its arguments differ."""
    for name, value in {**dict.fromkeys(loop.plan), **position["plan"]}.items():
        if value != loop.plan.get(name):
            raise InputError(
                f"the checkpoint is of a fit with {name} = {value!r}, this one has {loop.plan.get(name)!r}; "
                "only the same data and arguments can be gone on with (or leave out resume)"
            )
    steps = loop.batches.steps
    if steps is not None and position["step"] > steps:
        raise ModelFileError(
            f"{where!r} stands at step {position['step']} of an epoch; this fit's have {count(steps, 'step')}"
        )


def _plain(x: Any) -> Any:
    """Return x with lists for tuples, as JSON has them."""
    if isinstance(x, Mapping):
        return {key: _plain(value) for key, value in x.items()}
    return [_plain(value) for value in x] if isinstance(x, list | tuple) else x


def _without_init(layer: Any) -> Any:
    """Return a layer's description without its initializer: a fit that goes on has no use for it."""
    if isinstance(layer, list):
        return [_without_init(one) for one in layer]
    if not isinstance(layer, Mapping):
        return layer
    return {name: _without_init(value) for name, value in layer.items() if name != "init"}


def difference(saved: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    """Return the first difference of two networks' descriptions; "" for none. First weights may differ.

    Examples
    --------
    >>> from nnx import mlp
    >>> difference(mlp([4, 8, 1]).describe(), mlp([4, 6, 1]).describe())
    'layer 1 of 2 is Dense(8, relu) there and Dense(6, relu) here'
    """
    if saved["n_features"] != own["n_features"]:
        return f"it has {saved['n_features']} features, this one has {own['n_features']}"
    there, here = saved["layers"], own["layers"]
    for l, (a, b) in enumerate(zip(there, here, strict=False), 1):
        if _without_init(_plain(a)) != _without_init(_plain(b)):
            return f"layer {l} of {len(there)} is {as_text(a)} there and {as_text(b)} here"
    if len(there) != len(here):
        return f"it has {len(there)} layers, this one has {len(here)}"
    for name in ("output", "loss"):
        if saved.get(name) != own.get(name):
            return f"its {name} is {saved.get(name)!r}, this one's {own.get(name)!r}"
    return ""
