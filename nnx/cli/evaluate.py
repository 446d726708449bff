"""`nnx evaluate`: how good a model is on data with targets."""

import json
from collections.abc import Iterator
from math import isfinite
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from nnx.cli import show
from nnx.cli.inputs import at_once, check_backend, model, pieces, typed
from nnx.cli.predict import tell
from nnx.data.columns import Notes
from nnx.data.prepare import Preparation
from nnx.errors import InputError
from nnx.metrics import metric

OF_CLASSES = ("accuracy", "precision", "recall", "f1", "roc_auc")
OF_NUMBERS = ("r2", "mean_absolute_error", "root_mean_squared_error")
UNITS = {"mean_absolute_error": 1, "root_mean_squared_error": 1, "mean_squared_error": 2}
"""The power of the target's unit that a metric has."""


def run(
    path: Path,
    data: str,
    metrics: str | None,
    target: str | None,
    as_json: bool,
    decimal_comma: bool,
    backend: str,
    device: str | None,
) -> None:
    """Print the loss and the metrics, as a table or as one JSON object."""
    with typed():
        check_backend(backend)
        given = None if metrics is None else [name.strip() for name in metrics.split(",")]
        if given is not None and not all(given):
            raise InputError(f"metrics must be names such as {','.join(OF_CLASSES)}; given {metrics!r}")
        for name in given or ():
            metric(name)
    trainer, preparation = model(path, backend, device)
    names = given or list(OF_NUMBERS if preparation.labels is None else OF_CLASSES)
    notes, m = Notes(), 0

    def batches() -> Iterator[tuple[Any, Any]]:
        nonlocal m
        found = pieces(data, at_once(trainer), target or preparation.target, target is None, decimal_comma)
        for piece in found:
            y = preparation.Y(piece.targets(target or preparation.target, preparation.labels), m + 1)
            X = preparation.X(piece.values(preparation.features, preparation.named), trainer.dtype, notes)
            m += len(piece)
            yield X, y

    measured = trainer.evaluate(batches, metrics=names)
    measured = {name: _in_units(name, value, preparation) for name, value in measured.items()}
    tell(notes)
    if as_json:
        plain = {name: _plain(value) for name, value in measured.items()}
        print(json.dumps({"model": str(path), "data": data, "samples": m, **plain}))
        return
    show.output.print(f"{escape(data)}: {m:,} samples")
    table = Table("metric", "value")
    unit = " of the scaled target" if preparation.labels is None else ""
    for name, value in measured.items():
        what = f"{name} ({trainer.network.output.loss_name}{unit})" if name == "loss" else name
        if isinstance(value, float):
            table.add_row(what, f"{value:.6g}" if isfinite(value) else "none: a class does not occur")
    show.output.print(table)
    for name, value in measured.items():
        if not isinstance(value, float):
            show.output.print(_by_class(name, value, preparation.labels or []))


def _in_units(name: str, value: Any, preparation: Preparation) -> Any:
    """Return a metric of scaled numbers in the target's unit."""
    return value * preparation.y_scale ** UNITS[name] if name in UNITS else value


def _plain(value: Any) -> Any:
    """Return what JSON has for it."""
    if isinstance(value, float):
        return value if isfinite(value) else None
    return value.tolist()


def _by_class(name: str, values: Any, labels: list[Any]) -> Table:
    """Return a metric of each class, or the confusion matrix, as a table."""
    if values.ndim == 1:
        table = Table("class", name)
        for label, value in zip(labels, values.tolist(), strict=True):
            table.add_row(escape(str(label)), f"{value:.6g}")
        return table
    table = Table(
        "true \\ predicted", *(escape(str(label)) for label in labels), title=name, title_justify="left"
    )
    for label, row in zip(labels, values.tolist(), strict=True):
        table.add_row(escape(str(label)), *(f"{x:,}" for x in row))
    return table
