"""The content of a model file: collected from a session, and given back to one."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nnx.array import host
from nnx.array.namespace import array_namespace
from nnx.errors import BackendError, DivergenceError, Error, InputError, ModelFileError, count, first_line
from nnx.io import container
from nnx.io.run_folder import CHECKPOINTS, MODEL, checkpoints, steps_of
from nnx.metrics.history import with_nan, without_nan
from nnx.model.outputs.custom import check_saved
from nnx.optimizers import describe as describe_optimizer
from nnx.port.base import Backend
from nnx.port.communicator import Communicator
from nnx.port.communicators import communicator as find_communicator
from nnx.port.precision import check_dtype, checked_precision
from nnx.port.rank_device import choose_of_rank
from nnx.port.registry import choose
from nnx.train import description
from nnx.train.description import Parts
from nnx.train.session import Session, flat_parameters
from nnx.train.stack_file import collect_callbacks, collect_members, tensors_of_members
from nnx.train.stack_session import StackSession

OURS = ("theta", "t", "alpha", "key", "decays")
"""The parts of the state that are not the optimizer's own."""


@dataclass(frozen=True)
class Saved:
    """The content of a model file, checked as a whole.

    Attributes
    ----------
    tensors : dict of arrays
    run : dict
        The description, of types that JSON has.
    parts : Parts
        The network, the optimizer and the regularization that the description is of.
    members : tuple of Saved
        Those of a trainer with members: their own tensors, runs and parts.
    """

    tensors: Mapping[str, Any]
    run: Mapping[str, Any]
    parts: Parts
    members: "tuple[Saved, ...]" = ()

    @property
    def steps(self) -> int:
        """The steps that are done; of members those of the one that has done the most."""
        return max(one.steps for one in self.members) if self.members else int(self.run["steps"])


def write(session: Session | StackSession, path: str | Path) -> None:
    """Write a session to one file, with the position of its fit, if one runs."""
    container.write(path, *collect(session, in_fit=True), version=version_of(session))


def version_of(session: Session | StackSession) -> int:
    """Return the version of the format of a session's file: an older nnx reads only those of one network."""
    return 2 if isinstance(session, StackSession) else 1


def collect(session: Session | StackSession, in_fit: bool = False) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a session as NumPy arrays by name, and a description of types that JSON has.

    With `in_fit` also the position of the fit that runs, and its callbacks' states. Of members each array has them as
    its first axis, and the description is a list of theirs.
    """
    if isinstance(session, StackSession):
        return collect_members(session, [collect(one, in_fit) for one in session.members], in_fit)
    if not isinstance(drawn := session.rng.bit_generator.state, Mapping):
        raise InputError(
            "the trainer of an estimator is neither saved nor copied: a model file holds neither scikit-learn's "
            "optimizers nor its random numbers. Take trainer.theta, or pickle the estimator after its fit"
        )
    check_saved(session.network.output)
    position, states = session.checkpoint() if in_fit and session.checkpoint is not None else (None, [])
    callback_arrays, callbacks = collect_callbacks(states)
    to_numpy, state = (
        session.backend.to_numpy,
        session.program.read(),
    )  # not kept: members' would fill the memory
    tensors = {**session.network.unflatten(host.copy(to_numpy(state["theta"])))}
    tensors |= {f"optimizer.{name}": to_numpy(x) for name, x in state.items() if name not in OURS}
    run = {
        "network": session.network.describe(),
        "optimizer": describe_optimizer(session.optimizer),
        "regularization": asdict(session.regularization),
        "dtype": session.dtype,
        "seed": session.seed,
        "steps": int(to_numpy(state["t"])),
        "alpha": float(to_numpy(state["alpha"])),
        "rng": drawn,
        "records": without_nan(session.records),
        "kept": session.kept,
        "metadata": session.metadata,
        "features": session.features,
        "targets": session.targets,
        "position": position,
        "callbacks": callbacks,
    }
    return tensors | callback_arrays, run


def read(path: str | Path) -> Saved:
    """Return the content of a model file.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    ModelFileError
        When it is damaged, no model of nnx, of a newer format, or its description is not as nnx writes it: the error
        names the newest good checkpoint beside it, if there is one.
    """
    path = Path(path)
    try:
        return _read(path)
    except ModelFileError as error:
        good = newest(path.parent, but=path) or newest(path.parent / CHECKPOINTS, but=path)
        if good is None:
            raise
        raise ModelFileError(f"{error}. The newest good checkpoint beside it is {str(good[0])!r}") from error


def _read(path: Path) -> Saved:
    tensors, run = container.read(path)
    try:
        return checked(tensors, run)
    except Exception as error:  # a file with odd content must not look like a fault of nnx
        raise not_loadable(path, error) from error


def not_loadable(path: str | Path, error: Exception) -> ModelFileError:
    """Return the error for a file whose parts are none of a run's, or do not fit together."""
    why = str(error) if isinstance(error, Error) else f"{type(error).__name__}: {first_line(error)}"
    return ModelFileError(f"{str(path)!r} does not describe a run that nnx can load: {why}")


def load(
    path: Path,
    backend: str | Backend,
    device: str | None,
    precision: str | None,
    communicator: str | Communicator | None = None,
) -> Session | StackSession:
    """Return the session of a model file, or of a folder's (`file_of`), on this backend: see `nnx.Trainer.load`."""
    path = file_of(path)
    found = read(path)
    dtype = (found.members[0] if found.members else found).run["dtype"]
    check_dtype(checked_precision(precision), dtype)
    ranks = find_communicator(communicator)
    chosen = choose_of_rank(backend, device, precision, ranks)
    check_dtype(chosen.backend.precision, dtype)
    try:
        session = make(found, chosen.backend)
    except BackendError:
        raise
    except Exception as error:  # whatever a file may hold, it must not look like a fault of the program
        raise not_loadable(path, error) from error
    session.reason, session.requested = chosen.reason, (backend, device, precision)
    session.communicator = ranks
    return session


def checked(tensors: Mapping[str, Any], run: Mapping[str, Any]) -> Saved:
    """Return the result of `collect`, checked as the content of a file."""
    if "members" not in run:
        return Saved(tensors, run, description.parts(run, tensors))
    members = tuple(map(checked, tensors_of_members(tensors, run), run["members"]))
    return Saved(tensors, run, members[0].parts, members)


def make(found: Saved, backend: Any) -> Session | StackSession:
    """Return the session that was saved."""
    if found.members:
        backend = choose(backend).backend
        sessions: Any = [make(one, backend) for one in found.members]
        stack = StackSession.of(sessions)
        stack.selection = found.run["selection"]
        for session, text in zip(sessions, found.run["errors"], strict=True):
            session.failure = None if text is None else DivergenceError(text)
        for session, untrained in zip(sessions, found.run.get("untrained", ()), strict=False):
            session.untrained = untrained
        return stack
    parts, run = found.parts, found.run
    theta = flat_parameters(parts.network, _parameters(found.tensors), run["dtype"])
    session = Session(
        parts.network,
        parts.optimizer,
        backend,
        dtype=run["dtype"],
        seed=run["seed"],
        regularization=parts.regularization,
        theta=theta,
    )
    restore(session, found.tensors, run)
    return session


def restore(session: Session, tensors: Mapping[str, Any], run: Mapping[str, Any]) -> None:
    """Give a session the parameters, the optimizer's memory, the random numbers and the records of a file.

    Nothing is changed unless all tensors fit.
    """
    asarray, dtype = session.backend.asarray, session.dtype
    theta = asarray(flat_parameters(session.network, _parameters(tensors), dtype), dtype)
    state = {"theta": theta, "t": asarray(run["steps"], "int32"), "alpha": asarray(run["alpha"], dtype)}
    own = {name: x for name, x in tensors.items() if name.startswith("optimizer.")}
    for name, first in session.optimizer.init(theta).items():
        x, shape = own.pop(f"optimizer.{name}", None), tuple(first.shape)
        if x is None or x.shape != shape:
            given = "is missing" if x is None else f"has shape {x.shape}"
            raise InputError(f"optimizer.{name} {given}; expected {shape}")
        host.check_finite(f"optimizer.{name}", x, dtype)
        integral = array_namespace(first).isdtype(first.dtype, "integral")
        state[name] = asarray(x, "int32" if integral else dtype)
    if own:
        raise InputError(f"{', '.join(own)} is not of the optimizer {session.optimizer!r}")
    session.load(state)
    session.rng.bit_generator.state = run["rng"]
    session.records = with_nan(run["records"])
    session.metadata = run["metadata"]
    session.features, session.targets = run.get("features"), run.get("targets")
    session.kept = run.get("kept")


def _parameters(tensors: Mapping[str, Any]) -> dict[str, Any]:
    return {name: x for name, x in tensors.items() if not name.startswith(("optimizer.", "callback."))}


def newest(folder: Path, but: Path | None = None, complain: bool = False) -> tuple[Path, Saved] | None:
    """Return the newest good checkpoint of a folder, and its content; None where there is none.

    `but` is passed over. With `complain` a warning is logged of each that is damaged.
    """
    for path in reversed(checkpoints(folder)):
        if path == but:
            continue
        try:
            found = _read(path)
            if found.steps != steps_of(path.name):
                raise ModelFileError(
                    f"{str(path)!r} holds a run after {count(found.steps, 'step')}: nnx gives it another name"
                )
        except ModelFileError as error:
            if complain:
                logging.getLogger("nnx").warning("%s; trying the checkpoint before", error)
            continue
        return path, found
    return None


def file_of(run: Path) -> Path:
    """Return the model file: of a folder its model, or the newest checkpoint of a run that was killed since.

    Raises
    ------
    InputError
        When there is none in the folder.
    """
    if not run.is_dir():
        return run
    model, found = run / MODEL, _newest_or_damaged(run / CHECKPOINTS) or _newest_or_damaged(run)
    if not model.is_file() and found is not None:
        return found
    if not model.is_file():
        inside = sorted(path.parent for path in run.glob(f"*/{MODEL}"))
        hint = (
            f"give one of the runs in it, such as {str(inside[0])!r}"
            if inside
            else "give the folder that `nnx train` named, or a model file"
        )
        raise InputError(
            f"the folder {str(run)!r} holds no run: there is no {MODEL} in it, and no checkpoint; {hint}"
        )
    if found is not None and found.stat().st_mtime_ns > model.stat().st_mtime_ns:
        steps = [read(path).steps for path in (model, found)]
        if steps[0] != steps[1]:  # else the run ended there, and a copy has the times of its copying
            return found
    return model


def _newest_or_damaged(folder: Path) -> Path | None:
    """Return the newest checkpoint of a folder, damaged or not; the caller reads it, and so gets the error."""
    for path in reversed(checkpoints(folder)):
        try:
            if read(path).steps == steps_of(path.name):
                return path
        except ModelFileError:
            return path
    return None


def none_readable(folder: Path, there: int, more: str = "") -> ModelFileError:
    """Return the error that none of a folder's checkpoints can be read; `more` says what beginning anew costs."""
    those = f"{count(there, 'checkpoint')} in {str(folder)!r}, and none can be read"
    return ModelFileError(f"{those}; remove them to begin anew{more}")
