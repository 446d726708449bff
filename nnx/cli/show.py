"""What the terminal shows."""

import time
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from nnx.choice import choose, survey
from nnx.errors import Error
from nnx.network import Network
from nnx.progress import Progress as Standing

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
    """Return the network as a table: layer, shape, activation, parameters."""
    table = Table(title="Network", title_justify="left")
    table.add_column("layer", justify="right")
    table.add_column("kind")
    table.add_column(r"W\[l]")
    table.add_column(r"b\[l]")
    table.add_column("activation")
    table.add_column("parameters", justify="right")
    table.add_row("0", "input", "", "", f"{network.n_features} features", "")
    l, n_prev = 0, network.n_features
    for layer in network.layers:
        shapes = layer.shapes(n_prev)
        count = sum(rows * columns for rows, columns in shapes.values())
        described = layer.describe()
        last = layer is network.layers[-1]
        activation = (
            f"{network.output.name}, {network.output.loss_name}" if last else described.get("activation", "")
        )
        l += bool(shapes)
        table.add_row(
            str(l) if shapes else "",
            type(layer).__name__,
            *(str(shapes.get(name, "")) for name in ("W", "b")),
            activation,
            f"{count:,}",
        )
        n_prev = layer.units(n_prev)
    table.add_section()
    table.add_row("", "", "", "", "total", f"{network.P:,}")
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


class LiveBar:
    """A progress bar with the cost, the score on samples held out, and samples per second.

    Call it with each Progress. Where there is no terminal it is a line after the first epoch, one every ten seconds,
    and one after the last.
    """

    def __init__(self, epochs: int, score_name: str) -> None:
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(compact=True),
            console=console,
            expand=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("train", total=None, epoch=0, epochs=epochs, text="")
        self._score_name = score_name
        self._measured = ""
        self._next = 0.0

    def __enter__(self) -> "LiveBar":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def __call__(self, now: Standing) -> None:
        """Show where the training stands, at most twenty times a second."""
        last = now.measured is not None and now.epoch == now.epochs
        if now.measured is not None:
            self._measured = f"cost {now.measured['loss']:.4g}"
            score = now.measured.get(f"validation_{self._score_name}")
            if score is not None:
                shown = f"{score:.1%}" if self._score_name == "accuracy" else f"{score:.4g}"
                self._measured += f" {self._score_name} {shown}"
        clock = time.monotonic()
        if clock < self._next and not last:
            return
        rate = f"{now.samples / now.seconds:,.0f} samples/s" if now.seconds > 0 else ""
        if console.is_terminal:
            self._next = clock + 0.05
            done, total = (now.epoch - 1) * now.steps + now.step, now.steps * now.epochs
            text = f"{self._measured} {rate}"
            self._bar.update(self._task, completed=done, total=total, epoch=now.epoch, text=text)
        elif now.measured is not None:
            self._next = clock + 10
            console.print(f"epoch {now.epoch}/{now.epochs} {self._measured} {rate}", soft_wrap=True)
