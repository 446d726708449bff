"""What the terminal shows."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from nnx.choice import choose, survey
from nnx.errors import Error
from nnx.network import Network

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)


def complain(error: Exception) -> None:
    """Print an error in one paragraph to the standard error output."""
    errors.print(f"[bold red]Error:[/] {escape(str(error))}", soft_wrap=True)


def say(label: str, text: str, fold: bool = True) -> None:
    """Print one fact about the run, folded beside its label on a terminal, in one line elsewhere."""
    if fold and console.is_terminal:
        line = Table.grid(padding=(0, 1))
        line.add_row(f"[bold]{label:<9}[/]", escape(text))
        console.print(line)
    else:
        console.print(f"[bold]{label:<9}[/] {escape(text)}", soft_wrap=True)


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


def backends() -> None:
    """Print all backends: name, usable, device, version, reason; and which one auto takes."""
    table = Table(title="Backends", title_justify="left")
    for name in ("name", "usable", "device", "version", "reason"):
        table.add_column(name, overflow="fold")
    for row in survey():
        usable = "[green]yes[/]" if row.usable else "[red]no[/]"
        table.add_row(row.name, usable, row.device, row.version, escape(row.reason))
    console.print(table)
    try:
        backend, reason = choose()
    except Error as error:  # NNX_BACKEND names one that is not usable
        complain(error)
    else:
        say("auto", f"takes {backend.name} on {backend.device}: {reason}", fold=False)
