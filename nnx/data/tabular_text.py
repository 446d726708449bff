"""A model of a table in one line."""

from nnx.callbacks.fit import epochs_done
from nnx.data.prepare import Preparation
from nnx.display.names import called
from nnx.display.rounding import significant
from nnx.errors import count, listed
from nnx.metrics.history import columns_of_members, medians
from nnx.train.trainer import Trainer


def described(prepared: Preparation, trainer: Trainer, reason: str | None) -> str:
    """Return what a model predicts from which columns, and how far it has come."""
    labels, n, inputs = prepared.labels, len(prepared.features), len(prepared.inputs)
    what = prepared.task if labels is None else f"{len(labels)} classes: {listed(map(repr, labels), 6)}"
    since, many = (
        f", since {reason}" if reason else "",
        f" as {count(inputs, 'input')}" * (inputs != n),
    )
    each, done = trainer.each, "not trained yet"
    trained = [one for one in each or [trainer] if one.records]
    if trained:
        done = f"{count(epochs_done(trainer), 'epoch')} done"
        done += f", kept is {trainer.kept}" * bool(not each and trainer.kept)
        last = medians(columns_of_members([[one.records[(one.kept or 0) - 1]] for one in trained]))
        scores = prepared.in_units(last).items()
        done += ", in the median" if each else ","
        done += f" {', '.join(f'{called(name)} {significant(value, 3)}' for name, (value,) in scores)}"
    members = f"{count(len(each), 'member')}, " * bool(each)
    return f"{prepared.target!r} ({what}{since}) from {count(n, 'feature')}{many}: {members}{done}"
