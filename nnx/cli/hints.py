"""What a result tells about the model, and what to try: the baseline is not beaten, classes are rare, it overfits."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from nnx.callbacks.monitor import best_is
from nnx.cli.measured import first_number, reported
from nnx.data.baseline import no_better
from nnx.display.names import called

if TYPE_CHECKING:
    from nnx.cli.job import Job

MARGIN = 0.02
"""Of the baseline's errors: a model that makes fewer by no more than this is hardly better."""
RARE = 0.75
"""The share of the most frequent class from which the others are rare."""
LITTLE = 0.25
"""Of the baseline's errors: a model that makes fewer by no more than this has hardly learned the rare classes."""
GAP, RATIO = 0.1, 1.25
"""How much better the training may do than the validation, in a score and in an error. Of n samples 1/sqrt(n), or
twice that, is added, which chance alone may make."""


def warning(job: "Job") -> str | None:
    """Return that the model is no better than the baseline, and what to try; None where it is."""
    name, base = next(iter(job.baseline.scores().items()), ("", 0.0))
    value = job.measured.get(name)
    enough = base + MARGIN * (1 - base) if best_is(name, "min") == "max" else base * (1 - MARGIN / 2)
    if value is None or not no_better(name, value, enough):
        return None
    if name == "accuracy" and job.options.class_weight != "none":
        return None  # weights trade accuracy for the rare classes
    how = "no better" if no_better(name, value, base) else "hardly better"
    *others, last = _tries(job)
    return f"the model is {how} than the baseline, {job.baseline.text}. Try {', '.join(others)}, or {last}"


def hints(job: "Job") -> Iterator[str]:
    """Yield what else is worth a look, a sentence each."""
    base = job.baseline.scores().get("accuracy")
    accuracy = job.measured.get("accuracy")
    if (
        base is not None
        and accuracy is not None
        and _rare(job)
        and base < accuracy < base + LITTLE * (1 - base)
    ):
        yield (
            f"nearly all samples are {job.baseline.prediction!r}: accuracy says little of the other classes. "
            '--class-weight balanced weighs them up, and --metrics "accuracy,recall(macro)" counts every class alike'
        )
    if job.options.class_weight != "none" and accuracy is not None and base is not None and accuracy <= base:
        yield (
            f"accuracy is no better than the baseline's, {job.baseline.text}: --class-weight gives it up for rare "
            'classes. --metrics "recall(macro)" counts every class alike'
        )
    if (text := overfits(job)) is not None:
        yield text


def overfits(job: "Job") -> str | None:
    """Return that the training part is predicted far better than the validation part, at the epoch that is kept."""
    trainer, name, validation = job.trainer, first_number(job.measures), job.data.validation
    if validation is None or name is None or not trainer.records:
        return None
    record = job.data.preparation.in_units(trainer.records[(trainer.kept or len(trainer.records)) - 1])
    training, held = record.get(name), record.get(f"validation_{name}")
    if training is None or held is None:
        return None
    chance = validation[0].shape[1] ** -0.5
    most = training - GAP - chance if best_is(name) == "max" else (RATIO + 2 * chance) * training
    if not no_better(name, held, most):
        return None
    both = f"{reported(name, training)} on the training part, {reported(name, held)} on the validation part"
    early = "" if job.patience else "early stopping, "
    return f"it overfits: {called(name)} {both}. Try {early}--dropout 0.2, --l2 0.001, or more samples"


def _rare(job: "Job") -> bool:
    counts = job.data.preparation.class_counts
    return (
        bool(counts)
        and max(counts or [0]) >= RARE * sum(counts or [0])
        and job.options.class_weight == "none"
    )


def _tries(job: "Job") -> list[str]:
    """Return what may help, of which there are two at least."""
    trainer, options = job.trainer, job.options
    found = ["--class-weight balanced"] if _rare(job) else []
    last = trainer.stopped is None and trainer.kept in (None, len(trainer.records))
    if job.finished and last and overfits(job) is None:
        found.append(f"more --epochs than {options.epochs}")
    columns = f"columns that tell more of {job.data.preparation.target!r}"
    return [*found, "another --learning-rate", "fewer columns in --drop" if options.drop else columns]
