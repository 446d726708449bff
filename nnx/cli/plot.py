"""`nnx plot`: the pictures of a run again, or of several runs in one, from their folders alone."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nnx import plots
from nnx.cli import show, sweep_results
from nnx.cli.folder import HISTORY, RESULTS, is_run
from nnx.cli.inputs import UsageError, refuse_existing, typed
from nnx.cli.model import measured
from nnx.data.prepare import Preparation
from nnx.errors import InputError, count, unknown
from nnx.io.atomic_write import neighbours
from nnx.io.run_folder import MODEL
from nnx.metrics.history import History, columns, with_nan
from nnx.plots import held_out
from nnx.plots.curves import APART
from nnx.plots.held_out import HELD_OUT
from nnx.plots.run import FORMATS, JOINT, PICTURES, Left, draw, file_name
from nnx.train.model_file import file_of
from nnx.train.trainer import Trainer


def run(
    runs: Sequence[Path], out: Path | None, kinds: Sequence[str], format: str | None, overwrite: bool
) -> None:
    """Draw the pictures of one run, or those of several, or of a sweep's, together."""
    alone = len(runs) == 1 and not (runs[0] / RESULTS).is_file()
    with typed():
        for one in kinds:
            if one not in (allowed := PICTURES if alone else JOINT):
                raise unknown("kind", one, allowed)
        if format is not None and format not in FORMATS:
            raise unknown("format", format, FORMATS)
    found = named(runs)
    folders = list(found.values())
    of_one = alone and model_of(folders[0]) is not None
    if len(folders) == 1 and not of_one and kinds:
        raise InputError(f"{str(folders[0])!r} has no {MODEL}; without --kind its learning curves are drawn")
    where = out if out is not None else folders[0] if of_one else Path()
    given = kinds or ([*PICTURES] if of_one else [*JOINT])
    to_file = where.suffix.lower().removeprefix(".") in (*FORMATS, "gif") and not where.is_dir()
    if to_file and len(given) > 1:
        raise InputError(
            f"{str(where)!r} is the name of one picture; give one --kind, too, of {', '.join(given)}, or a folder"
        )
    if to_file and format is not None:
        raise UsageError(
            f"--format is for a folder of pictures; the ending of {str(where)!r} says the format"
        )
    folder = where.parent if to_file else where
    paths = {kind: where if to_file else where / file_name(kind, format or FORMATS[0]) for kind in given}
    own = of_one and out is None and is_run(where)  # its pictures are made from what is beside them
    if not (overwrite or own):
        for path in paths.values():
            refuse_existing(path)
    if of_one:
        left = read(folders[0])
        suits = {kind: path for kind, path in paths.items() if PICTURES[kind](left) is not None}
        if kinds and (others := [kind for kind in paths if kind not in suits]):
            lacks = f", which has no {HELD_OUT} of held-out samples" if left.held is None else ""
            raise InputError(
                f"{' and '.join(others)} cannot be drawn of {str(folders[0])!r}{lacks}; {', '.join(known(left))} can"
            )
        folder.mkdir(parents=True, exist_ok=True)
        errors: list[str] = []
        written = draw(left, suits, errors.append)
    else:
        histories = dict(with_members(name, history(one)) for name, one in found.items())
        folder.mkdir(parents=True, exist_ok=True)
        errors, written = [], []
        for kind, path in paths.items():
            plots.save(JOINT[kind](histories), path)
            written.append(path.name)
    if written:
        there = "" if folder == Path() else f"{folder}: "
        show.say("Saved", f"{there}{', '.join(written)}", fold=False)
    if errors:
        raise InputError("; ".join(errors))


def folder_of(run: Path) -> Path:
    """Return the folder of a run, given it or its model file.

    Raises
    ------
    InputError
        When it is no run's.
    """
    folder = run.parent if run.is_file() and run.name == MODEL else run
    if not folder.exists():
        raise InputError(
            f"there is no folder {str(run)!r}; expected that of a run, as `nnx train` leaves it{neighbours(run)}"
        )
    if not folder.is_dir():
        raise InputError(f"{str(run)!r} is no folder; expected that of a run, as `nnx train` leaves it")
    if not (folder / HISTORY).is_file():
        file_of(folder)
    return folder


def model_of(folder: Path) -> Path | None:
    """Return the model of a run, None where there is its history alone."""
    try:
        return file_of(folder)
    except InputError:
        return None


def named(runs: Sequence[Path]) -> dict[str, Path]:
    """Return the folders by the names of the runs: the swept options, their names, or their paths if names repeat."""
    folders, own = [], []
    for run in runs:
        if not (run / RESULTS).is_file():
            folders.append(folder_of(run))
            own.append(folders[-1].resolve().name)
            continue
        found = sweep_results.results(run)
        trained = [
            row
            for row in found["runs"]
            if row["status"] == sweep_results.DONE
            or (row["status"] == sweep_results.INTERRUPTED and (run / row["run"] / HISTORY).is_file())
        ]
        if not trained:
            raise InputError(
                f"no run of the sweep {str(run)!r} has learned anything: there is nothing to draw"
            )
        folders += [folder_of(run / row["run"]) for row in trained]
        own += [sweep_results.shown({name: row.get(name) for name in found["swept"]}) for row in trained]
    names = own if len(set(own)) == len(own) else map(str, folders)
    return dict(zip(names, folders, strict=True))


def read(folder: Path) -> Left:
    """Return the data of a run's pictures."""
    model = file_of(folder)
    trainer = Trainer.load(model, backend="numpy")
    metadata = trainer.metadata
    preparation = Preparation.of(metadata) if "preparation" in metadata else None
    there = (
        model.name == MODEL and (folder / HELD_OUT).is_file()
    )  # a killed run left none: it is an earlier one's
    held = held_out.read(folder / HELD_OUT) if there else None
    name = folder.resolve().name
    return Left(show.title(metadata.get("data", name), trainer.network), trainer, preparation, held)


def known(left: Left) -> list[str]:
    """Return the pictures that suit a run."""
    return [kind for kind, picture in PICTURES.items() if picture(left) is not None]


def with_members(name: str, found: History) -> tuple[str, History]:
    """Return a run's name and its history; of members the name says that the numbers are medians, and of how many."""
    each = found.pop("members", None)
    return name if each is None else f"{name} (median of {count(len(each[0]), 'member')})", found


def history(folder: Path) -> History:
    """Return the numbers of a run, from its log or else its model."""
    path, model = folder / HISTORY, model_of(folder)
    if model is not None and (not path.is_file() or model.name != MODEL):
        trainer = Trainer.load(model, backend="numpy")
        found = History(measured(trainer))
        found.kept = None if trainer.each else trainer.kept
        found |= {"members": [trainer.records]} if trainer.each else {}
        return found
    records: list[dict[str, Any]] = []
    kept = None
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        try:
            record = with_nan(json.loads(line))
            own = {name: value for name, value in record.items() if name not in APART}
        except (ValueError, AttributeError) as error:
            raise InputError(f"line {number} of {str(path)!r} is no JSON object: {error}") from error
        if "loss" in own:
            records.append(own)
            kept = len(records) if record.get("kept") is True else kept
    return columns(records, kept)
