"""From where a training goes on, and whether it may."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnx.cli import config, parts
from nnx.cli.folder import CONFIG
from nnx.cli.training import Training
from nnx.data.prepare import Preparation
from nnx.errors import InputError, count
from nnx.io import run_folder
from nnx.io.run_folder import CHECKPOINTS, MODEL
from nnx.port.precision import FLOAT32
from nnx.train import model_file
from nnx.train.model_file import Saved


def going_on(training: Training, folder: Path) -> str:
    """Return where the run goes on from, in words.

    Raises
    ------
    InputError
        When its checkpoint was written with other data, as far as the preparation tells. When it has done more epochs
        than the options ask for, or its schedule would be another one.
    """
    good = model_file.newest(folder / CHECKPOINTS)  # `fit` warns of others
    if good is None:
        if there := len(run_folder.checkpoints(folder / CHECKPOINTS)):
            cost = f", which writes over {MODEL} there: take a copy of it before"
            raise model_file.none_readable(folder / CHECKPOINTS, there, cost)
        return f"{folder} from its beginning, for it has no checkpoint yet"
    path, found, epochs = good[0], _of_the_last(good[1]), training.options.epochs
    _check_data(training, folder, found["metadata"])
    position = found.get("position")
    if position is None:
        raise InputError(f"{str(path)!r} was not written in a run, so there is none to go on with; remove it")
    done = len(found["records"])
    if done > epochs:
        raise InputError(
            f"the run {str(folder)!r} has done {count(done, 'epoch')} already; give more with --epochs, not {epochs}"
        )
    _check_schedule(training, folder, found["optimizer"].get("learning_rate"))
    changed = _changed(training, folder)
    where = f"epoch {done}" + (f", step {position['step']} of the next" if position["step"] else "")
    if position["stopped"] is not None:
        over = f"its training is over: {position['stopped']}"
        return f"{folder} after {where}; {over}, and more epochs would not go on"
    if done == epochs:
        return f"{folder}; its training is over: {where} was the last. --epochs asks for more"
    return f"{folder} after {where}, of {epochs}{changed}"


def _of_the_last(saved: Saved) -> Mapping[str, Any]:
    """Return the description of the run; of members that of one that still trains, or that has trained longest."""
    if not saved.members:
        return saved.run

    def place(run: Mapping[str, Any]) -> tuple[bool, int]:
        return (run.get("position") or {"stopped": None})["stopped"] is None, len(run["records"])

    left = [one.run for one, error in zip(saved.members, saved.run["errors"], strict=True) if error is None]
    return max(left or [one.run for one in saved.members], key=place)


def _changed(training: Training, folder: Path) -> str:
    """Return which backend and precision the run has had before, where they are others from here on."""
    before, backend = config.read(folder / CONFIG)[0], training.trainer.backend
    pairs = (
        ("backend", backend.name, before.get("backend", backend.name)),
        ("precision", backend.precision, before.get("precision", FLOAT32)),
    )
    return "".join(f"; from here on {name} {now}, before {had}" for name, now, had in pairs if now != had)


def _check_data(training: Training, folder: Path, metadata: Mapping[str, Any]) -> None:
    """Raise an InputError unless the samples are those that the run began with."""
    mine = training.trainer.metadata["preparation"]
    written = metadata.get("preparation", {})
    begun = Preparation.of(metadata).describe() if written else None
    if begun:  # an earlier version wrote less
        begun |= {name: value for name, value in mine.items() if name not in written}
    if json.dumps(begun) != json.dumps(mine):
        raise InputError(
            f"the data {training.options.data!r} are not those that the run {str(folder)!r} began with: its scaling, "
            "its columns or its labels differ. Give it the same data, or train anew"
        )
    before = parts.read(metadata)  # empty for an earlier version
    for name in parts.NAMES:
        if name in before and before[name] != training.data.parts[name]:
            raise InputError(
                f"the {name} part is not the one that the run {str(folder)!r} began with: its samples differ. Give it "
                "the same samples, or train anew"
            )


def _check_schedule(training: Training, folder: Path, saved: Any) -> None:
    """Raise an InputError if a schedule was laid out over another number of steps."""
    if not isinstance(saved, dict) or "steps" not in saved:
        return
    if getattr(training.trainer.optimizer.learning_rate, "steps", None) != saved["steps"]:
        raise InputError(
            f"the schedule {training.options.schedule!r} was laid out over the steps of the run {str(folder)!r}, so "
            "that its --epochs cannot be changed; train anew with more"
        )
