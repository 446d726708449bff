"""What a model file holds of a trainer, and how a trainer takes it up again: to be used, or to go on."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnx.array import host
from nnx.array.namespace import array_namespace
from nnx.callbacks.base import Callback
from nnx.errors import BackendError, Error, InputError, ModelFileError, count, first_line
from nnx.io import container
from nnx.io.run_folder import CHECKPOINTS, MODEL, checkpoints, steps_of
from nnx.metrics.history import with_nan, without_nan
from nnx.model.layers import as_text
from nnx.optimizers import describe as describe_optimizer
from nnx.support.schema import check
from nnx.train import description
from nnx.train.description import Parts

if TYPE_CHECKING:
    from nnx.train.loop import Run
    from nnx.train.trainer import Trainer

OURS = ("theta", "t", "alpha", "key", "decays")
"""What the state holds beside the optimizer's own."""


@dataclass(frozen=True)
class Saved:
    """What a model file holds, checked as a whole.

    Attributes
    ----------
    tensors : dict of arrays
    run : dict
        The description, of types that JSON has.
    parts : Parts
        The network, the optimizer and the regularization that the description is of.
    """

    tensors: Mapping[str, Any]
    run: Mapping[str, Any]
    parts: Parts


def write(trainer: "Trainer", run: "Run | None", path: str | Path) -> None:
    """Write all that a trainer is, and where its fit stands, to one file."""
    container.write(path, *collect(trainer, run))


def collect(trainer: "Trainer", run: "Run | None") -> tuple[dict[str, Any], dict[str, Any]]:
    """Return all that a trainer is: NumPy arrays by name, and a description of types that JSON has."""
    to_numpy = trainer.backend.to_numpy
    own = {name: x for name, x in trainer.state.items() if name not in OURS}
    tensors = {**trainer.parameters, **{f"optimizer.{name}": to_numpy(x) for name, x in own.items()}}
    description: dict[str, Any] = {
        "network": trainer.network.describe(),
        "optimizer": describe_optimizer(trainer.optimizer),
        "regularization": asdict(trainer.regularization),
        "dtype": trainer.dtype,
        "seed": trainer.seed,
        "steps": trainer.steps,
        "alpha": float(to_numpy(trainer.state["alpha"])),
        "rng": trainer.rng.bit_generator.state,
        "records": without_nan(trainer.records),
        "kept": trainer.kept,
        "metadata": trainer.metadata,
        "features": trainer.features,
        "targets": trainer.targets,
        "position": None,
        "callbacks": [],
    }
    if run is not None:
        description["position"] = run.position()
        for i, (name, state) in enumerate(run.callbacks.states()):
            arrays = {key: x for key, x in state.items() if hasattr(x, "dtype")}
            tensors |= {f"callback.{i}.{key}": x for key, x in arrays.items()}
            plain = {key: x for key, x in state.items() if key not in arrays}
            description["callbacks"].append({"name": name, "state": plain, "arrays": sorted(arrays)})
    return tensors, description


def read(path: str | Path) -> Saved:
    """Return what a model file holds.

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
        return Saved(tensors, run, description.parts(run, tensors))
    except Exception as error:  # a file with odd content must not look like a fault of nnx
        raise not_loadable(path, error) from error


def not_loadable(path: str | Path, error: Exception) -> ModelFileError:
    """Return the error for a file whose parts are none of a run's, or do not fit together."""
    why = str(error) if isinstance(error, Error) else f"{type(error).__name__}: {first_line(error)}"
    return ModelFileError(f"{str(path)!r} does not describe a run that nnx can load: {why}")


def unpickled(tensors: Mapping[str, Any], run: Mapping[str, Any], backend: Any = "auto") -> "Trainer":
    """Return a trainer from what `collect` returned, on a backend: as a pickle, the one that "auto" takes here."""
    from nnx.train.trainer import Trainer

    return make(Saved(tensors, run, description.parts(run, tensors)), Trainer, backend)


def make(found: Saved, kind: Any, backend: Any) -> "Trainer":
    """Return the trainer that was saved."""
    parts, run = found.parts, found.run
    made: Trainer = kind.__new__(kind)
    made.prepare(
        parts.network, parts.optimizer, backend, None, run["dtype"], run["seed"], parts.regularization
    )
    restore(made, found.tensors, run)
    return made


def restore(trainer: "Trainer", tensors: Mapping[str, Any], run: Mapping[str, Any]) -> None:
    """Give a trainer the parameters, the optimizer's memory, the random numbers and the records of a file."""
    own = {name: x for name, x in tensors.items() if name.startswith("optimizer.")}
    trainer.parameters = {
        name: x for name, x in tensors.items() if name not in own and not name.startswith("callback.")
    }
    for name, first in trainer.optimizer.init(trainer.state["theta"]).items():
        x, shape = own.pop(f"optimizer.{name}", None), tuple(first.shape)
        if x is None or x.shape != shape:
            given = "is missing" if x is None else f"has shape {x.shape}"
            raise InputError(f"optimizer.{name} {given}; expected {shape}")
        host.check_finite(f"optimizer.{name}", x, trainer.dtype)
        integral = array_namespace(first).isdtype(first.dtype, "integral")
        trainer.state[name] = trainer.backend.asarray(x, "int32" if integral else trainer.dtype)
    if own:
        raise InputError(f"{', '.join(own)} is not of the optimizer {trainer.optimizer!r}")
    trainer.state["t"] = trainer.backend.asarray(run["steps"], "int32")
    trainer.state["alpha"] = trainer.backend.asarray(run["alpha"], trainer.dtype)
    trainer.rng.bit_generator.state = run["rng"]
    trainer.records = with_nan(run["records"])
    trainer.metadata = run["metadata"]
    trainer.features, trainer.targets = run.get("features"), run.get("targets")
    trainer.kept = run.get("kept")


def newest(folder: Path, but: Path | None = None, complain: bool = False) -> tuple[Path, Saved] | None:
    """Return the newest good checkpoint of a folder, and what it holds; None where there is none.

    `but` is passed over. With `complain` a warning is logged of each that is damaged.
    """
    for path in reversed(checkpoints(folder)):
        if path == but:
            continue
        try:
            found = _read(path)
            if found.run["steps"] != steps_of(path.name):
                raise ModelFileError(
                    f"{str(path)!r} holds a run after {count(found.run['steps'], 'step')}: nnx gives it another name"
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
    model, found = run / MODEL, _newest(run / CHECKPOINTS) or _newest(run)
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
        steps = [read(path).run["steps"] for path in (model, found)]
        if steps[0] != steps[1]:  # else the run ended there, and a copy has the times of its copying
            return found
    return model


def _newest(folder: Path) -> Path | None:
    """Return the newest checkpoint of a folder, also a damaged one: reading it raises the error that says so."""
    for path in reversed(checkpoints(folder)):
        try:
            if read(path).run["steps"] == steps_of(path.name):
                return path
        except ModelFileError:
            return path
    return None


def resume(trainer: "Trainer", run: "Run", path: Path) -> None:
    """Take up the fit that a checkpoint, or the newest good one in a folder (or a run's), was written in.

    Raises
    ------
    FileNotFoundError
        When there is no such file. (A folder without one is a fit that begins.)
    InputError
        When it is of another network, optimizer, or fit: what differs.
    ModelFileError
        When it cannot be read.
    """
    if path.suffix == ".safetensors":
        _take_up(trainer, run, path, read(path))
        return
    own = path / CHECKPOINTS  # of a run's folder
    folder = own if checkpoints(own) and not checkpoints(path) else path
    if found := newest(folder, complain=True):
        _take_up(trainer, run, *found)
    elif there := len(checkpoints(folder)):
        raise none_readable(folder, there)
    else:
        logging.getLogger("nnx").info("there is no checkpoint in %r yet: the fit begins", str(path))


def none_readable(folder: Path, there: int, more: str = "") -> ModelFileError:
    """Return the error that none of a folder's checkpoints can be read; `more`: what it costs to begin anew."""
    those = f"{count(there, 'checkpoint')} in {str(folder)!r}, and none can be read"
    return ModelFileError(f"{those}; remove them to begin anew{more}")


def _take_up(trainer: "Trainer", run: "Run", path: Path, found: Saved) -> None:
    tensors, saved = found.tensors, found.run
    where = f"the checkpoint {str(path)!r}"
    differs = difference(saved["network"], trainer.network.describe())
    if differs:
        raise InputError(f"{where} is of another network: {differs}")
    ours = {
        "optimizer": describe_optimizer(trainer.optimizer),
        "regularization": asdict(trainer.regularization),
        "dtype": trainer.dtype,
        "seed": trainer.seed,
    }
    for name, mine in ours.items():
        if _plain(saved.get(name, {})) != _plain(mine):
            raise InputError(
                f"{where} has the {name} {saved.get(name)!r}, this trainer {mine!r}; they must be equal"
            )
    position = saved.get("position")
    if position is None:
        raise InputError(
            f"{where} was not written in a fit, so there is none to resume; nnx.Trainer.load goes on from it"
        )
    callbacks = saved.get("callbacks", [])
    names, own = [one["name"] for one in callbacks], [name for name, _ in run.callbacks.remembering]
    if names != own:
        raise InputError(
            f"{where} was written with the callbacks {', '.join(names) or 'none'}, this fit has "
            f"{', '.join(own) or 'none'} of those that have a state, which would be lost. Give the same ones"
        )
    states = [
        {**one["state"], **{key: tensors[f"callback.{i}.{key}"] for key in one["arrays"]}}
        for i, one in enumerate(callbacks)
    ]
    run.check(position, str(path))
    before = trainer.state
    try:
        for state, (name, callback) in zip(states, run.callbacks.remembering, strict=True):
            _check_state(trainer, state, name, callback)
        restore(trainer, tensors, saved)
    except Exception as error:
        trainer.state = before
        if isinstance(error, BackendError):
            raise
        raise not_loadable(path, error) from error
    run.restore(position)
    run.callbacks.restore(states)


def _check_state(trainer: "Trainer", state: Mapping[str, Any], name: str, callback: Callback) -> None:
    if expected := callback.expects(trainer, state):
        check(f"the state of {name}", state, expected)


def _plain(x: Any) -> Any:
    """Return x with lists for tuples, as JSON has them."""
    if isinstance(x, Mapping):
        return {key: _plain(value) for key, value in x.items()}
    return [_plain(value) for value in x] if isinstance(x, list | tuple) else x


def _learned(layer: Any) -> Any:
    """Return a layer's description without how its weights begin: those of a fit that goes on have begun."""
    if isinstance(layer, list):
        return [_learned(one) for one in layer]
    if not isinstance(layer, Mapping):
        return layer
    return {name: _learned(value) for name, value in layer.items() if name != "init"}


def difference(saved: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    """Say where two networks' descriptions differ first; nothing if they do not, but for how their weights began.

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
        if _learned(_plain(a)) != _learned(_plain(b)):
            return f"layer {l} of {len(there)} is {as_text(a)} there and {as_text(b)} here"
    if len(there) != len(here):
        return f"it has {len(there)} layers, this one has {len(here)}"
    for name in ("output", "loss"):
        if saved.get(name) != own.get(name):
            return f"its {name} is {saved.get(name)!r}, this one's {own.get(name)!r}"
    return ""
