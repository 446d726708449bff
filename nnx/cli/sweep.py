"""A sweep: one run after another, each with other options, and a table of their scores."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.markup import escape

from nnx import cli
from nnx.callbacks import Callback
from nnx.cli import build, config, folds, in_units, parts, show, sweep_workers
from nnx.cli.folder import CONFIG, OF_A_RUN, OF_A_SWEEP, Folder, name_of
from nnx.cli.grid import combinations
from nnx.cli.inputs import UsageError, typed
from nnx.cli.options import Options, in_options, long
from nnx.cli.prepared import Reader
from nnx.cli.resuming import going_on
from nnx.cli.running import train
from nnx.cli.stacks import BEGIN, Run, describe, place_of, stacks
from nnx.cli.sweep_results import DONE, FAILED, INTERRUPTED, present, ranked, results, shown, tell, write
from nnx.cli.training import Training, evaluate, prepare, score
from nnx.errors import Error, InputError, count, first_line, positive_int
from nnx.io.run_folder import MODEL
from nnx.metrics import is_number
from nnx.metrics.history import without_nan
from nnx.support.parallel import SchedulerError
from nnx.train.trainer import Trainer


def sweep(options: Options) -> int:
    """Train with every combination; return the exit status: 1 if all failed, 130 after Ctrl-C."""
    values = combinations(options.table, options.draws, options.seed)
    _check(replace(options, **values[0]))
    if options.draws and len(values) < options.draws:
        show.warn(f"there are no more than {count(len(values), 'combination')} to draw", "Note")
    resume = options.resume is not None
    folder = (
        Folder(options.resume)
        if options.resume
        else Folder.make(options.out, name_of(options.data or "sweep"))
    )
    earlier = results(folder.path)["runs"] if resume else []
    folder.begin(config.text(options, "makes this sweep again"), resume)
    show.say("Sweep", f"{count(len(values), 'run')} in {folder.path}: {', '.join(map(long, values[0]))}")
    made = Sweep(options, values, folder)
    interrupted = False
    try:
        made.plan(earlier)
        with show.console.status("") as status:
            interrupted = made.train(status)
    except KeyboardInterrupt:  # between two runs, or while one was made ready
        interrupted = True
    except SchedulerError as error:
        if made.replaces or not made.begun:
            raise
        raise SchedulerError(f"{error}. Go on with nnx train --resume {folder.path}") from error
    finally:
        try:
            if made.replaces or not made.begun:
                folder.give_up()
        finally:
            folder.end()
    if made.rows:
        present(made.found, folder.path, saved=not made.replaces)
    if interrupted:
        left = len(values) - sum(row["status"] != INTERRUPTED for row in made.rows)
        show.console.print(f"Stopped by Ctrl-C with {count(left, 'run')} to go.")
        if made.begun and not made.replaces:
            show.say("Go on", f"nnx train --resume {folder.path}", fold=False)
        return cli.INTERRUPTED
    return 1 if _all_failed(made.rows) else 0


class Sweep:
    """The runs of a sweep, in stacks, and their rows of the table.

    Attributes
    ----------
    found : dict
        The results, with the rows in the order of the runs.
    replaces : bool
        Whether an earlier run or sweep is in the folder, which stays until a run has learned something.
    """

    def __init__(self, options: Options, values: Sequence[Mapping[str, Any]], folder: Folder) -> None:
        self.options, self.values, self.folder = options, values, folder
        self.found: dict[str, Any] = {"score": None, "swept": list(map(long, values[0])), "runs": []}
        if options.folds:
            self.found["folds"] = options.folds
        self.replaces = folder.replaces
        self._stacks: list[list[Run]] = []

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows so far."""
        found: list[dict[str, Any]] = self.found["runs"]
        return found

    @property
    def begun(self) -> bool:
        """Whether there is something to go on from: rows, or runs that a worker has begun."""
        names = [run.name for stack in self._stacks for run in stack]
        return bool(self.rows) or any((self.folder.path / name / CONFIG).is_file() for name in names)

    def plan(self, earlier: Sequence[dict[str, Any]]) -> None:
        """Take the rows that are done from an earlier part of this sweep; put the other runs into stacks."""
        known, runs = {row["run"]: row for row in earlier}, []
        resume = self.options.resume is not None
        for i, values in enumerate(self.values, 1):
            name = f"{i:0{len(str(len(self.values)))}}"
            row, path = known.get(name), self.folder.path / name
            if row is not None and row["status"] == DONE:
                self._add([row])
                continue
            resumed = resume and (row is None or row["status"] == INTERRUPTED)  # None: killed in it
            resumed = resumed and (path / CONFIG).is_file()
            place = place_of(path) if resumed else BEGIN
            runs.append(Run(name, values, options_of_run(self.options, values), resumed, place))
        self._stacks = stacks(runs)
        if runs:
            show.say("Stacks", describe(self._stacks))

    def train(self, status: Any) -> bool:
        """Train the runs; return whether Ctrl-C has ended them."""
        reader, path = Reader(), self.folder.path
        for stack, rows in self._results(reader, status):
            for run, row in zip(stack, rows, strict=True):
                tell(row, run.values)
            self._add(rows)
            learned = [row for row in rows if row["status"] != FAILED and ("loss" in row or row["epochs"])]
            if self.replaces and learned:
                self.folder.clear((*OF_A_RUN, *OF_A_SWEEP), but=[run.name for run in stack])
                self.replaces = False
            if not self.replaces:
                write(self.found, path)
            if any(row["status"] == INTERRUPTED for row in rows):
                return True
        if not self.replaces and (best := ranked(self.found)[0])["status"] == DONE:
            values = self.values[int(best["run"]) - 1]
            self.found["test"] = tested(self.options, values, path / best["run"], reader)
            write(self.found, path)
        return False

    def _results(self, reader: Reader, status: Any) -> Iterator[tuple[Sequence[Run], list[dict[str, Any]]]]:
        """Yield the runs that are done, and their rows: those of a stack at once, or one alone."""
        options, path = self.options, self.folder.path
        if options.jobs is None and options.scheduler is None:
            for stack in self._stacks:
                what = f"{count(len(stack), 'run')} in a stack"
                if len(stack) == 1:
                    what = f"run {stack[0].name} of {len(self.values)}, {shown(stack[0].values)}"
                status.update(escape(what))
                yield stack, trained(stack, path, reader, watching(status, what))
            return
        tasks = sweep_workers.shares(self._stacks, options.jobs)
        left = sum(map(len, tasks))
        for runs, found in sweep_workers.results(trained, tasks, path, options.jobs, options.scheduler):
            left -= len(runs)
            status.update(f"{count(left, 'run')} of {len(self.values)} to go")
            yield runs, [failed(named(run), found) for run in runs] if isinstance(found, Exception) else found

    def _add(self, rows: Sequence[dict[str, Any]]) -> None:
        self.found["runs"] = sorted([*self.rows, *rows], key=lambda row: int(row["run"]))
        self.found["score"] = next((row["score_name"] for row in self.rows if "score_name" in row), None)


def _all_failed(runs: Sequence[Mapping[str, Any]]) -> bool:
    """Whether no run is done; then say why the first one failed, also with --quiet."""
    if not all(row["status"] == FAILED for row in runs):
        return False
    said = f"all {count(len(runs), 'run')} failed" if len(runs) > 1 else "the run failed"
    show.complain(f"{said}; {runs[0]['run']}: {runs[0]['error']}")
    return True


def _check(options: Options) -> None:
    """Raise a UsageError unless the runs can be compared: by one number, on samples held out."""
    with typed():
        if options.jobs is not None:
            positive_int("jobs", options.jobs)
        validation, _ = parts.check(options)
        if options.members is not None:
            raise InputError("a sweep trains one network a run, and its runs at once; leave out --members")
        if options.selection != "all":
            raise InputError("--selection is of members, which a sweep has not; leave it out")
        build.check_of_members(options, bool(validation))
    build.check_trackers(options)
    if not validation and not options.folds:
        raise UsageError(
            "a sweep compares its runs on the samples held out for validation; --held-out 0 leaves none"
        )
    for name in (build.metrics(options) or [])[:1]:
        if not is_number(name):
            raise UsageError(
                f"{name} of --metrics is no single number to compare the runs by; give another one first"
            )


def watching(status: Any, what: str) -> Callable[[str], Callback]:
    """Return a function that makes a callback that shows a run of the sweep and its current part."""
    return lambda part: in_units.Watch(status, f"{what}, {part}" if part else what)


def trained(
    stack: Sequence[Run], path: Path, reader: Reader, watch: Callable[[str], Callback]
) -> list[dict[str, Any]]:
    """Train the runs of a stack at once, or one alone; return their rows of the table, also of those that fail.

    Parameters
    ----------
    stack : sequence of Run
    path : Path
        The folder of the sweep.
    reader : Reader
    watch : function
        Returns what shows the progress, from words for a part of a run.
    """
    rows = [named(run) for run in stack]
    errors: dict[int, Exception | None] = {}
    begun: dict[int, tuple[Training, Folder]] = {}
    for k, run in enumerate(stack):
        try:
            ready = made_ready(run, path / run.name, reader)
            rows[k]["score_name"] = score(ready[0])
            begun[k] = ready
        except Exception as error:
            errors[k] = error
    if begun:
        resumed = [stack[k].resumed for k in begun]
        go_on = stack[0].place != BEGIN if len(stack) > 1 else stack[0].resumed
        errors |= dict(zip(begun, train([*begun.values()], resumed, watch(""), go_on), strict=True))
    for k, (training, folder) in begun.items():
        try:
            if errors[k] is None:
                rows[k] |= cross_validated(stack[k].options, training, folder, reader, watch)
        except Exception as error:
            errors[k] = error
    return [
        finished(row, begun[k][0]) if (why := errors[k]) is None else failed(row, why)
        for k, row in enumerate(rows)
    ]


def named(run: Run) -> dict[str, Any]:
    """Return the beginning of a run's row: its name, and its own options."""
    return {"run": run.name, **{long(name): value for name, value in run.values.items()}}


def made_ready(run: Run, path: Path, reader: Reader) -> tuple[Training, Folder]:
    """Return the training of a run, and its folder, which goes on or is made."""
    training = prepare(run.options, reader)
    training.data = replace(training.data, test=None)  # the runs are compared by what is not reported
    training.asks = False
    training.pictures = False  # which would take longer than many a run
    if not run.resumed:
        return training, Folder.make(path, "")
    going_on(training, path)
    return training, Folder(path)


def cross_validated(
    options: Options, training: Training, folder: Folder, reader: Reader, watch: Callable[[str], Callback]
) -> dict[str, Any]:
    """Cross-validate a run, where that is asked for: its score is then the mean. Return the deviations."""
    if not options.folds or not training.finished:
        return {}
    over = folds.train(options, reader, folder, watch)
    training.finished = over["mean"] is not None
    training.measured = over["mean"] or {}
    return {f"{name}_deviation": value for name, value in (over["deviation"] or {}).items()}


def finished(row: dict[str, Any], training: Training) -> dict[str, Any]:
    """Return the row of a run that is done or was interrupted."""
    return {
        **row,
        "status": DONE if training.finished else INTERRUPTED,
        **without_nan(training.measured),
        "epochs": len(training.trainer.records),
        "seconds": round(training.seconds, 3),
    }


def failed(row: dict[str, Any], error: Exception) -> dict[str, Any]:
    """Return the row of a run that has failed."""
    ours = isinstance(error, Error | OSError)
    if os.environ.get("NNX_TRACEBACK") and not ours:
        raise error
    said = in_options(str(error)) if ours else f"{type(error).__name__}: {first_line(error)}"
    return {**row, "status": FAILED, "error": said}


def options_of_run(options: Options, values: Mapping[str, Any]) -> Options:
    """Return the options of one run."""
    own: dict[str, Any] = {"table": {}, "draws": None, "sweep": None, "resume": None, "out": None}
    return replace(options, **own, **values)


def tested(options: Options, values: Mapping[str, Any], run: Path, reader: Reader) -> dict[str, Any] | None:
    """Return the scores of the best run on the test part, by which no runs were compared; None without one."""
    options = options_of_run(options, values)
    training = prepare(options, reader)
    if training.data.test is None:
        return None
    training.trainer = Trainer.load(run / MODEL, options.backend, options.device, options.precision)
    return {
        "run": run.name,
        "samples": len(training.data.test[2]),
        **without_nan(evaluate(training, training.data.test)),
    }
