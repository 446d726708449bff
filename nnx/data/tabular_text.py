"""A model of a table in one line."""

from nnx.data.prepare import Preparation
from nnx.display.names import called
from nnx.display.rounding import significant
from nnx.errors import count, listed
from nnx.train.trainer import Trainer


def described(prepared: Preparation, trainer: Trainer, reason: str | None) -> str:
    """Return what a model predicts from which columns, and how far it has come."""
    labels, n, inputs = prepared.labels, len(prepared.features), len(prepared.inputs)
    what = prepared.task if labels is None else f"{len(labels)} classes: {listed(map(repr, labels), 6)}"
    since, many = (
        f", since {reason}" if reason else "",
        f" as {count(inputs, 'input')}" * (inputs != n),
    )
    done = "not trained yet"
    if trainer.records:
        done = f"{count(len(trainer.records), 'epoch')} done" + f", kept is {trainer.kept}" * bool(
            trainer.kept
        )
        record = prepared.in_units(trainer.records[(trainer.kept or 0) - 1])
        scores = {name: value for name, value in record.items() if isinstance(value, float | int)}
        done += f", {', '.join(f'{called(name)} {significant(value, 3)}' for name, value in scores.items())}"
    return f"{prepared.target!r} ({what}{since}) from {count(n, 'feature')}{many}: {done}"
