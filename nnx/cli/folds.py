"""Cross-validation: a training without each of K parts in turn, scored on that part, and the mean of the scores."""

import json
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from nnx.callbacks import Callback
from nnx.callbacks.fit import epochs_done
from nnx.cli import metric_tables, show
from nnx.cli.folder import FOLDS, Folder
from nnx.cli.options import Options
from nnx.cli.prepared import Reader
from nnx.cli.running import choose_members, fit
from nnx.cli.training import evaluate, prepare
from nnx.display.names import called
from nnx.errors import InputError
from nnx.io.atomic_write import written_aside
from nnx.metrics.history import without_nan
from nnx.support.schema import Whole, check

_OF_ONE = {"fold", "samples", "trained_on", "epochs", "kept_epoch", "seconds"}
"""The entries of a fold that are no scores."""

_EXPECTED = {
    "folds": Whole(2), "epochs": Whole(1), "each": [dict], "mean": (dict, None), "deviation": (dict, None),
}  # fmt: skip
_COUNTS = {"fold": Whole(1), "samples": Whole(1), "epochs": Whole(1)}
"""The form of folds.json, and of each fold in it."""


def train(
    options: Options, reader: Reader, folder: Folder, watch: Callable[[str], Callback]
) -> dict[str, Any]:
    """Train without each fold in turn, but for those that the folder has already; return their numbers.

    After Ctrl-C the folds before are in the folder, and "mean" is None.

    Parameters
    ----------
    options : Options
    reader : Reader
    folder : Folder
        Of the run; it gets folds.json.
    watch : function
        Returns what shows the progress, from words for a fold.
    """
    k = options.folds or 0
    found = read(folder.path)
    if (found["folds"], found["epochs"]) != (k, options.epochs):
        found = {"folds": k, "epochs": options.epochs, "each": []}
    try:
        with folder.held():
            for i in range(len(found["each"]), k):
                found["each"].append(_one(options, reader, i, watch(f"fold {i + 1} of {k}")))
                found |= means(found)
                with written_aside(folder.path / FOLDS) as aside:
                    aside.write_text(json.dumps(found, indent=1, allow_nan=False), encoding="utf-8")
    except KeyboardInterrupt:
        pass
    return {**found, **means(found)}


def _one(options: Options, reader: Reader, i: int, watch: Callback) -> dict[str, Any]:
    start = time.perf_counter()
    try:
        training = prepare(options, reader, fold=i)
        fit(training, [watch])
        choose_members(training)
    except InputError as error:
        raise InputError(f"in fold {i + 1} of {options.folds}: {error}") from error
    assert training.data.test is not None
    return {
        "fold": i + 1,
        "samples": len(training.data.test[2]),
        "trained_on": training.data.X.shape[1],
        "epochs": epochs_done(training.trainer),
        "kept_epoch": None if training.trainer.each else training.trainer.kept,
        "seconds": round(time.perf_counter() - start, 3),
        **without_nan(evaluate(training, training.data.test)),
    }


def read(folder: Path) -> dict[str, Any]:
    """Return the folds that a run has left; none where there are none yet.

    Raises
    ------
    InputError
        When the file cannot be read.
    """
    path = folder / FOLDS
    if not path.is_file():
        return {"folds": 0, "epochs": 0, "each": []}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        check("it", found, _EXPECTED)
        for one in found["each"]:
            check("a fold", {name: one.get(name) for name in _COUNTS}, _COUNTS)
    except (OSError, ValueError) as error:
        raise InputError(f"{str(path)!r} holds no folds of `nnx train`: {error}. Remove it") from error
    return {**found, **means(found)}


def means(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the mean and the sample standard deviation of each score over all folds; None before all are done.

    Examples
    --------
    >>> means({"folds": 2, "each": [{"fold": 1, "accuracy": 0.5}, {"fold": 2, "accuracy": 1.0}]})
    {'mean': {'accuracy': 0.75}, 'deviation': {'accuracy': 0.3535533905932738}}
    """
    each = found["each"]
    if len(each) < found["folds"]:
        return {"mean": None, "deviation": None}
    scores = {
        name: [one.get(name) for one in each]
        for name in each[0]
        if name not in _OF_ONE and all(isinstance(one.get(name), int | float) for one in each)
    }
    return {
        "mean": {name: statistics.fmean(values) for name, values in scores.items()},
        "deviation": {name: statistics.stdev(values) for name, values in scores.items()},
    }


def table(found: Mapping[str, Any]) -> Table:
    """Return the folds as a table, with mean and deviation."""
    names = list(found["mean"] or ())
    made = Table(title=f"{found['folds']} folds", title_justify="left")
    for name in ("fold", "samples", *map(called, names), "epochs"):
        made.add_column(name, justify="right")
    for one in found["each"]:
        numbers = (metric_tables.figure(name, one[name]) for name in names)
        made.add_row(str(one["fold"]), f"{one['samples']:,}", *numbers, str(one["epochs"]))
    if names:
        made.add_section()
        for row in ("mean", "deviation"):
            made.add_row(row, "", *(metric_tables.figure(name, found[row][name]) for name in names), "")
    return made


def report(found: Mapping[str, Any]) -> None:
    """Say how good the models of the folds are, on the part that each has not seen."""
    show.console.print(table(found))
    said = [
        f"{called(name)} {metric_tables.figure(name, mean)} ± {metric_tables.figure(name, found['deviation'][name])}"
        for name, mean in found["mean"].items()
    ]
    show.say(
        "Folds",
        f"{', '.join(said)}: mean and deviation of {found['folds']} models, each on samples that neither taught nor "
        "stopped it",
    )
