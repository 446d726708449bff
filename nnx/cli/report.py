"""The words in which a training is announced and its result is reported."""

from collections.abc import Mapping
from typing import Any

from nnx.cli import build, members, metric_tables, parts, show
from nnx.cli.hints import hints, warning
from nnx.cli.options import LOSS
from nnx.cli.prepared import Data
from nnx.cli.training import Training, evaluate
from nnx.data.source import left_out
from nnx.display.names import called
from nnx.display.rounding import significant
from nnx.errors import count, listed
from nnx.port.precision import precision_note
from nnx.port.registry import described


def describe(training: Training) -> None:
    """Print the run: the network and the data."""
    data, trainer = training.data, training.trainer
    preparation, trained = data.preparation, data.X.shape[1]
    if data.reason:
        otherwise = f"; else --task {data.another}" if data.another else ""
        show.say("Task", f"{preparation.task}, since {data.reason}{otherwise}")
    numbers = "counts" if preparation.counts else "numbers"
    what = numbers if preparation.labels is None else f"{len(preparation.labels)} classes"
    held = parts.words(trained, data.parts)
    if not training.validates and not training.patience:
        held += "; no early stopping"
    features, inputs = count(len(preparation.features), "feature"), len(preparation.inputs)
    if inputs != len(preparation.features):
        features += f" as {count(inputs, 'input')}"
    samples = f"{training.options.data}: {count(data.m, 'sample')}"
    show.say("Data", f"{samples}, {features}; target {preparation.target!r}, {what}; {held}")
    if data.left_out:
        show.say("Rows", left_out(data.left_out, preparation.target))
    if (day := _drawn_beside(data)) is not None:
        said = (
            f"the samples held out are drawn at random; to score later ones by {day!r}, give a file of them"
        )
        show.say("Dates", f"{said}: --test FILE")
    if data.test is None and (images := parts.beside(training.options.data)):
        show.say("Test", f"{images} lies beside the training images; test on it with --test {images}")
    for line in preparation.account():
        show.say("Columns", line)
    backend = trainer.backend
    where = f"{backend.device}{precision_note(backend.precision)}"
    show.say("Backend", f"{described(backend).library} on {where}: {trainer.reason}")
    if trainer.each:
        show.say("Members", members.describe(trainer, training.options.selection == "greedy"))
    size = training.batch_size
    show.say("Optimizer", f"{trainer.optimizer!r}, {'all samples' if size is None else size} a step")
    if training.patience:
        by = called(f"validation_{build.stop_by(training.options)}" if training.validates else LOSS)
        show.say(
            "Epochs",
            f"at most {training.options.epochs}, until {by} has been no better for {training.patience}",
        )
    if preparation.labels is None:
        loss = trainer.network.output.loss_name
        show.say("Cost", f"{loss} of the scaled target; errors are in the unit of {preparation.target!r}")
    if training.options.class_weight != "none":
        said = f"{training.options.class_weight}; in the cost and the scores of the epochs, not in the report"
        show.say("Weights", said)
    show.console.print(show.network_table(trainer.network))


def _drawn_beside(data: Data) -> str | None:
    """Return a column of dates, if the samples that are reported are drawn at random; None without either."""
    of = data.parts["test" if data.test else "validation"]
    if not of or not isinstance(of["of"], float):
        return None
    preparation = data.preparation
    columns = zip(preparation.features, preparation.columns or (), strict=False)
    return next((name for name, one in columns if one.dates and "days" in one.dates.numbers), None)


def tell_epoch(training: Training) -> None:
    """Say which epoch's parameters are kept, where it is not the last or the training stopped early."""
    trainer = training.trainer
    if trainer.each:
        return
    done, kept = len(trainer.records), trainer.kept
    if trainer.stopped and kept is None:
        show.say("Stopped", f"after epoch {done}: {trainer.stopped}; the last parameters are kept")
    if kept is None or kept == done:
        return
    by = f"validation_{build.stop_by(training.options)}" if training.validates else LOSS
    value = training.data.preparation.in_units(trainer.records[kept - 1])[by]
    best = f"epoch {kept} ({called(by)} {significant(value, 4)}): its parameters are kept"
    if trainer.stopped:
        show.say("Stopped", f"after epoch {done} of at most {training.options.epochs}, the best was {best}")
    else:
        show.say("Kept", f"the best of {count(done, 'epoch')} was {best}")


def report(training: Training) -> None:
    """Say how good the model is on the samples held out."""
    tell_epoch(training)
    if training.members:
        of = f", by the {'test' if training.data.test else 'validation'} part"
        show.console.print(members.table(training.members, members.first_score(training.measures), of))
        tell_ended(training)
    data, labels = training.data, training.data.preparation.labels
    if data.reported is None and training.finished:
        said = numbers(training, evaluate(training, (data.X, data.Y, None)), data.X.shape[1])
        show.say("Held out", f"none; on the samples that it was trained on: {said}")
    if data.reported is None or not training.measured:
        return
    if data.test is not None and data.validation is not None:
        said = numbers(training, training.validated, len(data.validation[2]))
        show.say("Validated", said + ("; these samples chose the epoch" if training.patience else ""))
    said = numbers(training, training.measured, len(data.reported[2]))
    show.say("Test" if data.test else "Held out", said + metric_tables.beside(training.baseline))
    if data.test is None and training.patience:
        show.say("", "these samples also chose the epoch; --test 0.2 keeps others apart")
    for one in metric_tables.tables(training.measured, labels):
        show.console.print(one)
    if training.finished and (warned := warning(training)):
        show.warn(warned)
    for hint in hints(training):
        show.say("Hint", hint)


def tell_ended(training: Training) -> None:
    """Say which members have diverged, and how many predict."""
    gone = [row for row in training.members if row["error"] is not None]
    if gone:
        numbers = listed((row["member"] for row in gone), 8)
        said = f"{count(len(gone), 'member')} diverged: {numbers}"
        if not any(row["weight"] for row in gone):
            said += ", without which the mean is taken"
        show.warn(f"{said}. The first: {gone[0]['error']}")
    if training.options.selection == "greedy":
        chosen = sum(row["weight"] > 0 for row in training.members)
        show.say("Selection", f"{chosen} of {count(len(training.members), 'member')}, by the validation part")


def numbers(training: Training, found: Mapping[str, Any], m: int) -> str:
    """Return the scores on m samples, in a line."""
    said = []
    for name, value in found.items():
        if name == "loss" or not isinstance(value, float | int):
            continue
        shown = metric_tables.reported(name, value)
        if name == "accuracy":
            shown += f" ({round(value * m)} of {m})"
        said.append(f"{called(name)} {shown}")
    if training.data.preparation.labels is not None:
        said.append(f"{called('loss')} {found['loss']:.4f}")
    of = f"{members.mean_of(training.trainer)}: " if training.trainer.each else ""
    return of + ", ".join(said)
