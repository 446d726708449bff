"""A sweep: one run after another, each with other options, and a table of what they reached."""

import csv
import io
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import shorten
from typing import Any

from rich.markup import escape
from rich.table import Table

from nnx import cli
from nnx.callbacks import Callback
from nnx.callbacks.monitor import best_is
from nnx.cli import build, config, folds, in_units, metric_tables, parts, show
from nnx.cli.folder import CONFIG, CSV, OF_A_RUN, OF_A_SWEEP, RESULTS, Folder, name_of
from nnx.cli.grid import combinations
from nnx.cli.inputs import UsageError, typed
from nnx.cli.options import Options, long
from nnx.cli.prepared import Reader
from nnx.cli.resuming import going_on
from nnx.cli.running import train
from nnx.cli.training import evaluate, prepare, score
from nnx.display.names import called
from nnx.errors import Error, InputError, count, first_line
from nnx.io.atomic_write import written_aside
from nnx.io.run_folder import MODEL
from nnx.metrics import is_number
from nnx.metrics.history import without_nan
from nnx.train.trainer import Trainer

DONE, FAILED, INTERRUPTED = "done", "failed", "interrupted"


def sweep(options: Options) -> int:
    """Train with every combination; return the exit status: 1 if all failed, 130 after Ctrl-C."""
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
    if all(row["status"] == FAILED for row in found["runs"]):
        first = found["runs"][0]
        said = (
            f"all {count(len(found['runs']), 'run')} failed" if len(found["runs"]) > 1 else "the run failed"
        )
        show.complain(f"{said}; {first['run']}: {first['error']}")  # also where nothing else is said
        return 1
    return 0


def watching(status: Any, what: str) -> Callable[[str], Callback]:
    """Return what makes a callback that shows a run of the sweep, and which part of it is being done."""
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
    training.trainer = Trainer.load(run / MODEL, options.backend, options.device)
    return {
        "run": run.name,
        "samples": len(training.data.test[2]),
        **without_nan(evaluate(training, training.data.test)),
    }


def shown(its: Mapping[str, Any]) -> str:
    """Return a combination as it would be typed.

    Examples
    --------
    >>> shown({"learning_rate": 0.1, "norm": None})
    'learning-rate=0.1 norm=none'
    """
    return " ".join(f"{long(name)}={_text(value)}" for name, value in its.items())


def _text(value: Any) -> str:
    return "none" if value is None else str(value)


def tell(row: Mapping[str, Any], its: Mapping[str, Any]) -> None:
    """Say what became of a run, in a line."""
    if row["status"] == FAILED:
        text = f"failed: {short(row['error'])}"
    else:
        value = row.get(row["score_name"])
        reached = f"{label(row['score_name'])} {metric_tables.figure(row['score_name'], value)}"
        stopped = "stopped by Ctrl-C: " if row["status"] == INTERRUPTED else ""
        text = f"{stopped}{reached}, {count(row['epochs'], 'epoch')}, {row['seconds']:.1f} s"
    show.say(row["run"], f"{shown(its)}: {text}")


def label(name: str) -> str:
    """Return what people call a metric."""
    return called(name)


def short(error: str) -> str:
    """Return the first sentence of an error, or as much of it as a line holds.

    Examples
    --------
    >>> short("the cost became nan in step 2 of epoch 1.5. Try a lower rate")
    'the cost became nan in step 2 of epoch 1.5'
    """
    return shorten(error.partition(". ")[0], 100, placeholder=" ...")


def ranked(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows, the best first, those without a score last."""
    name = found["score"]
    sign = -1 if name is not None and best_is(name) == "max" else 1

    def place(row: Mapping[str, Any]) -> tuple[bool, float]:
        value = row.get(name)
        there = isinstance(value, int | float) and math.isfinite(value) and row["status"] != FAILED
        return (not there, sign * value if there else 0.0)  # type: ignore[operator]

    return sorted(found["runs"], key=place)


def table(found: Mapping[str, Any], width: int) -> Table:
    """Return the results as a table; a narrow one has no costs and no times."""
    swept, name, wide = found["swept"], found["score"], width >= 80
    title = "Results, the best first" + (f"; means of {k} folds" if (k := found.get("folds")) else "")
    result = Table(title=title, title_justify="left")
    result.add_column("run", no_wrap=True)
    for key in swept:
        result.add_column(key, justify="right", overflow="fold")
    names = [] if name is None else [name, *["loss"] * wide]
    for column in (*map(label, names), "epochs", *["s"] * wide):
        result.add_column(column, justify="right", no_wrap=True)
    for row in ranked(found):
        cells = [row["run"], *(_text(row.get(key)) for key in swept)]
        if row["status"] == FAILED:
            result.add_row(*map(escape, cells), "[red]failed[/]")
            continue
        numbers = [metric_tables.figure(one, row.get(one)) for one in names]
        mark = " (stopped)" if row["status"] == INTERRUPTED else ""
        seconds = [f"{row['seconds']:.1f}"] * wide
        result.add_row(*map(escape, [*cells, *numbers]), f"{row['epochs']}{mark}", *seconds)
    return result


def present(found: Mapping[str, Any], folder: Path, saved: bool = True) -> None:
    """Print the results: the table, or the whole as JSON."""
    show.result({"folder": str(folder), **found, "runs": ranked(found)})
    if not show.silent():
        print_table(found)
    best = ranked(found)[0]
    if not saved:
        show.say("Saved", f"nothing: what was in {folder} before stays", fold=False)
        return
    show.say("Saved", f"{folder}: {CSV}, {RESULTS}", fold=False)
    if best["status"] == DONE:
        show.say("Best", str(folder / best["run"]), fold=False)


def print_table(found: Mapping[str, Any]) -> None:
    """Print the table, and why runs have failed."""
    show.output.print(table(found, show.output.width))
    for row in found["runs"]:
        if row["status"] == FAILED:
            show.say("Failed", f"{row['run']}: {row['error']}", to=show.output)
    if test := found.get("test"):
        name = found["score"]
        said = f"{label(name)} {metric_tables.figure(name, test[name])} on {count(test['samples'], 'sample')}"
        show.say(
            "Test", f"{test['run']}: {said} of the test part, which no run was compared on", to=show.output
        )


def write(found: Mapping[str, Any], folder: Path) -> None:
    """Write the results as they are now, as JSON in the order of the runs and as CSV, the best first."""
    with written_aside(folder / RESULTS) as aside:
        aside.write_text(json.dumps(found, indent=1, allow_nan=False), encoding="utf-8")
    rows = ranked(found)
    columns = dict.fromkeys(key for row in rows for key in row if key != "score_name")
    text = io.StringIO()
    writer = csv.DictWriter(text, [*columns], extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with written_aside(folder / CSV) as aside:
        aside.write_text(text.getvalue(), encoding="utf-8")


def results(folder: Path) -> dict[str, Any]:
    """Return the results that a sweep has left; none where there are none yet.

    Raises
    ------
    InputError
        When they cannot be read.
    """
    path = folder / RESULTS
    if not path.is_file():
        return {"score": None, "swept": [], "runs": []}
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        _check(found["runs"], found["swept"], found["score"])
        if found.get("test") is not None:
            _has(found["test"], {"run": str, "samples": int, found["score"]: object})
    except KeyError as error:
        raise InputError(f"{str(path)!r} holds no results of a sweep: there is no {error} in it") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{str(path)!r} holds no results of a sweep: {error}") from error
    return found


def _check(runs: Sequence[Mapping[str, Any]], swept: Sequence[str], score: str | None) -> None:
    if score is not None and not isinstance(score, str):
        raise ValueError(f"the score {score!r}")
    for row in runs:
        if row["status"] not in (DONE, FAILED, INTERRUPTED):
            raise ValueError(f"the status {row['status']!r}")
        own = {"error": str} if row["status"] == FAILED else {"epochs": int, "seconds": int | float}
        _has(row, {"run": str, **dict.fromkeys(swept, object), **own})


def _has(row: Mapping[str, Any], kinds: Mapping[str, Any]) -> None:
    for name, kind in kinds.items():
        if not isinstance(row[name], kind):
            raise ValueError(f"the {name} {row[name]!r}")
