"""One training: its options, its data and its trainer, and its results."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from nnx import plots
from nnx.callbacks import Callback
from nnx.callbacks.fit import epochs_done, steps_done, why_ended
from nnx.cli import build, members, metric_tables, show
from nnx.cli.options import Options
from nnx.cli.parts import Part
from nnx.cli.prepared import Data, Reader
from nnx.data.baseline import Baseline
from nnx.metrics import metric
from nnx.metrics.history import medians, without_nan
from nnx.train.trainer import Trainer


@dataclass
class Training:
    """A run that is ready to train, and later its result."""

    options: Options
    data: Data
    trainer: Trainer
    pictures: bool = True
    snapshots: list[Callback] = field(default_factory=list)
    asks: bool = True
    finished: bool = False
    measured: dict[str, Any] = field(default_factory=dict)
    validated: dict[str, Any] = field(
        default_factory=dict
    )  # the validation part's numbers beside those of a test
    seconds: float = 0.0
    files: list[str] = field(default_factory=list)
    members: list[dict[str, Any]] = field(default_factory=list)

    @property
    def batch_size(self) -> int | None:
        """The samples of a step; None: all."""
        return build.batch_size(self.options, self.trainer.optimizer)

    @property
    def validates(self) -> bool:
        """Whether there is a validation part."""
        return self.data.validation is not None

    @property
    def measures(self) -> list[str]:
        """The metrics that are measured, the score first."""
        return build.measures(self.options, self.trainer.network.output)

    @property
    def patience(self) -> int:
        """After how many epochs without a better one it stops; 0: never."""
        return build.patience(self.options, self.validates)

    @cached_property
    def baseline(self) -> Baseline:
        """The baseline on the samples that are reported."""
        made = Baseline(self.data.preparation, self.trainer.network.output, self.measures)
        if self.data.reported is not None:
            made.add(self.data.reported[1])
        return made

    @property
    def title(self) -> str:
        """The title of its pictures."""
        return show.title(self.options.data, self.trainer.network)


def prepare(options: Options, reader: Reader, fold: int | None = None) -> Training:
    """Return the run that the options describe: all that can be wrong is looked at, and nothing is written.

    `fold` is the number of one of its folds, which is trained without a part of the samples.
    """
    build.check(options)
    data = reader.data(options, fold)
    preparation, m = data.preparation, data.X.shape[1]
    shape = data.X.shape[0], preparation.output, preparation.n_outputs
    network = build.network(options, *shape, preparation, data.X)
    build.class_weight(options, preparation)
    build.callbacks(options, data.validation is not None)  # may be refused
    for part in (data.validation, data.test):
        if part is not None:
            names = build.measures(options, network.output)
            metric_tables.check_memory(names, network.n[-1], part[0].shape[1], options.dtype)
    size = build.batch_size(options, build.optimizer(options, 1000))
    steps = build.steps(m, size)
    trainer = Trainer(
        network,
        build.optimizer(options, steps),
        options.backend,
        options.device,
        options.dtype,
        options.seed,
        build.regularization(options),
        precision=options.precision,
        members=options.members,
        communicator=options.communicator,
    )
    # At once, and not in `fit`: the run's configuration names the backend.
    trainer.session.take_numba_if_worth(m * options.epochs, steps * options.epochs)
    snapshots = plots.callbacks(network) if options.members is None else []
    trainer.metadata = {
        "preparation": preparation.describe(), "data": options.data, "parts": data.parts,
    }  # fmt: skip
    return Training(options, data, trainer, options.plots, snapshots)


def evaluate(training: Training, part: Part) -> dict[str, Any]:
    """Return the numbers of a part of the samples, errors in the target's own unit."""
    trainer, preparation = training.trainer, training.data.preparation
    metrics = training.measures
    if preparation.labels is None and "root_mean_squared_error" not in metrics:
        metrics.append("root_mean_squared_error")
    return preparation.in_units(trainer._predictor.evaluate(*part[:2], metrics=metrics))


def evaluate_members(training: Training, part: Part) -> list[dict[str, Any]]:
    """Return what is known of each member, with its numbers on a part of the samples."""
    measured = training.trainer.evaluate(*part[:2], metrics=training.measures)
    return members.with_scores(members.each(training.trainer), training.data.preparation.in_units(measured))


def score(training: Training) -> str:
    """Return the name of the number that runs are compared by: the first metric."""
    return metric(training.measures[0]).name


def result(training: Training, folder: Path) -> dict[str, Any]:
    """Return the result of a run as JSON values."""
    trainer, held, validation = training.trainer, training.data.reported, training.data.validation
    found = {} if held is None else {"samples": len(held[2]), **without_nan(training.measured)}
    tested = training.data.test is not None
    history = medians(trainer.history) if trainer.each else trainer.history
    last = {name: values[-1] for name, values in history.items()}
    if tested and validation is not None:
        validated = {"samples": len(validation[2]), **without_nan(training.validated)}
    else:
        validated = found
    return {
        "folder": str(folder),
        "files": training.files,
        "data": training.options.data,
        "task": training.data.preparation.task,
        "trained_on": training.data.X.shape[1],
        "held_out": found or None,
        "validation": validated if validation is not None else None,
        "test": found if tested else None,
        "baseline": None if training.data.reported is None else training.baseline.described(),
        **({"members": without_nan(training.members)} if trainer.each else {}),
        "epochs": epochs_done(trainer),
        "kept_epoch": None if trainer.each else trainer.kept,
        "steps": steps_done(trainer),
        "parameters": trainer.network.P,
        "training": without_nan(training.data.preparation.in_units(last)) if last else None,
        "stopped": "Ctrl-C" if not training.finished else why_ended(trainer),
        "backend": trainer.backend.name,
        "device": trainer.backend.device,
        "precision": trainer.backend.precision,
        "seconds": round(training.seconds, 3),
    }
