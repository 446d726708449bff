"""The files that a training leaves: the model, the history and the pictures."""

import json
from pathlib import Path

from nnx import plots
from nnx.callbacks.fit import epochs_done
from nnx.cli import disk, members, show
from nnx.cli.folder import HISTORY, OF_A_SWEEP, Folder
from nnx.cli.training import Training
from nnx.errors import Error
from nnx.io.atomic_write import written_aside
from nnx.io.run_folder import CHECKPOINTS, MODEL
from nnx.metrics.history import medians, without_nan
from nnx.train import model_file


def save_surely(training: Training, where: Folder) -> None:
    """Write all, again where somebody at a terminal has made room; else the model goes among the temporary files.

    Raises
    ------
    Error
        When something could not be written: the file, the bytes that are needed and free, and where the model is.
    """
    while True:
        try:
            return save(training, where)
        except OSError as error:
            said = disk.why(error, where.path, training.trainer)
            if training.asks and disk.may_try_again(said):
                continue
            if training.files:
                raise Error(f"{said}. The model is saved, what was to follow is not") from error
            if path := disk.elsewhere(training.trainer, MODEL):
                raise Error(f"{said}. The model is in {str(path)!r} instead") from error
            last = model_file.newest(where.path / CHECKPOINTS)
            left = f"go on from {str(last[0])!r}: nnx train --resume {where.path}" if last else "train again"
            raise Error(f"{said}. The model is lost. Make room, and {left}") from error


def save(training: Training, where: Folder) -> None:
    """Write the model, the history and the pictures."""
    trainer, folder = training.trainer, where.path
    trainer.save(folder / MODEL)
    where.clear((HISTORY, *OF_A_SWEEP))  # those of an earlier run or sweep do not belong to this model
    training.files = [MODEL]
    if epochs_done(trainer):  # else stopped in the first epoch
        log(training, folder / HISTORY)
        training.files.append(HISTORY)
    reported = training.data.reported if members.predicts(trainer) else None
    training.files += plots.leave(
        folder,
        training.title,
        trainer,
        training.data.preparation,
        *(reported or (None, None, None)),
        snapshots=training.snapshots,
        pictures=training.pictures,
        complain=show.warn,
    )


def log(training: Training, path: Path) -> None:
    """Write the history, an epoch a line, errors in the target's own unit; the epoch that was kept says so.

    Of members these are medians, and "members" has the numbers of each: null after its end.
    """
    trainer, in_units = training.trainer, training.data.preparation.in_units
    history = medians(trainer.history) if trainer.each else {}
    of_members = [dict(zip(history, values, strict=True)) for values in zip(*history.values(), strict=True)]
    with written_aside(path) as aside, aside.open("w", encoding="utf-8") as file:
        for i, record in enumerate(of_members or trainer.records):
            row = {"epoch": i + 1, **in_units(record)}
            if trainer.each:
                row["members"] = [in_units(own[i]) if i < len(own) else None for own in trainer.records]
            elif i + 1 == trainer.kept:
                row["kept"] = True
            file.write(f"{json.dumps(without_nan(row))}\n")
