"""The output in a terminal: reports on the work, and results.

What was asked for (tables, JSON) goes to the standard output. What is said of the work goes there, too, where that is
a terminal; else to the standard error output, so that nothing but data is in a pipe.
"""

import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from nnx.cli import streams
from nnx.cli.terminal import Terminal, line
from nnx.errors import Error
from nnx.model.network import Network
from nnx.port.registry import WORTH, choose, survey


class Work(Terminal):
    """The console for reports on the work."""

    aside = False
    """Whether the standard output is to hold data alone, though it is a terminal."""

    @property
    def stderr(self) -> bool:
        """Whether it is the standard error output."""
        return self.aside or sys.stdout is None or not sys.stdout.isatty()

    @stderr.setter
    def stderr(self, value: bool) -> None:
        pass  # Console's own __init__ sets it


console = Work()
errors = Terminal(stderr=True)
output = Terminal()
"""The console for results."""

_json = False


@contextmanager
def told(quiet: bool = False, json: bool = False) -> Iterator[None]:
    """Say nothing of the work within, where `quiet`; with `json`, leave the standard output to `result`."""
    global _json
    before = console.quiet, console.aside, _json
    console.quiet, console.aside, _json = quiet or console.quiet, json or console.aside, json or _json
    try:
        yield
    finally:
        console.quiet, console.aside, _json = before


def silent() -> bool:
    """Whether no table is to be printed: `--quiet`, or `--json`."""
    return _json or console.quiet


def result(found: Any) -> None:
    """Print the result as one JSON object, with `--json`."""
    if _json:
        print_json(found)


def print_json(found: Any) -> None:
    """Print data as JSON, in ASCII: no encoding changes it."""
    text = json.dumps(found, indent=2, allow_nan=False, default=str)
    if sys.stdout is not None:
        with streams.writing():
            sys.stdout.write(f"{text}\n")


def complain(error: Exception | str) -> None:
    """Print an error in one paragraph to the standard error output."""
    errors.print(f"[bold red]Error:[/] {escape(line(str(error)))}", soft_wrap=True)


def warn(said: str, label: str = "Warning") -> None:
    """Print a warning to the standard error output; nothing with `--quiet`. The work goes on."""
    if not console.quiet:
        errors.print(f"[bold]{label}:[/] {escape(line(said))}", soft_wrap=True)


@contextmanager
def warnings_told() -> Iterator[None]:
    """Print Python's warnings within, such as that of a tracker that does not answer, in the command line's form."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: warn(str(message))
        yield


def say(label: str, text: str, fold: bool = True, to: Terminal | None = None) -> None:
    """Print one fact, of the work unless `to` says otherwise; folded on a terminal, in one line elsewhere."""
    to, text = to or console, line(text)
    if fold and to.is_terminal:
        grid = Table.grid(padding=(0, 1))
        grid.add_row(f"[bold]{label:<9}[/]", escape(text))
        to.print(grid)
    else:
        to.print(f"[bold]{label:<9}[/] {escape(text)}", soft_wrap=True)


def title(data: str, network: Network) -> str:
    """Return the title of a run's pictures: the data without their folder, and the widths.

    Examples
    --------
    >>> from nnx import mlp
    >>> title("iris", mlp([4, 8, 3])), title("tables/iris.csv", mlp([4, 3]))
    ('iris: 4-8-3', 'iris.csv: 4-3')
    """
    return f"{Path(data).name}: {'-'.join(map(str, network.n))}"


def network_table(network: Network) -> Table:
    """Return the network as a table: layer, shapes, activation, parameters."""
    summary = network.summary()
    table = Table(title="Network", title_justify="left")
    for name in ("l", "kind", "shapes", "activation", "parameters"):
        table.add_column(name, justify="right" if name in ("l", "parameters") else "left")
    for row in summary.rows:
        shown = {**row.cells, "shapes": f"{row.units} features"} if row.l == 0 else row.cells
        table.add_row(*(escape(shown[str(column.header)]) for column in table.columns))
    table.add_section()
    table.add_row("", "", "", "total", f"{summary.parameters:,}")
    return table


def backends(as_json: bool = False) -> None:
    """Print all backends: name, usable, device, version, reason; and which one auto takes."""
    rows = survey()
    try:
        backend, reason = choose()
        auto: dict[str, Any] | None = {"name": backend.name, "device": backend.device, "reason": reason}
        large, why = choose(work=WORTH)
        if auto is not None and large.name != backend.name:
            auto["long_fits"] = {
                "work": WORTH, "name": large.name, "device": large.device, "reason": why,
            }  # fmt: skip
    except Error as error:  # NNX_BACKEND names one that is not usable
        complain(error)
        auto = None
    if as_json:
        print_json({"backends": [row._asdict() for row in rows], "auto": auto})
        return
    table = Table(title="Backends", title_justify="left")
    for name in ("name", "usable", "device", "version", "reason"):
        table.add_column(name, overflow="fold")
    for row in rows:
        usable = "[green]yes[/]" if row.usable else "[red]no[/]"
        table.add_row(row.name, usable, row.device, row.version, escape(row.reason))
    output.print(table)
    if auto:
        say("auto", "takes {name} on {device}: {reason}".format(**auto), fold=False, to=output)
        if "long_fits" in auto:
            text = "for fits of some seconds: {name} on {device}".format(**auto["long_fits"])
            say("", text, fold=False, to=output)
