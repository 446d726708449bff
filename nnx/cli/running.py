"""Running a training: the fit with its checkpoints, an end by Ctrl-C, and the scores at the end."""

import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from nnx.batches.sample_weights import held_out_weights
from nnx.callbacks import Callback
from nnx.callbacks.fit import epochs_done, steps_done
from nnx.cli import build, config, in_units
from nnx.cli.folder import Folder
from nnx.cli.interrupt import Keeper, interruptible
from nnx.cli.prepared import Data
from nnx.cli.saving import save_surely
from nnx.cli.training import Training, evaluate, evaluate_members
from nnx.errors import Error
from nnx.io.run_folder import CHECKPOINTS
from nnx.plots.run import TRAINING_SAMPLE

SHARE, FEWEST = 1 / 20, 128
"""Of the training samples so many are measured, a share or at least a number: it costs a few percent of an epoch."""


def train(training: Training, folder: Folder, watch: Callback, resume: bool = False) -> None:
    """Train, and leave the model and all else in the folder, however the training ends.

    After Ctrl-C `training.finished` stays False; whatever else ends the fit is raised, and the epochs before are kept.
    """
    trainer = training.trainer
    checkpoints = folder.path / CHECKPOINTS
    keeper = Keeper(checkpoints)
    begin(training, folder, resume)
    start = time.perf_counter()
    keep = False
    try:
        with interruptible(keeper):
            fit(
                training,
                [*training.snapshots, watch, *boards(training, folder), keeper],
                checkpoints if resume else None,
                training_sample(training.data),
            )
        training.finished = keep = True
    except KeyboardInterrupt:
        keep = steps_done(trainer) > 0
    except BaseException:
        keep = epochs_done(trainer) > 0
        raise
    finally:
        training.seconds = time.perf_counter() - start
        leave(training, folder, keep)
    if keep:
        measure(training)


def begin(training: Training, folder: Folder, resume: bool) -> None:
    """Write the run's configuration, and have the folder alone until `leave`."""
    trainer = training.trainer
    written = config.text(training.options, "trains this run again", backend=trainer.backend.name)
    folder.begin(written, resume)
    if sample := training_sample(training.data):
        trainer.metadata[TRAINING_SAMPLE] = sample


def boards(training: Training, folder: Folder) -> list[Callback]:
    """Return the callback that writes event files, if they are asked for."""
    return [in_units.Board(folder.path, training.data.preparation)] if training.options.tensorboard else []


def leave(training: Training, folder: Folder, keep: bool) -> None:
    """Save the model and all else, or give up the folder where nothing is to be kept; let others write into it."""
    try:
        if keep:
            choose_members(training)
            save_surely(training, folder)
        else:
            folder.give_up()
    except (OSError, Error):
        if not training.files:  # the model before stays, and so does its configuration
            with suppress(OSError):
                folder.give_up()
        raise
    finally:
        folder.end()


def choose_members(training: Training) -> None:
    """Choose the members whose mean predicts, where `--selection` says so."""
    trainer = training.trainer
    if trainer.each and training.options.selection == "greedy" and (X_Y := validation(training)) is not None:
        X, Y, w = X_Y
        trainer.ensemble.select(X, Y, build.stop_by(training.options), sample_weight=w)


def measure(training: Training) -> None:
    """Evaluate the model on the samples that are reported, and on the validation beside a test."""
    data = training.data
    if data.reported is None:
        return
    training.measured = evaluate(training, data.reported)
    training.validated = evaluate(training, data.validation) if data.test and data.validation else {}
    if training.trainer.each:
        training.members = evaluate_members(training, data.reported)


def fit(
    training: Training, callbacks: Sequence[Callback], resume: Path | None = None, sample: int = 0
) -> None:
    """Train as the options say; so many of the training samples are measured beside the validation."""
    options, X_Y = training.options, validation(training)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*leaves out such members")  # the report says it
        training.trainer.fit(
            training.data.X,
            training.data.Y,
            options.epochs,
            training.batch_size,
            X_Y,
            callbacks=[*build.callbacks(options, training.validates), *callbacks],
            class_weight=build.class_weight(options, training.data.preparation),
            metrics=training.measures if X_Y else None,
            training_metrics=sample or False,
            progress=False,  # a callback shows it
            resume=resume,
        )


def validation(training: Training) -> tuple[Any, Any, Any] | None:
    """Return the samples that stop the training, with the weights that they would have in it."""
    if training.data.validation is None:
        return None
    (X, Y, _), network = training.data.validation, training.trainer.network
    class_weight = build.class_weight(training.options, training.data.preparation)
    return X, Y, held_out_weights(None, class_weight, Y, network.output, network.n[-1])


def training_sample(data: Data) -> int:
    """Return how many training samples are measured beside the validation; no more than it has."""
    if data.validation is None:
        return 0
    m: int = data.X.shape[1]
    held: int = data.validation[0].shape[1]
    return min(m, held, max(FEWEST, int(m * SHARE)))
