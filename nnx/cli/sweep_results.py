"""The results of a sweep: in its file, in a table, and in words."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

from rich.markup import escape
from rich.table import Table

from nnx.callbacks.monitor import best_is
from nnx.cli import metric_tables, show
from nnx.cli.folder import CSV, RESULTS
from nnx.cli.options import long
from nnx.display.names import called
from nnx.errors import InputError, count
from nnx.io.atomic_write import written_aside

DONE, FAILED, INTERRUPTED = "done", "failed", "interrupted"


def shown(values: Mapping[str, Any]) -> str:
    """Return a combination as it would be typed.

    Examples
    --------
    >>> shown({"learning_rate": 0.1, "norm": None})
    'learning-rate=0.1 norm=none'
    """
    return " ".join(f"{long(name)}={_text(value)}" for name, value in values.items())


def _text(value: Any) -> str:
    return "none" if value is None else str(value)


def tell(row: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Print the result of a run, in a line."""
    if row["status"] == FAILED:
        text = f"failed: {short(row['error'])}"
    else:
        value = row.get(row["score_name"])
        reached = f"{label(row['score_name'])} {metric_tables.figure(row['score_name'], value)}"
        stopped = "stopped by Ctrl-C: " if row["status"] == INTERRUPTED else ""
        text = f"{stopped}{reached}, {count(row['epochs'], 'epoch')}, {row['seconds']:.1f} s"
    show.say(row["run"], f"{shown(values)}: {text}")


def label(name: str) -> str:
    """Return the name of a metric for people."""
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
        _check_results(found["runs"], found["swept"], found["score"])
        if found.get("test") is not None:
            _has(found["test"], {"run": str, "samples": int, found["score"]: object})
    except KeyError as error:
        raise InputError(f"{str(path)!r} holds no results of a sweep: there is no {error} in it") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{str(path)!r} holds no results of a sweep: {error}") from error
    return found


def _check_results(runs: Sequence[Mapping[str, Any]], swept: Sequence[str], score: str | None) -> None:
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
