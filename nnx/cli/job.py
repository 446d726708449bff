"""One training: its data, its trainer, its folder, and what is said of it."""

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from nnx import plots
from nnx.batches.sample_weights import sample_weights
from nnx.callbacks import Callback
from nnx.cli import build, config, disk, measured, parts, show
from nnx.cli.folder import HISTORY, OF_A_SWEEP, Folder
from nnx.cli.hints import hints, warning
from nnx.cli.inputs import source
from nnx.cli.keep import Keeper, interruptible
from nnx.cli.options import LOSS, Options
from nnx.cli.parts import Part
from nnx.data.baseline import Baseline
from nnx.data.prepare import Preparation, decided
from nnx.data.source import left_out
from nnx.display.names import called
from nnx.display.rounding import significant
from nnx.errors import Error, InputError, count
from nnx.io.atomic_write import written_aside
from nnx.metrics import metric
from nnx.metrics.history import without_nan
from nnx.plots.run import TRAINING_SAMPLE
from nnx.train import model_file
from nnx.train.model_file import CHECKPOINTS, MODEL
from nnx.train.trainer import Trainer

SHARE, FEWEST = 1 / 20, 128
"""Of the training samples so many are measured, a share or at least a number: it costs a few percent of an epoch."""


@dataclass(frozen=True)
class Data:
    """The samples of a run, as its network sees them.

    Attributes
    ----------
    m : int
        How many there are, those held out among them.
    preparation : Preparation
    X, Y : array (n[0], m), and (m,) or (n[L], m)
        To train on.
    validation : (X, Y, y) or None
        What stops the training and chooses the epoch; y (m,) as in the file.
    test : (X, Y, y) or None
        What is reported, and takes no part in any choice.
    parts : dict
        What `parts.described` returns of them.
    another : str or None
        The other task, if the target allows it and none was asked for.
    reason : str or None
        Why the task is what it is, if none was asked for.
    left_out : int
        How many rows were left out, since they have no target.
    """

    m: int
    preparation: Preparation
    X: Any
    Y: Any
    validation: Part | None
    test: Part | None
    parts: dict[str, Any]
    another: str | None
    reason: str | None
    left_out: int = 0

    @property
    def reported(self) -> Part | None:
        """The samples whose scores and pictures are reported: the test part; without one the validation part."""
        return self.test or self.validation


class Reader:
    """Reads and prepares data, and keeps the last: the runs of a sweep share them."""

    def __init__(self) -> None:
        self._sources: dict[Any, Any] = {}
        self._decided: dict[Any, Any] = {}
        self._data: dict[Any, Data] = {}

    def data(self, options: Options, fold: int | None = None) -> Data:
        """Return the data of a run, or of one of its folds."""
        drop = tuple(options.drop or ())
        own = (
            options.dialect,
            options.task,
            options.day_first,
            options.seed,
            options.dtype,
            parts.wanted(options),
            options.folds,
            fold,
        )
        key = options.data, options.target, drop, *own
        if key not in self._data:
            self._data = {}  # before others are made: two may be more than memory holds
            self._data = {key: self._prepared(options, drop, fold)}
        return self._data[key]

    def _prepared(self, options: Options, drop: Sequence[str], fold: int | None) -> Data:
        seed = 0 if Path(options.data).is_file() else options.seed  # which draws the generated ones
        of_source = options.data, options.target, seed, options.dialect
        if of_source not in self._sources:
            self._sources, self._decided = {}, {}
            self._sources = {of_source: source(*of_source)}
        whole = self._sources[of_source]
        of_samples = *of_source, drop, options.day_first, options.task
        if of_samples not in self._decided:  # folds, and runs with other seeds, share them
            self._decided = {}
            found = whole.training(options.target, drop, options.day_first)
            self._decided = {of_samples: decided(found, options.task)}
        samples, task, another, why = self._decided[of_samples]
        sources = parts.sources(options, whole)
        train, *shares = parts.rows(samples, task, sources, options, fold)
        preparation = Preparation.learn(samples, task, train)
        X, Y, _ = preparation.part(samples, train, options.dtype)
        held: dict[str, Part | None] = {}
        for name, source_of, rows in zip(parts.NAMES, sources, shares, strict=True):
            if rows is None:
                held[name] = parts.of_source(name, source_of, options, preparation)
            else:
                held[name] = preparation.part(samples, rows, options.dtype)
        if fold is None:
            parts.warn_of_shared(sources, {"training": (X, Y), **held})
        described = parts.described(sources, held, options.seed)
        return Data(
            len(samples.X),
            preparation,
            X,
            Y,
            **held,
            parts=described,
            another=another,
            reason=why,
            left_out=samples.left_out,
        )


@dataclass
class Job:
    """A run that is ready to train, and, once it has, what became of it."""

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
        """What its pictures are called."""
        return show.title(self.options.data, self.trainer.network)


def prepare(options: Options, reader: Reader, fold: int | None = None) -> Job:
    """Return the run that the options describe: all that can be wrong is looked at, and nothing is written.

    `fold` is the number of one of its folds, which is trained without a part of the samples.
    """
    build.check(options)
    data = reader.data(options, fold)
    preparation, m = data.preparation, data.X.shape[1]
    shape = data.X.shape[0], preparation.output, preparation.n_outputs
    network = build.network(options, *shape, preparation)
    build.class_weight(options, preparation)
    build.callbacks(options, data.validation is not None)  # may be refused
    for part in (data.validation, data.test):
        if part is not None:
            names = build.measures(options, network.output)
            measured.check_memory(names, network.n[-1], part[0].shape[1], options.dtype)
    size = build.batch_size(options, build.optimizer(options, 1000))
    steps = 1 if size is None else -(-m // size)  # of an epoch
    trainer = Trainer(
        network,
        build.optimizer(options, steps),
        options.backend,
        options.device,
        options.dtype,
        options.seed,
        build.regularization(options),
    )
    trainer.weigh(m * options.epochs, steps * options.epochs)  # the run's configuration names the backend
    trainer.metadata = {
        "preparation": preparation.describe(), "data": options.data, "parts": data.parts,
    }  # fmt: skip
    return Job(options, data, trainer, options.plots, plots.callbacks(network))


def describe(job: Job) -> None:
    """Say what is about to be trained, on what."""
    data, trainer = job.data, job.trainer
    preparation, trained = data.preparation, data.X.shape[1]
    if data.reason:
        otherwise = f"; else --task {data.another}" if data.another else ""
        show.say("Task", f"{preparation.task}, since {data.reason}{otherwise}")
    numbers = "counts" if preparation.counts else "numbers"
    what = numbers if preparation.labels is None else f"{len(preparation.labels)} classes"
    held = parts.words(trained, data.parts)
    if not job.validates and not job.patience:
        held += "; no early stopping"
    features, inputs = count(len(preparation.features), "feature"), len(preparation.inputs)
    if inputs != len(preparation.features):
        features += f" as {count(inputs, 'input')}"
    show.say(
        "Data",
        f"{job.options.data}: {count(data.m, 'sample')}, {features}; target {preparation.target!r}, {what}; {held}",
    )
    if data.left_out:
        show.say("Rows", left_out(data.left_out, preparation.target))
    if (day := _drawn_beside(data)) is not None:
        said = (
            f"the samples held out are drawn at random; to score later ones by {day!r}, give a file of them"
        )
        show.say("Dates", f"{said}: --test FILE")
    if data.test is None and (images := parts.beside(job.options.data)):
        show.say("Test", f"{images} lies beside the training images; test on it with --test {images}")
    for line in preparation.account():
        show.say("Columns", line)
    backend = trainer.backend
    show.say("Backend", f"{backend.name} {backend.version} on {backend.device}: {trainer.reason}")
    size = job.batch_size
    show.say("Optimizer", f"{trainer.optimizer!r}, {'all samples' if size is None else size} a step")
    if job.patience:
        by = called(f"validation_{build.stop_by(job.options)}" if job.validates else LOSS)
        show.say("Epochs", f"at most {job.options.epochs}, until {by} has been no better for {job.patience}")
    if preparation.labels is None:
        loss = trainer.network.output.loss_name
        show.say("Cost", f"{loss} of the scaled target; errors are in the unit of {preparation.target!r}")
    if job.options.class_weight != "none":
        said = f"{job.options.class_weight}; in the cost and the scores of the epochs, not in the report"
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


def train(job: Job, folder: Folder, watch: Callback, resume: bool = False) -> None:
    """Train, and leave the model and all else in the folder, however the training ends.

    After Ctrl-C `job.finished` stays False; whatever else ends the fit is raised, and the epochs before are kept.
    """
    trainer, options = job.trainer, job.options
    checkpoints = folder.path / CHECKPOINTS
    keeper = Keeper(checkpoints)
    folder.begin(config.text(options, "trains this run again", backend=trainer.backend.name), resume)
    start = time.perf_counter()
    keep = False
    if sample := training_sample(job.data):
        trainer.metadata[TRAINING_SAMPLE] = sample
    try:
        with interruptible(keeper):
            board = [measured.Board(folder.path, job.data.preparation)] if options.tensorboard else []
            fit(job, [*job.snapshots, watch, *board, keeper], checkpoints if resume else None, sample)
        job.finished = keep = True
    except KeyboardInterrupt:
        keep = trainer.steps > 0
    except BaseException:
        keep = bool(trainer.records)
        raise
    finally:
        job.seconds = time.perf_counter() - start
        try:
            if keep:
                save_surely(job, folder)
            else:
                folder.give_up()
        except (OSError, Error):
            if not job.files:  # the model before stays, and so does its configuration
                with suppress(OSError):
                    folder.give_up()
            raise
        finally:
            folder.end()
    if keep and job.data.reported is not None:
        job.measured = evaluate(job, job.data.reported)
        job.validated = evaluate(job, job.data.validation) if job.data.test and job.data.validation else {}


def fit(job: Job, callbacks: Sequence[Callback], resume: Path | None = None, sample: int = 0) -> None:
    """Train as the options say; so many of the training samples are measured beside the validation."""
    options, X_Y = job.options, validation(job)
    job.trainer.fit(
        job.data.X,
        job.data.Y,
        options.epochs,
        job.batch_size,
        X_Y,
        callbacks=[*build.callbacks(options, job.validates), *callbacks],
        class_weight=build.class_weight(options, job.data.preparation),
        metrics=job.measures if X_Y else None,
        training_metrics=sample or False,
        progress=False,  # a callback shows it
        resume=resume,
    )


def weights(job: Job, Y: Any) -> Any:
    """Return what each sample counts by its class, None where all count alike."""
    given = build.class_weight(job.options, job.data.preparation)
    n, m = job.trainer.network.n[-1], Y.shape[-1]
    if given is None:
        return None
    return sample_weights(None, given, Y if n > 1 else Y[None, :], job.trainer.network.output, n, m)


def validation(job: Job) -> tuple[Any, Any, Any] | None:
    """Return what the training is stopped by, with the weights that it has in training: else it would undo them."""
    if job.data.validation is None:
        return None
    X, Y, _ = job.data.validation
    return X, Y, weights(job, Y)


def training_sample(data: Data) -> int:
    """Return how many training samples are measured beside the validation; no more than it has."""
    if data.validation is None:
        return 0
    m: int = data.X.shape[1]
    held: int = data.validation[0].shape[1]
    return min(m, held, max(FEWEST, int(m * SHARE)))


def save_surely(job: Job, where: Folder) -> None:
    """Write all, again where somebody at a terminal has made room; else the model goes among the temporary files.

    Raises
    ------
    Error
        When something could not be written: the file, the bytes that are needed and free, and where the model is.
    """
    while True:
        try:
            return save(job, where)
        except OSError as error:
            said = disk.why(error, where.path, job.trainer)
            if job.asks and disk.may_try_again(said):
                continue
            if job.files:
                raise Error(f"{said}. The model is saved, what was to follow is not") from error
            if path := disk.elsewhere(job.trainer, MODEL):
                raise Error(f"{said}. The model is in {str(path)!r} instead") from error
            last = model_file.newest(where.path / CHECKPOINTS)
            left = f"go on from {str(last[0])!r}: nnx train --resume {where.path}" if last else "train again"
            raise Error(f"{said}. The model is lost. Make room, and {left}") from error


def save(job: Job, where: Folder) -> None:
    """Write the model, the history and the pictures."""
    trainer, folder = job.trainer, where.path
    trainer.save(folder / MODEL)
    where.clear((HISTORY, *OF_A_SWEEP))  # those of an earlier run or sweep do not belong to this model
    job.files = [MODEL]
    if trainer.records:  # else stopped in the first epoch
        log(job, folder / HISTORY)
        job.files.append(HISTORY)
    job.files += plots.leave(
        folder,
        job.title,
        trainer,
        job.data.preparation,
        *(job.data.reported or (None, None, None)),
        snapshots=job.snapshots,
        pictures=job.pictures,
        complain=show.warn,
    )


def log(job: Job, path: Path) -> None:
    """Write the history, an epoch a line, errors in the target's own unit; the epoch that was kept says so."""
    kept = job.trainer.kept
    with written_aside(path) as aside:
        rows = [
            {
                "epoch": epoch,
                **job.data.preparation.in_units(record),
                **({"kept": True} if epoch == kept else {}),
            }
            for epoch, record in enumerate(job.trainer.records, 1)
        ]
        lines = (json.dumps(without_nan(row)) for row in rows)
        aside.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def evaluate(job: Job, part: Part) -> dict[str, Any]:
    """Return the numbers of a part of the samples, errors in the target's own unit."""
    trainer, preparation = job.trainer, job.data.preparation
    metrics = job.measures
    if preparation.labels is None and "root_mean_squared_error" not in metrics:
        metrics.append("root_mean_squared_error")
    return preparation.in_units(trainer.evaluate(*part[:2], metrics=metrics))


def score(job: Job) -> str:
    """Return the name of the number that runs are compared by: the first metric."""
    return metric(job.measures[0]).name


def tell_epoch(job: Job) -> None:
    """Say which epoch's parameters are kept, where it is not the last or the training stopped early."""
    trainer = job.trainer
    done, kept = len(trainer.records), trainer.kept
    if trainer.stopped and kept is None:
        show.say("Stopped", f"after epoch {done}: {trainer.stopped}; the last parameters are kept")
    if kept is None or kept == done:
        return
    by = f"validation_{build.stop_by(job.options)}" if job.validates else LOSS
    value = job.data.preparation.in_units(trainer.records[kept - 1])[by]
    best = f"epoch {kept} ({called(by)} {significant(value, 4)}): its parameters are kept"
    if trainer.stopped:
        show.say("Stopped", f"after epoch {done} of at most {job.options.epochs}, the best was {best}")
    else:
        show.say("Kept", f"the best of {count(done, 'epoch')} was {best}")


def report(job: Job) -> None:
    """Say how good the model is on the samples held out."""
    tell_epoch(job)
    data, labels = job.data, job.data.preparation.labels
    if data.reported is None and job.finished:
        said = numbers(job, evaluate(job, (data.X, data.Y, None)), data.X.shape[1])
        show.say("Held out", f"none; on the samples that it was trained on: {said}")
    if data.reported is None or not job.measured:
        return
    if data.test is not None and data.validation is not None:
        said = numbers(job, job.validated, len(data.validation[2]))
        show.say("Validated", said + ("; these samples chose the epoch" if job.patience else ""))
    said = numbers(job, job.measured, len(data.reported[2]))
    show.say("Test" if data.test else "Held out", said + measured.beside(job.baseline))
    if data.test is None and job.patience:
        show.say("", "these samples also chose the epoch; --test 0.2 keeps others apart")
    for one in measured.tables(job.measured, labels):
        show.console.print(one)
    if warned := warning(job):
        show.warn(warned)
    for hint in hints(job):
        show.say("Hint", hint)


def numbers(job: Job, found: Mapping[str, Any], m: int) -> str:
    """Return what was measured on m samples, in a line."""
    said = []
    for name, value in found.items():
        if name == "loss" or not isinstance(value, float | int):
            continue
        shown = measured.reported(name, value)
        if name == "accuracy":
            shown += f" ({round(value * m)} of {m})"
        said.append(f"{called(name)} {shown}")
    if job.data.preparation.labels is not None:
        said.append(f"{called('loss')} {found['loss']:.4f}")
    return ", ".join(said)


def result(job: Job, folder: Path) -> dict[str, Any]:
    """Return what became of a run, of types that JSON has."""
    trainer, held, validation = job.trainer, job.data.reported, job.data.validation
    found = {} if held is None else {"samples": len(held[2]), **without_nan(job.measured)}
    tested = job.data.test is not None
    if tested and validation is not None:
        validated = {"samples": len(validation[2]), **without_nan(job.validated)}
    else:
        validated = found
    return {
        "folder": str(folder),
        "files": job.files,
        "data": job.options.data,
        "task": job.data.preparation.task,
        "trained_on": job.data.X.shape[1],
        "held_out": found or None,
        "validation": validated if validation is not None else None,
        "test": found if tested else None,
        "baseline": None if job.data.reported is None else job.baseline.described(),
        "epochs": len(trainer.records),
        "kept_epoch": trainer.kept,
        "steps": trainer.steps,
        "parameters": trainer.network.P,
        "training": without_nan(job.data.preparation.in_units(trainer.records[-1]))
        if trainer.records
        else None,
        "stopped": "Ctrl-C" if not job.finished else trainer.stopped,
        "backend": trainer.backend.name,
        "device": trainer.backend.device,
        "seconds": round(job.seconds, 3),
    }


def going_on(job: Job, folder: Path) -> str:
    """Return where the run goes on from, in words.

    Raises
    ------
    InputError
        When the data are not those that it was begun with, as far as their preparation tells, or it has done more
        epochs than are asked for, or its schedule would be another one.
    """
    good = model_file.newest(folder / CHECKPOINTS)  # `fit` warns of others
    if good is None:
        if there := len(model_file.checkpoints(folder / CHECKPOINTS)):
            cost = f", which writes over {MODEL} there: take a copy of it before"
            raise model_file.none_readable(folder / CHECKPOINTS, there, cost)
        return f"{folder} from its beginning, for it has no checkpoint yet"
    found = good[1].run
    mine = job.trainer.metadata["preparation"]
    written = found["metadata"].get("preparation", {})
    begun = Preparation.of(found["metadata"]).describe() if written else None
    if begun:  # an earlier version wrote less
        begun |= {name: value for name, value in mine.items() if name not in written}
    if json.dumps(begun) != json.dumps(mine):
        raise InputError(
            f"the data {job.options.data!r} are not those that the run {str(folder)!r} began with: its scaling, its "
            "columns or its labels differ. Give it the same data, or train anew"
        )
    before = parts.read(found["metadata"])  # nothing in that of an earlier version
    for name in parts.NAMES:
        if name in before and before[name] != job.data.parts[name]:
            raise InputError(
                f"the {name} part is not the one that the run {str(folder)!r} began with: its samples differ. Give it "
                "the same samples, or train anew"
            )
    position, epochs = found.get("position"), job.options.epochs
    if position is None:
        raise InputError(
            f"{str(good[0])!r} was not written in a run, so there is none to go on with; remove it"
        )
    done = len(found["records"])
    if done > epochs:
        raise InputError(
            f"the run {str(folder)!r} has done {count(done, 'epoch')} already; give more with --epochs, not {epochs}"
        )
    schedule = found["optimizer"].get("learning_rate")
    if isinstance(schedule, dict) and "steps" in schedule:
        mine = job.trainer.optimizer.learning_rate
        if getattr(mine, "steps", None) != schedule["steps"]:
            raise InputError(
                f"the schedule {job.options.schedule!r} was laid out over the steps of the run {str(folder)!r}, so "
                "that its --epochs cannot be changed; train anew with more"
            )
    where = f"epoch {done}" + (f", step {position['step']} of the next" if position["step"] else "")
    if position["stopped"] is not None:
        over = f"its training is over: {position['stopped']}"
        return f"{folder} after {where}; {over}, and more epochs would not go on"
    if done == epochs:
        return f"{folder}; its training is over: {where} was the last. --epochs asks for more"
    return f"{folder} after {where}, of {epochs}"
