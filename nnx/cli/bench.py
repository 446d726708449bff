"""`nnx bench`: what is measured, shown as a table and written as JSON, plots and a page; and two files compared."""

import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from nnx import cli
from nnx.bench import contestants, machine, page, plots
from nnx.bench.compare import compare as compared
from nnx.bench.result import Group, Key, Result, read, write
from nnx.bench.suite import Plan
from nnx.bench.suite import run as measure
from nnx.choice import choose, survey
from nnx.cli import show
from nnx.cli.inputs import UsageError, integers, refuse_existing, typed
from nnx.errors import InputError, count, positive_int, unknown
from nnx.network import mlp
from nnx.optimizers import optimizer

ORDERS = {"in-order": (False,), "shuffled": (True,), "both": (False, True)}
"""The order of the samples: whether they are shuffled."""


def run(
    backends: str,
    peers: str,
    sizes: list[str],
    batch_sizes: str,
    optimizers: str,
    dtype: str,
    order: str,
    rounds: int,
    step_alone: bool,
    note: str,
    out: Path | None,
    overwrite: bool,
) -> int:
    """Measure, print the tables, and write the files where asked; return the exit status."""
    with typed():
        if order not in ORDERS:
            raise unknown("order", order, ORDERS)
        if dtype not in ("float32", "float64"):
            raise unknown("dtype", dtype, ("float32", "float64"))
        known = {row.name for row in survey()}
        names = _names(backends) if backends else usable()
        for name in names:
            if name.partition("@")[0] not in known:
                raise unknown("backend", name, known)
        ours = [f"{contestants.OURS}{name}" for name in names]
        if step_alone:
            ours += [f"{contestants.STEP}{name}" for name in names]
        wanted = {"all": list(contestants.PEERS), "none": []}.get(peers)
        networks = [tuple(integers("sizes", _by_commas(one))) for one in sizes]
        for one in networks:
            mlp(one)
        for method in _names(optimizers):
            optimizer(method)
        if "lbfgs" in _names(optimizers):
            raise InputError("lbfgs has no steps over batches to measure; choose another optimizer")
        plan = Plan(
            [*ours, *(contestants.check_peers(_names(peers)) if wanted is None else wanted)],
            networks,
            integers("batch-sizes", batch_sizes),
            _names(optimizers),
            dtype,
            ORDERS[order],
            positive_int("rounds", rounds),
            note=note,
        )
    if out is not None:
        if not overwrite:
            refuse_existing(out)
        if out.suffix != ".json":
            raise UsageError(f"{str(out)!r} must end in .json; the plots and the page get its name, too")
        out.parent.mkdir(parents=True, exist_ok=True)
    load, cores = machine.load(), machine.describe()["cores"]
    if load is not None and load > 0.5 * cores:
        show.say(
            "Busy",
            f"the machine has a load of {load} on {count(cores, 'core')}; the figures will suffer from it",
        )
    result: Result | None = None

    def keep(found: Result) -> None:
        nonlocal result
        result = found
        if out is not None:
            write(found, out)  # cell by cell: the figures cost time, and who kills the run wants to keep them

    interrupted = False
    with show.console.status("") as status:

        def tell(text: str) -> None:
            status.update(escape(text))
            if not show.console.is_terminal:  # a log wants to know, too
                show.errors.print(escape(text), soft_wrap=True)

        try:
            keep(measure(plan, tell, keep))
        except KeyboardInterrupt:
            interrupted = True
    if result is not None:
        tables(result)
        if out is not None:
            show.say("Saved", ", ".join(map(str, [out, *pictures(result, out)])))
    if interrupted:
        done = 0 if result is None else len({figure.key[:-1] for figure in result.figures})
        show.console.print(f"Stopped by Ctrl-C after {done} of {count(len(plan.cases), 'cell')}.")
        return cli.INTERRUPTED
    return 0


def show_file(path: Path, out: Path | None, overwrite: bool) -> None:
    """Print a file's tables; write its plots and page beside `out`."""
    result = read(path)
    tables(result)
    if out is not None:
        for name in targets(result, out):
            if not overwrite:
                refuse_existing(name)
        out.parent.mkdir(parents=True, exist_ok=True)
        show.say("Saved", ", ".join(map(str, pictures(result, out))))


def targets(result: Result, out: Path) -> list[Path]:
    """Return where the page and the plots go: NAME.html and NAME-....png."""
    return [
        out.with_suffix(".html"),
        *(out.with_name(f"{out.stem}-{plots.slug(group)}.png") for group in result.groups),
    ]


def pictures(result: Result, out: Path) -> list[Path]:
    """Write the page and the plots; return their paths."""
    paths = targets(result, out)
    page.write(result, paths[0])
    for group, path in zip(result.groups, paths[1:], strict=True):
        plots.draw(result, group, path)
    return paths


def tables(result: Result) -> None:
    """Print a table a group, and what is to know beside them."""
    for group in result.groups:
        table = _table(result, group)
        if show.output.width < WIDTH:  # a log, or a narrow terminal: wrapped lines, but no number is cut
            Console(width=WIDTH, highlight=False, file=show.output.file).print(table)
        else:
            show.output.print(table)
    for one in result.absent:
        show.say("Absent", f"{one['label']}: {one['absent']}", fold=False, to=show.output)
    peaks = ", ".join(f"{peak / 1e9:,.0f} GFLOP/s in {name}" for name, peak in result.peaks.items())
    show.say(
        "Machine",
        f"{result.machine['processor']}, {count(result.machine['cores'], 'core')}; a large product: {peaks}",
        fold=False,
        to=show.output,
    )
    show.output.print(
        "µs/step: the median; ±: half the distance of the quartiles; /floor: over the matrix products alone; start s: "
        "what the first epoch took more (compiling); MB: the peak beside the samples, and what theory asks.",
        soft_wrap=True,
    )
    if result.note:
        show.say("Note", result.note, fold=False, to=show.output)


WIDTH = 96
"""Of a table with the longest numbers."""

COLUMNS = (
    "contestant", "samples/s", "µs/step", "±", "/floor", "GFLOP/s", "start s", "MB", "theory",
)  # fmt: skip


def _table(result: Result, group: Group) -> Table:
    table = Table(
        title=f"Training: {group}",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for name in COLUMNS:
        table.add_column(name, justify="left" if name == "contestant" else "right", no_wrap=True)
    for m, figures in groupby(result.of(group), lambda figure: figure.m):
        table.add_section()
        table.add_row(f"[bold]m = {m:,}[/]")
        for figure in figures:
            low, high = figure.quartiles
            megabytes = sum(figure.theory_bytes.values()) / 1e6
            floor = figure.kind == "floor"
            table.add_row(
                escape(figure.label),
                f"{figure.samples_per_second:,.0f}",
                f"{figure.seconds * 1e6:,.0f}" if figure.seconds > 1e-3 else f"{figure.seconds * 1e6:.1f}",
                f"{(high - low) / 2 / figure.seconds:.0%}",
                "" if figure.over_floor is None else f"{figure.over_floor:.2f}",
                f"{figure.flops_per_second / 1e9:,.1f}",
                "" if floor else f"{figure.startup:.1f}",
                "" if floor or figure.peak_bytes is None else f"{figure.peak_bytes / 1e6:,.1f}",
                "" if floor else f"{megabytes:,.1f}",
            )
    return table


def compare(before: Path, after: Path) -> None:
    """Print what got faster or slower from one file to the other."""
    found = compared(read(before), read(after))
    for warning in found.warnings:
        show.say("Differs", warning, fold=False, to=show.output)
    table = Table(title="Faster or slower, beyond the noise", title_justify="left")
    for name in ("what", "m", "contestant", "before", "after", "change", "noise", "verdict"):
        table.add_column(name, justify="left" if name in ("what", "contestant", "verdict") else "right")
    colours = {"faster": "green", "slower": "red"}
    for one in found.verdicts:
        if one.verdict != "same":
            colour = colours[one.verdict]
            table.add_row(
                str(Group(*one.key[:4])),
                f"{one.key.m:,}",
                escape(one.label),
                f"{one.before * 1e6:,.1f} µs",
                f"{one.after * 1e6:,.1f} µs",
                f"{one.change:+.0%}",
                f"±{one.noise:.0%}",
                f"[{colour}]{one.verdict}[/]",
            )
    if table.row_count:
        show.output.print(table)
    said = [one.verdict for one in found.verdicts]
    counts = ", ".join(f"{said.count(name)} {name}" for name in ("faster", "slower", "same"))
    show.say("Compared", counts, fold=False, to=show.output)
    for label, keys in (("Gone", found.only_before), ("New", found.only_after)):
        for text in _missing(keys):
            show.say(label, text, fold=False, to=show.output)


def _missing(keys: list[Key]) -> Iterator[str]:
    for key in keys:
        yield f"{contestants.label(key.contestant)}, {Group(*key[:4])}, m = {key.m:,}"


def _by_commas(sizes: str) -> str:
    """Return "784-10", as the tables name a network, as "784,10"; anything else as it was given, for the error."""
    return sizes.replace("-", ",") if re.fullmatch(r"\d+(-\d+)+", sizes) else sizes


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def usable() -> list[str]:
    """Return the backends that a user would choose: all that are usable, but the strict one for tests."""
    first = choose().backend.name
    others = [row.name for row in survey() if row.usable and row.name not in ("strict", first)]
    return [first, *others]
