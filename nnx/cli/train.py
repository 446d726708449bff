"""`nnx train`: one run, one that goes on, or a sweep of them."""

from typing import Any

from nnx.callbacks.fit import epochs_done, steps_done
from nnx.cli import INTERRUPTED, folds, show
from nnx.cli.folder import FOLDS, Folder, name_of
from nnx.cli.in_units import Bar, Watch
from nnx.cli.inputs import UsageError, refuse_existing
from nnx.cli.options import Options
from nnx.cli.prepared import Reader
from nnx.cli.report import describe, report
from nnx.cli.resuming import going_on
from nnx.cli.running import follow, train
from nnx.cli.stopped import AS_IT_WAS, NOT_BEGUN, Stopped, at_ctrl_c
from nnx.cli.training import Training, prepare, result
from nnx.errors import InputError, count
from nnx.io import run_folder
from nnx.io.run_folder import CHECKPOINTS
from nnx.port.agreement import text_of
from nnx.port.communicator import Communicator
from nnx.port.communicators import communicator


def run(options: Options) -> int:
    """Train as the options say; return the exit status."""
    ranks = communicator(options.communicator)
    with show.told(options.quiet, options.json), show.warnings_told():
        check_out(options, ranks)
        check_alone(options, ranks)
        if options.table:
            from nnx.cli.sweep import sweep

            return sweep(options)
        for name in ("jobs", "scheduler"):
            if getattr(options, name) is not None:
                raise UsageError(f"--{name} is of a sweep, whose runs it shares out: --sweep OPTION=VALUES")
        if options.draws is not None:
            raise UsageError("--draws are of a sweep; say what is swept: --sweep OPTION=VALUES")
        return single(options)


def check_out(options: Options, ranks: Communicator) -> None:
    """Raise an InputError where --out exists already. The first rank looks before it goes on to make it.

    From here on it may write what the others have read by now: the configuration of a run that goes on.
    """
    ranks.barrier()
    said = ""
    if ranks.rank == 0 and options.out is not None and not options.overwrite:
        try:
            refuse_existing(options.out, empty_folder=True)
        except InputError as error:
            said = str(error)
    if said := text_of(ranks, 0, said):
        raise InputError(said)


def check_alone(options: Options, ranks: Communicator) -> None:
    """Raise a UsageError for options that several ranks do not have."""
    for given, name in ((options.table, "--sweep"), (options.folds, "--folds")):
        if given and ranks.size > 1:
            raise UsageError(
                f"{name} trains networks that know nothing of each other, and --communicator one network on several "
                "ranks; leave out one of them"
            )


def single(options: Options) -> int:
    """Train one network; return the exit status."""
    reader, not_begun = Reader(), AS_IT_WAS if options.resume else NOT_BEGUN
    with at_ctrl_c(not_begun):
        training, folder = made_ready(options, reader)
    if folder is None:
        return follow(training, options.resume)
    trainer = training.trainer
    try:
        resume, bar = options.resume is not None, Bar(show.console, training.data.preparation)
        (error,) = train([(training, folder)], [resume], bar, resume)
        if error is not None:
            raise error
        if not training.finished:
            done = f"after {count(epochs_done(trainer), 'epoch')}, {count(steps_done(trainer), 'step')}"
            none = "with nothing learned yet: nothing is saved"  # nor is a model replaced by random weights
            show.console.print(f"Stopped by Ctrl-C {done if training.files else none}.")
    except KeyboardInterrupt:
        if training.files:  # pictures and figures were on their way
            show.console.print("Stopped by Ctrl-C once the model was saved.")
            if training.finished and not options.folds:
                show.say("Pictures", f"nnx plot {folder.path} draws them", fold=False)
            else:
                tell_to_go_on(folder)
        elif not steps_done(trainer):
            raise Stopped(not_begun) from None
        else:
            show.console.print("Stopped by Ctrl-C before the model was saved.")
            tell_to_go_on(folder)
        raise Stopped from None
    finally:
        if training.files:
            show.say("Saved", f"{folder.path}: {', '.join(training.files)}", fold=False)
    report(training)
    whole, found = training.finished, result(training, folder.path)
    if whole and options.folds:
        found["folds"] = cross_validated(options, reader, folder)
        found["files"].append(FOLDS)
        whole = found["folds"]["mean"] is not None
    if not whole and training.files:
        tell_to_go_on(folder)
    show.result(found)
    return 0 if whole else INTERRUPTED


def made_ready(options: Options, reader: Reader) -> tuple[Training, Folder | None]:
    """Return the training, and on the first rank its folder, which goes on or is made; None on the others."""
    training = prepare(options, reader)
    first = training.trainer.communicator.rank == 0
    if options.resume is not None:
        folder = Folder(options.resume)
        resumed = going_on(training, folder.path)  # errors come before any report
        if first:
            folder.check()
            describe(training)
            show.say("Resumed", resumed)
        return training, folder if first else None
    if not first:
        return training, None
    describe(training)
    return training, Folder.make(options.out, name_of(options.data))


def tell_to_go_on(folder: Folder) -> None:
    """Say how the run goes on, or that it begins anew where there is no checkpoint, as of members in rounds."""
    show.say("Go on", f"nnx train --resume {folder.path}", fold=False)
    if not run_folder.checkpoints(folder.path / CHECKPOINTS):
        show.say("", "this begins anew: the run has no checkpoint", fold=False)


def cross_validated(options: Options, reader: Reader, folder: Folder) -> dict[str, Any]:
    """Train without each fold in turn, and print the scores; return their numbers."""
    with show.console.status("") as status:
        found = folds.train(options, reader, folder, lambda what: Watch(status, what))
    if found["mean"] is None:
        done = len(found["each"])
        show.console.print(
            f"Stopped by Ctrl-C in fold {done + 1} of {options.folds}; the folds before are saved."
        )
    else:
        folds.report(found)
        show.say("Saved", str(folder.path / FOLDS), fold=False)
    return found
