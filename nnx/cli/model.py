"""`nnx show`: what is in a model file, or a run's folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from nnx import checkpoint
from nnx.callbacks.monitor import best_is
from nnx.cli import show, sweep
from nnx.cli.folder import RESULTS, file_of
from nnx.data.prepare import Preparation
from nnx.errors import count
from nnx.progress import without_nan
from nnx.summary import size
from nnx.trainer import Trainer
from nnx.version import __version__

BARS = "▁▂▃▄▅▆▇█"


def run(model: Path, as_json: bool) -> None:
    """Print what a model is, how it was trained and how large it is; of a sweep, its results."""
    if (model / RESULTS).is_file():
        found = sweep.results(model)
        if as_json:
            show.print_json({"folder": str(model), **found, "runs": sweep.ranked(found)})
        else:
            sweep.print_table(found)
        return
    path = file_of(model)
    trainer = Trainer.load(path, "numpy")
    written, form = checkpoint.versions(path)
    if as_json:
        show.print_json(described(path, trainer, written, form))
    else:
        printed(path, trainer, written, form)


def described(path: Path, trainer: Trainer, written: str, form: int) -> dict[str, Any]:
    """Return all that is shown, of types that JSON has."""
    summary = trainer.network.summary()
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
        "steps": trainer.steps,
        "epochs": len(trainer.records),
        "best": bests(trainer),
        "history": without_nan(trainer.history),
        "data": trainer.metadata.get("data"),
        "preparation": trainer.metadata.get("preparation"),
    }


def bests(trainer: Trainer) -> dict[str, dict[str, float]]:
    """Return the best value of each number of the history, and its epoch."""
    found = {}
    for name, values in trainer.history.items():
        finite = [(value, i) for i, value in enumerate(values, 1) if without_nan([value]) == [value]]
        if not finite or not all(isinstance(value, int | float) for value, _ in finite):
            continue
        largest = best_is(name) == "max"
        value, epoch = max(finite, key=lambda one: (one[0] if largest else -one[0], -one[1]))
        found[name] = {"value": value, "epoch": epoch}
    return found


def printed(path: Path, trainer: Trainer, written: str, form: int) -> None:
    """Print it for people."""
    summary, to = trainer.network.summary(), show.output
    newer = "" if written == __version__ else f"; this is nnx {__version__}"
    show.say("Model", f"{path}: {size(path.stat().st_size)}, written by nnx {written}{newer}", to=to)
    fixed = f", {summary.not_learned:,} of them not learned" if summary.not_learned else ""
    show.say(
        "Size",
        f"{count(summary.parameters, 'parameter')}{fixed}, {size(summary.bytes)} in float32; trained in "
        f"{trainer.dtype}",
        to=to,
    )
    show.say("Data", data(trainer), to=to)
    show.say(
        "Optimizer", f"{trainer.optimizer!r}; {count(trainer.steps, 'step')}, seed {trainer.seed}", to=to
    )
    if trainer.regularization != type(trainer.regularization)():
        show.say("Penalties", repr(trainer.regularization), to=to)
    to.print(show.network_table(trainer.network))
    if trainer.records:
        to.print(history(trainer))


def data(trainer: Trainer) -> str:
    """Return what the model was trained on, and how that is prepared, in words."""
    if "preparation" not in trainer.metadata:
        return "not described, since nnx.Trainer saved the model, not `nnx train`"
    preparation = Preparation.of(trainer.metadata)
    labels = preparation.labels
    n, inputs = len(preparation.features), len(preparation.inputs)
    what = "numbers" if labels is None else f"{len(labels)} classes, {some(labels)}"
    named = f" ({some(preparation.features)})" if preparation.named else ""
    many = f" as {count(inputs, 'input')}" if inputs != n else ""
    done = "; ".join([*preparation.account(), "scaled to mean 0 and deviation 1"])
    return (
        f"{trainer.metadata.get('data', 'unnamed')}: {count(n, 'feature')}{named}{many}; {done}; target "
        f"{preparation.target!r}, {what}"
    )


def some(names: Sequence[Any]) -> str:
    """Return the first few names."""
    shown = ", ".join(map(str, names[:6]))
    return shown if len(names) <= 6 else f"{shown}, ..."


def history(trainer: Trainer) -> Table:
    """Return the history as a table: the first, the best and the last of each number, and its curve."""
    epochs, found, wide = len(trainer.records), bests(trainer), show.output.width >= 80
    table = Table(title=f"History: {count(epochs, 'epoch')}", title_justify="left")
    for name in ("number", *["first"] * wide, "best", "in epoch", "last"):
        table.add_column(name, justify="left" if name == "number" else "right", no_wrap=True)
    table.add_column("curve", no_wrap=True)
    bars = ".:-=+*#@" if show.output.options.ascii_only else BARS
    for name, best in found.items():
        values = trainer.history[name]
        table.add_row(
            escape(name.replace("_", " ").replace("validation", "held-out")),
            *[f"{values[0]:.4g}"] * wide,
            f"{best['value']:.4g}",
            str(best["epoch"]),
            f"{values[-1]:.4g}",
            curve(values, bars, 24 if wide else 12),
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
