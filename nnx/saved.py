"""What a model file holds of a trainer, and how a trainer takes it up again: to be used, or to go on."""

import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnx import checkpoint, host
from nnx.arrays import array_namespace
from nnx.errors import InputError, ModelFileError, count
from nnx.network import Network, shown
from nnx.optimizers import describe as describe_optimizer
from nnx.optimizers import optimizer as find_optimizer
from nnx.progress import with_nan, without_nan
from nnx.regularization import Regularization

if TYPE_CHECKING:
    from nnx.run import Run
    from nnx.trainer import Trainer

OURS = ("theta", "t", "alpha", "key", "decays")
"""What the state holds beside the optimizer's own."""


def write(trainer: "Trainer", run: "Run | None", path: str | Path) -> None:
    """Write all that a trainer is, and where its fit stands, to one file."""
    checkpoint.write(path, *collect(trainer, run))


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
        "metadata": trainer.metadata,
        "features": trainer.features,
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


def unpickled(tensors: Mapping[str, Any], run: Mapping[str, Any], backend: Any = "auto") -> "Trainer":
    """Return a trainer from what `collect` returned, on a backend: as a pickle, the one that "auto" takes here."""
    from nnx.trainer import Trainer

    trainer = make(run, Trainer, backend)
    restore(trainer, tensors, run)
    return trainer


def make(run: Mapping[str, Any], kind: Any, backend: Any) -> "Trainer":
    """Return a trainer as the description has it, before its parameters are restored."""
    regularization = Regularization(**run.get("regularization", {}))
    network, optimizer = Network.from_description(run["network"]), find_optimizer(**run["optimizer"])
    made: Trainer = kind.__new__(kind)
    made.prepare(network, optimizer, backend, None, run["dtype"], run["seed"], regularization)
    return made


def restore(trainer: "Trainer", tensors: Mapping[str, Any], run: Mapping[str, Any]) -> None:
    """Give a trainer the parameters, the optimizer's memory, the random numbers and the records of a file."""
    for name, kind in (("steps", int), ("alpha", float), ("records", list), ("metadata", dict)):
        if type(run[name]) is not kind:
            raise InputError(f"{name} is {run[name]!r}; expected {kind.__name__}")
    if run["steps"] < 0 or not all(isinstance(record, dict) for record in run["records"]):
        raise InputError("steps must be >= 0, records a list of objects")
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
    trainer.features = run.get("features")


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, step-NNNNNNNN.safetensors, oldest first."""
    return sorted(folder.glob("step-*.safetensors"), key=lambda path: (len(path.name), path.name))


def resume(trainer: "Trainer", run: "Run", path: Path) -> None:
    """Take up the fit that a checkpoint, or the newest readable one in a folder, was written in.

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
        _take_up(trainer, run, path, *checkpoint.read(path))
        return
    files = checkpoints(path)
    if not files:
        logging.getLogger("nnx").info("there is no checkpoint in %r yet: the fit begins", str(path))
    for file in reversed(files):
        try:
            found = checkpoint.read(file)
        except ModelFileError as error:  # damaged after it was written: an earlier one will do
            logging.getLogger("nnx").warning("%s; trying the checkpoint before", error)
            continue
        _take_up(trainer, run, file, *found)
        return
    if files:
        raise none_readable(path, len(files))


def none_readable(folder: Path, there: int, more: str = "") -> ModelFileError:
    """Return the error that none of a folder's checkpoints can be read; `more`: what it costs to begin anew."""
    those = f"{count(there, 'checkpoint')} in {str(folder)!r}, and none can be read"
    return ModelFileError(f"{those}; remove them to begin anew{more}")


def _take_up(
    trainer: "Trainer", run: "Run", path: Path, tensors: Mapping[str, Any], saved: Mapping[str, Any]
) -> None:
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
        if _plain(saved[name]) != _plain(mine):
            raise InputError(
                f"{where} has the {name} {saved[name]!r}, this trainer {mine!r}; they must be equal"
            )
    position = saved.get("position")
    if position is None:
        raise InputError(
            f"{where} was not written in a fit, so there is none to resume; nnx.Trainer.load goes on from it"
        )
    names, own = [one["name"] for one in saved["callbacks"]], [name for name, _ in run.callbacks.remembering]
    if names != own:
        raise InputError(
            f"{where} was written with the callbacks {', '.join(names) or 'none'}, this fit has "
            f"{', '.join(own) or 'none'} of those that have a state, which would be lost. Give the same ones"
        )
    restore(trainer, tensors, saved)
    run.restore(position)
    run.callbacks.restore(
        {**one["state"], **{key: tensors[f"callback.{i}.{key}"] for key in one["arrays"]}}
        for i, one in enumerate(saved["callbacks"])
    )


def _plain(x: Any) -> Any:
    """Return x with lists for tuples, as JSON has them."""
    if isinstance(x, Mapping):
        return {key: _plain(value) for key, value in x.items()}
    return [_plain(value) for value in x] if isinstance(x, list | tuple) else x


def difference(saved: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    """Say where two networks' descriptions differ first; nothing if they do not.

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
        if _plain(a) != _plain(b):
            return f"layer {l} of {len(there)} is {shown(a)} there and {shown(b)} here"
    if len(there) != len(here):
        return f"it has {len(there)} layers, this one has {len(here)}"
    for name in ("output", "loss"):
        if saved.get(name) != own.get(name):
            return f"its {name} is {saved.get(name)!r}, this one's {own.get(name)!r}"
    return ""
