"""`nnx evaluate`: how good a model is on data with targets."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from nnx.cli import metric_tables, show
from nnx.cli.inputs import at_once, check_backend, check_order, model, pieces, typed
from nnx.cli.members import mean_of
from nnx.cli.predict import tell
from nnx.data.baseline import Baseline, no_better
from nnx.data.dialect import PLAIN, Written
from nnx.data.labelled import Labelled
from nnx.data.prepare import Preparation
from nnx.display.names import called
from nnx.errors import count
from nnx.metrics import metric
from nnx.metrics.history import without_nan
from nnx.port.precision import checked_precision


def run(
    path: Path,
    data: str,
    metrics: str | None,
    target: str | None,
    as_json: bool,
    written: Written,
    backend: str,
    device: str | None,
    precision: str | None,
) -> None:
    """Print the loss and the metrics, as a table or as one JSON object."""
    with typed():
        check_backend(backend, device)
        checked_precision(precision)
        check_order(path, data)
        PLAIN.over(*written)
        given = metric_tables.names(metrics)
        for name in given or ():
            metric(name)
    trainer, preparation = model(path, backend, device, precision)
    n = trainer.network.n[-1]
    names = given or metric_tables.usual(trainer.network.output, n)
    baseline = Baseline(preparation, trainer.network.output, names)
    wanted = target or preparation.target
    size = at_once(trainer)
    its = pieces(data, size, wanted, target is None, preparation.dialect.over(*written))
    labelled = Labelled(data, its, preparation, wanted, trainer.dtype)

    def batches() -> Iterator[tuple[Any, Any]]:
        for X, Y, _ in labelled:
            metric_tables.check_memory(names, n, labelled.m, trainer.dtype)
            baseline.add(Y)
            yield X, Y

    found = preparation.in_units(trainer._predictor.evaluate(batches, None, metrics=names))
    tell(labelled.said())
    base = baseline.scores()
    for name, value in list(base.items())[:1]:
        if no_better(name, found[name], value):
            show.warn(f"{called(name)} is no better than the baseline's, {baseline.text}")
    m, rows = labelled.m, labelled.rows
    if as_json:
        by_class = not all(isinstance(value, float) for value in found.values())
        labels = {"labels": preparation.labels} if by_class else {}
        show.print_json(
            {
                "model": str(path),
                "data": data,
                **({"members": len(trainer.each)} if trainer.each else {}),
                "samples": m,
                "left_out": rows - m,
                **labels,
                **without_nan(found),
                "baseline": baseline.described(),
            }
        )
        return
    of = f", the {mean_of(trainer)}" if trainer.each else ""
    show.output.print(f"{escape(data)}: {count(m, 'sample')}{of}")
    _print(found, trainer.network.output.loss_name, preparation, baseline)


def _print(found: Mapping[str, Any], loss: str, preparation: Preparation, baseline: Baseline) -> None:
    """Print the scores as tables, beside the baseline's."""
    base = baseline.scores()
    table = Table("metric", "value", *[f"baseline: {escape(baseline.text)}"] * bool(base))
    unit = " of the scaled target" if preparation.labels is None else ""
    for name, value in found.items():
        what = f"{name} ({loss}{unit})" if name == "loss" else name
        if name in ("precision", "recall", "f1") and preparation.labels and preparation.n_outputs == 1:
            what = f"{name} of {preparation.labels[1]!r}"
        if isinstance(value, float):
            always = [metric_tables.text(name, base[name], 6)] if name in base else []
            table.add_row(escape(what), metric_tables.text(name, value, 6), *always)
    show.output.print(table)
    for one in metric_tables.tables(found, preparation.labels):
        show.output.print(one)
