"""`nnx show`: the contents of a model file or a run's folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from nnx.callbacks.fit import epochs_done, steps_done
from nnx.callbacks.monitor import best_is
from nnx.cli import folds, members, parts, show, sweep_results
from nnx.cli.folder import FOLDS, RESULTS
from nnx.cli.inputs import model_file
from nnx.data.prepare import Preparation
from nnx.display.names import called
from nnx.display.rounding import significant
from nnx.errors import count, listed, size
from nnx.io import container
from nnx.io.run_folder import MODEL
from nnx.metrics.history import medians, without_nan
from nnx.plots.run import TRAINING_SAMPLE
from nnx.train.trainer import Trainer
from nnx.version import __version__

BARS = "▁▂▃▄▅▆▇█"
SHORTEST, LONGEST = 8, 24
"""Characters of a curve."""


def run(model: Path, as_json: bool) -> None:
    """Print a model: its network, its training and its size; for a sweep its results."""
    if (model / RESULTS).is_file():
        found = sweep_results.results(model)
        if as_json:
            show.print_json({"folder": str(model), **found, "runs": sweep_results.ranked(found)})
        else:
            sweep_results.print_table(found)
        return
    path = model_file(model)
    trainer = Trainer.load(path, "numpy")
    written, form = container.versions(path)
    if as_json:
        show.print_json(described(path, trainer, written, form))
    else:
        printed(path, trainer, written, form)


def described(path: Path, trainer: Trainer, written: str, form: int) -> dict[str, Any]:
    """Return all that is shown, of types that JSON has."""
    summary = trainer.network.summary()
    rows = members.of_kept_epochs(trainer, preparation_of(trainer)) if trainer.each else []
    return {
        "model": str(path),
        "nnx_version": written,
        "format_version": form,
        "bytes": path.stat().st_size,
        "parameters": summary.parameters,
        "not_learned": summary.not_learned,
        "parameter_bytes": summary.bytes,
        "network": trainer.network.describe(),
        "optimizer": repr(trainer.optimizer),
        "regularization": repr(trainer.regularization),
        "dtype": trainer.dtype,
        "seed": trainer.seed,
        "steps": steps_done(trainer),
        "epochs": epochs_done(trainer),
        "kept_epoch": None if trainer.each else trainer.kept,
        **({"members": without_nan(rows)} if trainer.each else {}),
        "best": bests(trainer),
        "history": without_nan(measured(trainer)),
        "data": trainer.metadata.get("data"),
        "parts": parts.read(trainer.metadata),
        "preparation": trainer.metadata.get("preparation"),
    }


def measured(trainer: Trainer) -> dict[str, Any]:
    """Return the history, of members their medians, errors in the target's own unit where the model knows it."""
    history = medians(trainer.history) if trainer.each else trainer.history
    preparation = preparation_of(trainer)
    return history if preparation is None else preparation.in_units(history)


def preparation_of(trainer: Trainer) -> Preparation | None:
    """Return the preparation of the data, if the model knows it."""
    return Preparation.of(trainer.metadata) if "preparation" in trainer.metadata else None


def bests(trainer: Trainer) -> dict[str, dict[str, float]]:
    """Return the best value of each number of the history, and its epoch; none for a user's metrics."""
    found = {}
    for name, values in measured(trainer).items():
        finite = [(value, i) for i, value in enumerate(values, 1) if without_nan([value]) == [value]]
        best = best_is(name, "unknown")
        if not finite or best == "unknown" or not single(values):
            continue
        value, epoch = max(finite, key=lambda one: (one[0] if best == "max" else -one[0], -one[1]))
        found[name] = {"value": value, "epoch": epoch}
    return found


def single(values: Sequence[Any]) -> bool:
    """Whether a number of the history is one number an epoch, not an array."""
    return all(isinstance(value, int | float) for value in values)


def printed(path: Path, trainer: Trainer, written: str, form: int) -> None:
    """Print it for people."""
    summary, to = trainer.network.summary(), show.output
    newer = "" if written == __version__ else f"; this is nnx {__version__}"
    show.say("Model", f"{path}: {size(path.stat().st_size)}, written by nnx {written}{newer}", to=to)
    fixed = f", {summary.not_learned:,} of them not learned" if summary.not_learned else ""
    show.say(
        "Size",
        f"{count(summary.parameters, 'parameter')}{fixed}, {size(summary.bytes)} in float32; numbers in "
        f"{trainer.dtype}",
        to=to,
    )
    show.say("Data", data(trainer), to=to)
    for label, name in zip(("Validated", "Tested"), parts.NAMES, strict=True):
        if part := parts.read(trainer.metadata).get(name):
            show.say(label, parts.origin(part), to=to)
    if trainer.each:
        show.say("Members", members.describe(trainer), to=to)
    seed = "" if trainer.each else f", seed {trainer.seed}"
    show.say("Optimizer", f"{trainer.optimizer!r}; {count(steps_done(trainer), 'step')}{seed}", to=to)
    if trainer.regularization != type(trainer.regularization)():
        show.say("Penalties", repr(trainer.regularization), to=to)
    to.print(show.network_table(trainer.network))
    if trainer.each:
        rows = members.of_kept_epochs(trainer, preparation_of(trainer))
        to.print(members.table_of_kept(rows, measured(trainer)))
    if epochs_done(trainer):
        to.print(history(trainer))
        if isinstance(sample := trainer.metadata.get(TRAINING_SAMPLE), int):
            to.print(
                f"The training's scores are of {sample:,} of its samples; its cost is of all.", soft_wrap=True
            )
        if path.name == MODEL and (path.parent / FOLDS).is_file():
            to.print(folds.table(folds.read(path.parent)))
        if "preparation" in trainer.metadata and not trainer.network.output.classes:
            to.print("The cost J is of the scaled target; errors are in the target's unit.", soft_wrap=True)


def data(trainer: Trainer) -> str:
    """Return the data of the training and their treatment, in words."""
    if "preparation" not in trainer.metadata:
        return "not described, since nnx.Trainer saved the model, not `nnx train`"
    preparation = Preparation.of(trainer.metadata)
    labels = preparation.labels
    n, inputs = len(preparation.features), len(preparation.inputs)
    what = "numbers" if labels is None else f"{len(labels)} classes, {listed(labels, 6)}"
    named = f" ({listed(preparation.features, 6)})" if preparation.named else ""
    many = f" as {count(inputs, 'input')}" if inputs != n else ""
    done = "; ".join([*preparation.account(), "scaled to mean 0 and deviation 1"])
    return (
        f"{trainer.metadata.get('data', 'unnamed')}: {count(n, 'feature')}{named}{many}; {done}; target "
        f"{preparation.target!r}, {what}"
    )


def history(trainer: Trainer) -> Table:
    """Return the history as a table: the first, the best and the kept or the last of each number, and its curve.

    Where there is no room for all the curve is shorter, or is not there, then the first is not: no number is cut off.
    """
    table = _history(trainer)
    room = show.output.spare(table) - len(" │ ")
    if room >= SHORTEST:
        return _history(trainer, min(room, LONGEST))
    return table if room >= -len(" │ ") else _history(trainer, first=False)


def _history(trainer: Trainer, room: int = 0, first: bool = True) -> Table:
    at = None if trainer.each else trainer.kept
    kept = "" if at is None else f", of which epoch {at} was kept"
    of = "History of the members' medians" if trainer.each else "History"
    table = Table(title=f"{of}: {count(epochs_done(trainer), 'epoch')}{kept}", title_justify="left")
    table.add_column("number", overflow="fold")
    for name in (*["first"] * first, "best", "in epoch", "kept" if kept else "last"):
        table.add_column(name, justify="right", no_wrap=True)
    if room:
        table.add_column("curve", no_wrap=True)
    bars = ".:-=+*#@" if show.output.options.ascii_only else BARS
    best = bests(trainer)
    for name, values in measured(trainer).items():
        if not single(values):
            continue
        found = best.get(name)
        table.add_row(
            escape(called(name)),
            *[significant(values[0], 4)] * first,
            *((significant(found["value"], 4), str(found["epoch"])) if found else ("", "")),
            significant(values[(at or 0) - 1], 4),
            *[curve(values, bars, room)] * bool(room),
        )
    return table


def curve(values: Sequence[float], bars: str = BARS, width: int = 24) -> str:
    """Return numbers as a curve of characters, each the mean of its share of them.

    Examples
    --------
    >>> curve([1, 2, 3, 4, 5, 6, 7, 8])
    '▁▂▃▄▅▆▇█'
    >>> curve([1.0, float("nan"), 1.0])
    '▁ ▁'
    """
    wide = min(width, len(values))
    means = []
    for i in range(wide):
        part = values[i * len(values) // wide : (i + 1) * len(values) // wide]
        finite = [value for value in part if without_nan([value]) == [value]]
        means.append(sum(finite) / len(finite) if finite else None)
    there = [value for value in means if value is not None]
    low, high = min(there, default=0.0), max(there, default=0.0)
    step = (high - low) / len(bars) or 1.0
    return "".join(
        " " if value is None else bars[min(int((value - low) / step), len(bars) - 1)] for value in means
    )
