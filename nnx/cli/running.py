"""Running trainings, one or several at once: the fit with its checkpoints, an end by Ctrl-C, and the scores."""

import time
import warnings
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from nnx.batches.sample_weights import held_out_weights
from nnx.callbacks import Callback
from nnx.callbacks.base import Callbacks
from nnx.callbacks.fit import epochs_done, steps_done
from nnx.cli import INTERRUPTED, build, config, in_units, show
from nnx.cli.folder import Folder
from nnx.cli.interrupt import (
    CTRL_C,
    Keeper,
    MemberKeeper,
    StackKeeper,
    interruptible,
    left_to_first_rank,
)
from nnx.cli.prepared import Data
from nnx.cli.saving import save_surely
from nnx.cli.training import Training, evaluate, evaluate_members
from nnx.errors import Error, LeftOutWarning
from nnx.io import run_folder
from nnx.io.run_folder import CHECKPOINTS
from nnx.plots.run import TRAINING_SAMPLE
from nnx.train.request import Request
from nnx.train.stack_fit import fit_stack
from nnx.train.stack_session import StackSession

SHARE, FEWEST = 1 / 20, 128
"""Of the training samples so many are measured, a share or at least a number: it costs a few percent of an epoch."""


Run = tuple[Training, Folder]


def train(
    runs: Sequence[Run], resumed: Sequence[bool], watch: Callback, go_on: bool
) -> list[Exception | None]:
    """Train one run, or several at once, and leave the model and all else in their folders; return their errors.

    After Ctrl-C `training.finished` stays False, but for those of several runs that had ended before. Of a run that
    fails the epochs before are kept.

    Parameters
    ----------
    runs : sequence of (Training, Folder)
        Several are of one stack (`nnx.cli.stacks`).
    resumed : sequence of bool
        Whether the folder of each is that of an earlier part of the run.
    watch : Callback
        Shows the progress.
    go_on : bool
        Whether to go on from their checkpoints; those of several are all of one place.
    """
    if len(runs) > 1:
        _take_backend([training for training, _ in runs])
    errors: list[Exception | None] = [None] * len(runs)
    with ExitStack() as held:
        for k, (training, folder) in enumerate(runs):
            try:
                begin(training, folder, resumed[k])
            except Exception as error:
                errors[k] = error
            else:
                held.callback(folder.end)
        begun = [k for k, error in enumerate(errors) if error is None]
        if begun:
            fitted, whole = _fit_all([runs[k] for k in begun], watch, go_on)
            for k, own in zip(begun, fitted, strict=True):
                errors[k] = finish_run(*runs[k], own, whole or (len(begun) > 1 and _has_ended(runs[k][0])))
    return errors


def _take_backend(trainings: Sequence[Training]) -> None:
    """Take numba for the work of all: before the fit, since the configuration of a run names its backend."""
    first = trainings[0]
    m, epochs = first.data.X.shape[1], first.options.epochs
    stack = StackSession.of([training.trainer.session for training in trainings])
    stack.take_numba_if_worth(m * epochs, build.steps(m, first.batch_size) * epochs)


def _fit_all(runs: Sequence[Run], watch: Callback, go_on: bool) -> tuple[list[Exception | None], bool]:
    """Do the fit; return the error of each run, and whether the fit came to its end."""
    trainers = [training.trainer for training, _ in runs]
    stack = StackSession.of([trainer.session for trainer in trainers]) if len(runs) > 1 else None
    before, start = [steps_done(trainer) for trainer in trainers], time.perf_counter()
    whole, failure = True, None
    try:
        if stack is None:
            _fit_one(*runs[0], watch, go_on)
        else:
            _fit_stack(stack, runs, watch, go_on)
    except KeyboardInterrupt:
        whole = False
    except Exception as error:
        failure = error
    seconds = time.perf_counter() - start
    done = [steps_done(trainer) - steps for trainer, steps in zip(trainers, before, strict=True)]
    for (training, _), steps in zip(runs, done, strict=True):
        training.seconds = seconds * steps / sum(done) if any(done) else seconds / len(runs)
    return [error or failure for error in (stack.errors if stack else [None])], whole


def _fit_one(training: Training, folder: Folder, watch: Callback, go_on: bool) -> None:
    checkpoints = folder.path / CHECKPOINTS
    keeper = Keeper(checkpoints, len(training.trainer.each))
    callbacks = [*training.snapshots, watch, *boards(training, folder), keeper]
    with interruptible(keeper):
        resume = checkpoints if go_on and run_folder.checkpoints(checkpoints) else None
        fit(training, callbacks, resume, training_sample(training.data))
    if training.trainer.stopped == CTRL_C:
        training.trainer.stopped = None
        raise KeyboardInterrupt


def _fit_stack(stack: StackSession, runs: Sequence[Run], watch: Callback, go_on: bool) -> None:
    folders = [folder.path / CHECKPOINTS for _, folder in runs]
    keepers = [MemberKeeper(folder) for folder in folders]
    keeper, first = StackKeeper(keepers), runs[0][0]
    own = [
        [*_acting(training), *training.snapshots, *boards(training, folder), its]
        for (training, folder), its in zip(runs, keepers, strict=True)
    ]
    shared = Callbacks([watch, keeper])
    shared.trainer = first.trainer
    asked = Request(**arguments(first, training_sample(first.data)), shuffle=True, callbacks=shared)
    with interruptible(keeper):
        fit_stack(
            stack, asked, [training.trainer for training, _ in runs], own, None, folders if go_on else ()
        )


def _has_ended(training: Training) -> bool:
    trainer = training.trainer
    return trainer.stopped is not None or len(trainer.records) >= training.options.epochs


def finish_run(training: Training, folder: Folder, error: Exception | None, ended: bool) -> Exception | None:
    """Save a run, and measure it; return its error."""
    trainer = training.trainer
    training.finished = error is None and ended
    keep = steps_done(trainer) > 0 if error is None else epochs_done(trainer) > 0
    try:
        leave(training, folder, keep)
        if keep and error is None:
            measure(training)
    except Exception as later:
        return error or later
    return error


def follow(training: Training, resume: Path | None) -> int:
    """Train with rank 0, which alone writes and says something; return the exit status.

    Parameters
    ----------
    training : Training
    resume : path or None
        The folder of the run to go on with.
    """
    folder = Folder(resume or Path())
    bar = in_units.Bar(show.console, training.data.preparation)
    keeper = Keeper(folder.path / CHECKPOINTS)
    with left_to_first_rank():
        fit(
            training,
            [*training.snapshots, bar, *boards(training, folder), keeper],
            keeper.folder if resume and run_folder.checkpoints(keeper.folder) else None,
            training_sample(training.data),
        )
    return INTERRUPTED if training.trainer.stopped == CTRL_C else 0


def begin(training: Training, folder: Folder, resume: bool) -> None:
    """Write the run's configuration, and have the folder alone until `leave`."""
    trainer = training.trainer
    written = config.text(training.options, "trains this run again", backend=trainer.backend.name)
    folder.begin(written, resume)
    if sample := training_sample(training.data):
        trainer.metadata[TRAINING_SAMPLE] = sample


def boards(training: Training, folder: Folder) -> list[Callback]:
    """Return the callbacks that hand the numbers to other tools, as far as they are asked for."""
    options, preparation = training.options, training.data.preparation
    name = folder.path.name or folder.path.resolve().name or None  # the name of Path(".") is ""
    found: list[Callback] = [in_units.Board(folder.path, preparation)] if options.tensorboard else []
    if options.mlflow is not None:
        found.append(in_units.MLflowRun(options.mlflow, name, options.data, preparation))
    if options.wandb is not None:
        found.append(in_units.WandBRun(options.wandb, name, options.data, preparation))
    return found


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
    callbacks = [*_acting(training), *callbacks]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LeftOutWarning)  # the report says it
        training.trainer.fit(
            **arguments(training, sample), callbacks=callbacks, resume=resume, progress=False
        )  # a callback shows it


def _acting(training: Training) -> list[Callback]:
    return build.callbacks(training.options, training.validates)


def arguments(training: Training, sample: int) -> dict[str, Any]:
    """Return the arguments of the fit that runs of a stack share."""
    options, X_Y = training.options, validation(training)
    return {
        "X": training.data.X,
        "Y": training.data.Y,
        "epochs": options.epochs,
        "batch_size": training.batch_size,
        "validation": X_Y,
        "class_weight": build.class_weight(options, training.data.preparation),
        "metrics": training.measures if X_Y else None,
        "training_metrics": sample or False,
        "rounds": True,
    }


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
