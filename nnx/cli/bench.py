"""`nnx bench`: a table of samples per second."""

import json
from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from nnx.bench.throughput import FLOOR, measure
from nnx.choice import choose, survey
from nnx.cli import show
from nnx.cli.inputs import integers, refuse_existing
from nnx.files import written_aside
from nnx.network import mlp
from nnx.optimizers import optimizer


def run(
    backends: str, sizes: str, batch_sizes: str, method: str, dtype: str, out: Path | None, overwrite: bool
) -> None:
    """Measure, print the table, and write the figures as JSON where asked."""
    if out is not None:
        if not overwrite:
            refuse_existing(out)
        out.parent.mkdir(parents=True, exist_ok=True)
    names = [name.strip() for name in backends.split(",")] if backends else usable()
    n = integers("sizes", sizes)
    network = mlp(n)
    figures = measure(names, network, integers("batch-sizes", batch_sizes), optimizer(method), dtype)
    floors = {figure.m: figure.seconds for figure in figures if figure.contestant == FLOOR}
    table = Table(
        title=f"One training step: {'-'.join(map(str, n))}, {method}, {dtype}", title_justify="left"
    )
    for name in ("m", "contestant", "samples/s", "µs a step", "spread", "over floor", "first step"):
        table.add_column(name, justify="left" if name == "contestant" else "right")
    for figure in figures:
        if figure.contestant == FLOOR:
            table.add_section()
        table.add_row(
            f"{figure.m:,}",
            figure.contestant,
            f"{figure.samples_per_second:,.0f}",
            f"{figure.seconds * 1e6:,.1f}",
            f"±{(figure.slowest - figure.fastest) / (2 * figure.seconds):.0%}",
            f"{figure.seconds / floors[figure.m]:.2f}",
            f"{figure.first * 1e3:,.1f} ms",
        )
    show.console.print(table)
    show.console.print(
        "The floor is NumPy's products of the step alone, on the CPU; a backend on a GPU is compared with it, too.",
        soft_wrap=True,
    )
    if out is not None:
        what = {"sizes": n, "optimizer": method, "dtype": dtype}
        versions = {row.name: row.version for row in survey() if row.name in names}
        with written_aside(out) as aside:
            text = json.dumps(
                {**what, "versions": versions, "figures": [asdict(f) for f in figures]}, indent=1
            )
            aside.write_text(text + "\n", encoding="utf-8")
        show.say("Saved", str(out))


def usable() -> list[str]:
    """Return the backends that a user would choose: all that are usable, but the strict one for tests."""
    first = choose().backend.name
    others = [row.name for row in survey() if row.usable and row.name not in ("strict", first)]
    return [first, *others]
