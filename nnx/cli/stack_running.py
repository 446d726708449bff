"""Running a stack: several runs of one architecture train at once, and each leaves its folder as a run alone does."""

import time
from collections.abc import Sequence
from contextlib import ExitStack

from nnx.callbacks import Callback
from nnx.callbacks.base import Callbacks
from nnx.cli import build
from nnx.cli.folder import Folder
from nnx.cli.interrupt import MemberKeeper, StackKeeper, interruptible
from nnx.cli.running import begin, boards, leave, measure, training_sample, validation
from nnx.cli.training import Training
from nnx.errors import DivergenceError
from nnx.io.run_folder import CHECKPOINTS
from nnx.train.request import Request
from nnx.train.stack_fit import fit_stack
from nnx.train.stack_session import StackSession

Run = tuple[Training, Folder]


def train(
    runs: Sequence[Run], resumed: Sequence[bool], watch: Callback, go_on: bool
) -> list[Exception | None]:
    """Train all, and leave the model and all else in their folders; return the error of each that has failed.

    After Ctrl-C `training.finished` stays False, but for those that had ended before.

    Parameters
    ----------
    runs : sequence of (Training, Folder)
        Of one stack (`nnx.cli.stacks`).
    resumed : sequence of bool
        Whether the folder of each is that of an earlier part of the run.
    watch : Callback
        Shows the progress.
    go_on : bool
        Whether they have checkpoints, all of one place, to go on from.
    """
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
        left = [k for k, error in enumerate(errors) if error is None]
        if left:
            found, whole = _fit([runs[k] for k in left], watch, go_on)
            for k, its in zip(left, found, strict=True):
                errors[k] = _left(*runs[k], its, whole)
    return errors


def _take_backend(trainings: Sequence[Training]) -> None:
    """Take numba for the work of all: before the fit, since the configuration of a run names its backend."""
    first = trainings[0]
    m, size, epochs = first.data.X.shape[1], first.batch_size, first.options.epochs
    steps = 1 if size is None else -(-m // size)
    stack = StackSession.of([training.trainer.session for training in trainings])
    stack.take_numba_if_worth(m * epochs, steps * epochs)


def _fit(runs: Sequence[Run], watch: Callback, go_on: bool) -> tuple[list[Exception | None], bool]:
    """Do the fit; return the error of each run, and whether the fit came to its end."""
    first, trainers = runs[0][0], [training.trainer for training, _ in runs]
    folders = [folder.path / CHECKPOINTS for _, folder in runs]
    stack = StackSession.of([trainer.session for trainer in trainers])
    keepers = [MemberKeeper(folder) for folder in folders]
    keeper = StackKeeper(keepers)
    own = [[*_callbacks(*run), its] for run, its in zip(runs, keepers, strict=True)]
    before, start = [trainer.steps for trainer in trainers], time.perf_counter()
    errors: list[Exception | None] = [None] * len(runs)
    whole = True
    try:
        with interruptible(keeper):
            fit_stack(stack, _request(first, [watch, keeper]), trainers, own, None, folders if go_on else ())
    except KeyboardInterrupt:
        whole = False
    except DivergenceError:  # of all: each has its own
        pass
    except Exception as error:
        errors = [error] * len(runs)
    seconds = time.perf_counter() - start
    done = [trainer.steps - steps for trainer, steps in zip(trainers, before, strict=True)]
    for (training, _), steps in zip(runs, done, strict=True):
        training.seconds = seconds * steps / max(1, sum(done))  # its share of the time of all
    return [own or error for own, error in zip(stack.errors, errors, strict=True)], whole


def _callbacks(training: Training, folder: Folder) -> list[Callback]:
    acting = build.callbacks(training.options, training.validates)
    return [*acting, *training.snapshots, *boards(training, folder)]


def _request(training: Training, callbacks: list[Callback]) -> Request:
    """Return the arguments of the fit, which all runs share."""
    options, X_Y = training.options, validation(training)
    sample = training_sample(training.data)
    shared = Callbacks(callbacks)
    shared.trainer = training.trainer
    return Request(
        training.data.X,
        training.data.Y,
        options.epochs,
        training.batch_size,
        X_Y,
        shuffle=True,
        callbacks=shared,
        class_weight=build.class_weight(options, training.data.preparation),
        metrics=training.measures if X_Y else None,
        training_metrics=sample or None,
        rounds=True,
    )


def _left(training: Training, folder: Folder, error: Exception | None, whole: bool) -> Exception | None:
    """Save a run, and measure it; return its error."""
    trainer = training.trainer
    ended = trainer.stopped is not None or len(trainer.records) >= training.options.epochs
    training.finished = error is None and (whole or ended)
    keep = trainer.steps > 0 if error is None else bool(trainer.records)
    try:
        leave(training, folder, keep)
        if keep and error is None:
            measure(training)
    except Exception as later:
        return error or later
    return error
