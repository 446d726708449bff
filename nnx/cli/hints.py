"""Hints on a result, with remedies: the baseline is not beaten, classes are rare, the network overfits."""

from collections.abc import Iterator

from nnx.callbacks.monitor import best_is
from nnx.cli.metric_tables import first_number, reported
from nnx.cli.training import Training
from nnx.data.baseline import no_better
from nnx.display.names import called

MARGIN = 0.02
"""Of the baseline's errors: a model that makes fewer by no more than this is hardly better."""
RARE = 0.75
"""The share of the most frequent class from which the others are rare."""
LITTLE = 0.25
"""Of the baseline's errors: a model that makes fewer by no more than this has hardly learned the rare classes."""
GAP, RATIO = 0.1, 1.25
"""How much better the training may do than the validation, in a score and in an error. Of n samples 1/sqrt(n), or
twice that, is added, which chance alone may make."""


def warning(training: Training) -> str | None:
    """Return a warning, with remedies, if the model is no better than the baseline; else None."""
    name, base = next(iter(training.baseline.scores().items()), ("", 0.0))
    value = training.measured.get(name)
    enough = base + MARGIN * (1 - base) if best_is(name, "min") == "max" else base * (1 - MARGIN / 2)
    if value is None or not no_better(name, value, enough):
        return None
    if name == "accuracy" and training.options.class_weight != "none":
        return None  # weights trade accuracy for the rare classes
    how = "no better" if no_better(name, value, base) else "hardly better"
    *others, last = _tries(training)
    return (
        f"the model is {how} than the baseline, {training.baseline.text}. Try {', '.join(others)}, or {last}"
    )


def hints(training: Training) -> Iterator[str]:
    """Yield further hints, a sentence each."""
    base = training.baseline.scores().get("accuracy")
    accuracy = training.measured.get("accuracy")
    if (
        base is not None
        and accuracy is not None
        and _rare(training)
        and base < accuracy < base + LITTLE * (1 - base)
    ):
        yield (
            f"nearly all samples are {training.baseline.prediction!r}: accuracy says little of the other classes. "
            '--class-weight balanced weighs them up, and --metrics "accuracy,recall(macro)" counts every class alike'
        )
    if (
        training.options.class_weight != "none"
        and accuracy is not None
        and base is not None
        and accuracy <= base
    ):
        yield (
            f"accuracy is no better than the baseline's, {training.baseline.text}: --class-weight gives it up for rare "
            'classes. --metrics "recall(macro)" counts every class alike'
        )
    if (text := overfits(training)) is not None:
        yield text


def overfits(training: Training) -> str | None:
    """Return that the training part is predicted far better than the validation part, at the epoch that is kept."""
    trainer, name, validation = training.trainer, first_number(training.measures), training.data.validation
    if validation is None or name is None or trainer.each or not trainer.records:
        return None
    record = training.data.preparation.in_units(trainer.records[(trainer.kept or len(trainer.records)) - 1])
    trained, held = record.get(name), record.get(f"validation_{name}")
    if trained is None or held is None:
        return None
    chance = validation[0].shape[1] ** -0.5
    most = trained - GAP - chance if best_is(name) == "max" else (RATIO + 2 * chance) * trained
    if not no_better(name, held, most):
        return None
    both = f"{reported(name, trained)} on the training part, {reported(name, held)} on the validation part"
    early = "" if training.patience else "early stopping, "
    return f"it overfits: {called(name)} {both}. Try {early}--dropout 0.2, --l2 0.001, or more samples"


def _rare(training: Training) -> bool:
    counts = training.data.preparation.class_counts
    return (
        bool(counts)
        and max(counts or [0]) >= RARE * sum(counts or [0])
        and training.options.class_weight == "none"
    )


def _tries(training: Training) -> list[str]:
    """Return the remedies, at least two."""
    trainer, options = training.trainer, training.options
    found = ["--class-weight balanced"] if _rare(training) else []
    last = all(
        one.stopped is None and one.kept in (None, len(one.records)) for one in trainer.each or [trainer]
    )
    if training.finished and last and overfits(training) is None:
        found.append(f"more --epochs than {options.epochs}")
    columns = f"columns that tell more of {training.data.preparation.target!r}"
    return [*found, "another --learning-rate", "fewer columns in --drop" if options.drop else columns]
