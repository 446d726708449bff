"""A sweep: one run after another, each with other options, and a table of their scores."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.markup import escape

from nnx import cli
from nnx.callbacks import Callback
from nnx.cli import build, config, folds, in_units, parts, show
from nnx.cli.folder import CONFIG, OF_A_RUN, OF_A_SWEEP, Folder, name_of
from nnx.cli.grid import combinations
from nnx.cli.inputs import UsageError, typed
from nnx.cli.options import Options, long
from nnx.cli.prepared import Reader
from nnx.cli.resuming import going_on
from nnx.cli.running import train
from nnx.cli.sweep_results import DONE, FAILED, INTERRUPTED, present, ranked, results, shown, tell, write
from nnx.cli.training import evaluate, prepare, score
from nnx.errors import Error, count, first_line
from nnx.io.run_folder import MODEL
from nnx.metrics import is_number
from nnx.metrics.history import without_nan
from nnx.train.trainer import Trainer


def sweep(options: Options) -> int:
    """Train with every combination; return the exit status: 1 if all failed, 130 after Ctrl-C."""
    _check(options)
    values = combinations(options.table, options.draws, options.seed)
    resume = options.resume is not None
    folder = (
        Folder(options.resume)
        if options.resume
        else Folder.make(options.out, name_of(options.data or "sweep"))
    )
    rows = {row["run"]: row for row in results(folder.path)["runs"]} if resume else {}
    folder.begin(config.text(options, "makes this sweep again"), resume)
    show.say("Sweep", f"{count(len(values), 'run')} in {folder.path}: {', '.join(map(long, values[0]))}")
    reader, interrupted, earlier = Reader(), False, folder.replaces
    found: dict[str, Any] = {"score": None, "swept": list(map(long, values[0])), "runs": []}
    if options.folds:
        found["folds"] = options.folds
    try:
        with show.console.status("") as status:
            for i, its in enumerate(values, 1):
                name = f"{i:0{len(str(len(values)))}}"
                row = rows.get(name)
                if row is None or row["status"] != DONE:
                    what = f"run {i} of {len(values)}, {shown(its)}"
                    status.update(escape(what))
                    goes_on = resume and (row is None or row["status"] == INTERRUPTED)  # None: killed in it
                    row = one(options, its, folder.path / name, reader, watching(status, what), goes_on)
                    tell(row, its)
                found["runs"].append(row)
                found["score"] = found["score"] or row.get("score_name")
                if earlier and row["status"] != FAILED and ("loss" in row or row["epochs"]):
                    folder.clear((*OF_A_RUN, *OF_A_SWEEP), but=name)
                    earlier = False
                if not earlier:
                    write(found, folder.path)
                if row["status"] == INTERRUPTED:
                    interrupted = True
                    break
            if not interrupted and not earlier and (best := ranked(found)[0])["status"] == DONE:
                found["test"] = tested(
                    options, values[int(best["run"]) - 1], folder.path / best["run"], reader
                )
                write(found, folder.path)
    except KeyboardInterrupt:  # between two runs, or while one was made ready
        interrupted = True
    finally:
        try:
            if earlier or not found["runs"]:
                folder.give_up()
        finally:
            folder.end()
    if found["runs"]:
        present(found, folder.path, saved=not earlier)
    if interrupted:
        left = len(values) - sum(row["status"] != INTERRUPTED for row in found["runs"])
        show.console.print(f"Stopped by Ctrl-C with {count(left, 'run')} to go.")
        if not earlier:
            show.say("Go on", f"nnx train --resume {folder.path}", fold=False)
        return cli.INTERRUPTED
    return 1 if _all_failed(found["runs"]) else 0


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
        validation, _ = parts.check(options)
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


def one(
    options: Options,
    its: Mapping[str, Any],
    path: Path,
    reader: Reader,
    watch: Callable[[str], Callback],
    goes_on: bool,
) -> dict[str, Any]:
    """Train one run of the sweep; return its row of the table, also if it fails."""
    row: dict[str, Any] = {"run": path.name, **{long(name): value for name, value in its.items()}}
    try:
        of_run = of_one(options, its)
        training = prepare(of_run, reader)
        training.data = replace(training.data, test=None)  # the runs are compared by what is not reported
        training.asks = False
        training.pictures = False  # which would take longer than many a run
        row["score_name"] = score(training)
        if goes_on and (path / CONFIG).is_file():
            going_on(training, path)
            folder = Folder(path)
            train(training, folder, watch(""), resume=True)
        else:
            folder = Folder.make(path, "")
            train(training, folder, watch(""))
        if options.folds and training.finished:
            over = folds.train(of_run, reader, folder, watch)
            training.finished = over["mean"] is not None
            training.measured = over["mean"] or {}
            row |= {f"{name}_deviation": value for name, value in (over["deviation"] or {}).items()}
    except Exception as error:
        if os.environ.get("NNX_TRACEBACK") and not isinstance(error, Error | OSError):
            raise
        said = (
            str(error)
            if isinstance(error, Error | OSError)
            else f"{type(error).__name__}: {first_line(error)}"
        )
        return {**row, "status": FAILED, "error": said}
    return {
        **row,
        "status": DONE if training.finished else INTERRUPTED,
        **without_nan(training.measured),
        "epochs": len(training.trainer.records),
        "seconds": round(training.seconds, 3),
    }


def of_one(options: Options, its: Mapping[str, Any]) -> Options:
    """Return the options of one run."""
    own: dict[str, Any] = {"table": {}, "draws": None, "sweep": None, "resume": None, "out": None}
    return replace(options, **own, **its)


def tested(options: Options, its: Mapping[str, Any], run: Path, reader: Reader) -> dict[str, Any] | None:
    """Return the scores of the best run on the test part, by which no runs were compared; None without one."""
    options = of_one(options, its)
    training = prepare(options, reader)
    if training.data.test is None:
        return None
    training.trainer = Trainer.load(run / MODEL, options.backend, options.device, options.precision)
    return {
        "run": run.name,
        "samples": len(training.data.test[2]),
        **without_nan(evaluate(training, training.data.test)),
    }
