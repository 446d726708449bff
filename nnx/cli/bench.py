"""`nnx bench`: figures as a table, JSON, plots and a page; and the comparison of two files."""

from collections.abc import Iterable, Iterator
from itertools import groupby
from math import isinf
from pathlib import Path
from tempfile import TemporaryFile

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from nnx import cli
from nnx.bench import contestants, machine, page, plots
from nnx.bench.compare import Verdict
from nnx.bench.compare import compare as compared
from nnx.bench.result import Figure, Group, Key, Result, read, write
from nnx.bench.suite import SECONDS, SECONDS_OF_MEMBERS, Plan
from nnx.bench.suite import run as measure
from nnx.cli import show
from nnx.cli.bench_options import ORDERS, checked_dtype, methods, names, networks, ours
from nnx.cli.inputs import UsageError, integers, refuse_existing, typed
from nnx.cli.terminal import Terminal
from nnx.errors import InputError, count, positive_int, unknown


def run(
    backends: str,
    peers: str,
    sizes: list[str],
    batch_sizes: str,
    optimizers: str,
    dtype: str,
    order: str,
    rounds: int,
    note: str,
    members: str | None,
    out: Path | None,
    overwrite: bool,
) -> int:
    """Measure, print the tables, and write the files where asked; return the exit status."""
    with typed():
        if order not in ORDERS:
            raise unknown("order", order, ORDERS)
        K = () if members is None else integers("members", members)
        every: dict[str, list[str]] = {"all": contestants.peers(bool(K)), "none": []}
        mine, named = ours(backends, checked_dtype(dtype), bool(K)), peers not in every
        others = contestants.check_peers(names(peers), bool(K)) if named else every[peers]
        plan = Plan(
            [*mine, *others],
            networks(sizes),
            integers("batch-sizes", batch_sizes),
            methods(optimizers),
            checked_dtype(dtype),
            ORDERS[order],
            positive_int("rounds", rounds),
            SECONDS_OF_MEMBERS if K else SECONDS,
            note,
            K,
        )
    if out is not None:
        if out.suffix != ".json":
            raise UsageError(f"{str(out)!r} must end in .json; the plots and the page get its name, too")
        _check([out, *targets(plan.groups, out)], overwrite)
    load, here = machine.load(), machine.describe()
    if machine.is_busy(load, here):
        cores = count(here["cores"], "core")
        show.say("Busy", f"the machine has a load of {load} on {cores}; the figures will suffer from it")
    result, interrupted = _measured(plan, out)
    if result is not None:
        tables(result)
        if out is not None:
            show.say("Saved", ", ".join(map(str, [out, *pictures(result, out)])))
    if interrupted:
        done = 0 if result is None else len(result.cells)
        show.console.print(f"Stopped by Ctrl-C after {done} of {count(len(plan.cases), 'cell')}.")
        return cli.INTERRUPTED
    measured = {figure.contestant for figure in result.figures} if result is not None else set()
    asked = {*(mine if backends else ()), *(others if named else ())}
    return 0 if measured and asked <= measured else 1


def _measured(plan: Plan, out: Path | None) -> tuple[Result | None, bool]:
    """Measure; return the result so far, if any, and whether Ctrl-C ended it."""
    result: Result | None = None

    def keep(found: Result) -> None:
        nonlocal result
        result = found
        if out is not None:
            write(found, out)  # after each cell: whoever ends the run early keeps the figures

    with show.console.status("") as status:

        def tell(text: str) -> None:
            status.update(escape(text))
            if not show.console.is_terminal:  # so that a log has it, too
                show.errors.print(escape(text), soft_wrap=True)

        try:
            keep(measure(plan, tell, keep, lambda text: status.update(escape(text))))
        except KeyboardInterrupt:
            return result, True
    return result, False


def _check(paths: list[Path], overwrite: bool) -> None:
    """Raise an InputError, before anything is measured, if these files cannot be written or are there already."""
    if not overwrite:
        for path in paths:
            refuse_existing(path)
    folder = paths[0].parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(f"nothing can be written into {str(folder)!r}: {error.strerror}") from None


def show_file(path: Path, out: Path | None, overwrite: bool) -> None:
    """Print a file's tables; write its plots and page beside `out`."""
    result = read(path)
    tables(result)
    if out is not None:
        _check(targets(result.groups, out), overwrite)
        show.say("Saved", ", ".join(map(str, pictures(result, out))))


def targets(groups: Iterable[Group], out: Path) -> list[Path]:
    """Return where the page and the plots go: NAME.html and NAME-....png."""
    return [
        out.with_suffix(".html"),
        *(out.with_name(f"{out.stem}-{plots.slug(group)}.png") for group in dict.fromkeys(groups)),
    ]


def pictures(result: Result, out: Path) -> list[Path]:
    """Write the page and the plots; return their paths."""
    paths = targets(result.groups, out)
    page.write(result, paths[0])
    for group, path in zip(result.groups, paths[1:], strict=True):
        plots.draw(result, group, path)
    return paths


def tables(result: Result) -> None:
    """Print a table for each group, and notes."""
    for group in result.groups:
        _print(_table(result, group))
    for one in result.absent:
        show.say("Absent", f"{one['label']}: {one['absent']}", fold=False, to=show.output)
    done, cells = len(result.cells), result.settings.get("cells", 0)
    if done < cells:
        show.say("Partial", f"{done} of {count(cells, 'cell')} measured", fold=False, to=show.output)
    peaks = ", ".join(f"{peak / 1e9:,.0f} GFLOP/s in {name}" for name, peak in result.peaks.items())
    show.say(
        "Machine",
        f"{result.machine['processor']}, {count(result.machine['cores'], 'core')}; a large product: {peaks}; load "
        f"when the run began: {result.settings.get('load_before')}",
        fold=False,
        to=show.output,
    )
    members = any(figure.members is not None for figure in result.figures)
    show.output.print(CAPTION + OF_MEMBERS * members, soft_wrap=True)
    if result.note:
        show.say("Note", result.note, fold=False, to=show.output)


CAPTION = (
    "µs/step: the median; ±: half the distance of the quartiles; /floor: over the matrix products alone; own: "
    "what of it nnx's Trainer takes outside the compiled steps; start s: what the first epoch took more "
    "(compiling); MB: the peak beside the samples, and what theory asks."
)

OF_MEMBERS = (
    " Of members: samples/s of all; µs/step of one; the floor has their products one after the other; ×single: the "
    "speed over that of their single runs one after the other."
)

WIDTH = 96
"""Of a table with the longest numbers."""


def _print(table: Table) -> None:
    if show.output.width < WIDTH:  # a log, or a narrow terminal: wrapped lines, but no number is cut
        Terminal(width=WIDTH, file=show.output.file).print(table)
    else:
        show.output.print(table)


COLUMNS = (
    "contestant", "samples/s", "µs/step", "±", "/floor", "own", "GFLOP/s", "start s", "MB", "theory",
)  # fmt: skip

COLUMNS_OF_MEMBERS = "contestant", "samples/s", "µs/step", "×single", "±", "/floor", "own", "start s", "MB"


def _table(result: Result, group: Group) -> Table:
    table = Table(
        title=f"Training: {group}",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    columns = COLUMNS if group.m is None else COLUMNS_OF_MEMBERS
    for name in columns:
        table.add_column(name, justify="left" if name == "contestant" else "right", no_wrap=True)
    for x, figures in groupby(result.of(group), lambda figure: figure.key.x):
        table.add_section()
        table.add_row(f"[bold]{group.axis} = {x:,}[/]")
        for figure in figures:
            cells = _cells(result, figure)
            table.add_row(*(cells[name] for name in columns))
    return table


def _cells(result: Result, figure: Figure) -> dict[str, str]:
    """Return the text in each column."""
    low, high = figure.quartiles
    megabytes = sum(figure.theory_bytes.values()) / 1e6
    floor, speedup = figure.kind == "floor", result.over_singles(figure)
    return {
        "contestant": escape(figure.label),
        "samples/s": f"{figure.samples_per_second:,.0f}",
        "µs/step": f"{figure.each * 1e6:,.0f}" if figure.each > 1e-3 else f"{figure.each * 1e6:.1f}",
        "×single": "" if speedup is None else f"{speedup:.2f}",
        "±": f"{(high - low) / 2 / figure.seconds:.0%}" if len(figure.rounds) > 1 else "",
        "/floor": "" if figure.over_floor is None else f"{figure.over_floor:.2f}",
        "own": "" if figure.own is None else f"{figure.own:.1%}",
        "GFLOP/s": f"{figure.flops_per_second / 1e9:,.1f}",
        "start s": "" if floor else f"{figure.startup:.1f}",
        "MB": "" if floor or figure.peak_bytes is None else f"{figure.peak_bytes / 1e6:,.1f}",
        "theory": "" if floor else f"{megabytes:,.1f}",
    }


def compare(before: Path, after: Path) -> None:
    """Print the changes from one file to the other."""
    found = compared(read(before), read(after))
    if not found.verdicts:
        raise InputError(f"{str(before)!r} and {str(after)!r} have no contestant in the same cell")
    for warning in found.warnings:
        show.say("Differs", warning, fold=False, to=show.output)
    changed = [one for one in found.verdicts if one.verdict != "same"]
    for group, verdicts in groupby(changed, lambda one: one.key.group):
        _print(_changes(group, verdicts))
    if changed:
        show.output.print(
            "µs/step and /floor: of the first file, and after, of the second; change: of the time over the floor where "
            "both have it, so that a slower day of the machine does not count; noise: the change that the rounds' "
            "spread explains.",
            soft_wrap=True,
        )
    if any(isinf(one.noise) for one in found.verdicts):
        show.say("Rounds", "a single one tells no noise, and so no change: measure more of them", fold=False)
    said = [one.verdict for one in found.verdicts]
    counts = ", ".join(f"{said.count(name)} {name}" for name in ("faster", "slower", "same"))
    show.say("Compared", counts, fold=False, to=show.output)
    for label, keys in (("Gone", found.only_before), ("New", found.only_after)):
        for text in _missing(keys):
            show.say(label, text, fold=False, to=show.output)


def _changes(group: Group, verdicts: Iterable[Verdict]) -> Table:
    table = Table(title=f"Faster or slower: {group}", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for name in (
        group.axis,
        "contestant",
        "µs/step",
        "after",
        "/floor",
        "after",
        "change",
        "noise",
        "verdict",
    ):
        table.add_column(name, justify="left" if name in ("contestant", "verdict") else "right", no_wrap=True)
    for one in verdicts:
        over = one.before_over, one.after_over
        table.add_row(
            f"{one.key.x:,}",
            escape(one.label),
            f"{one.before * 1e6:,.1f}",
            f"{one.after * 1e6:,.1f}",
            *("" if x is None else f"{x:.2f}" for x in over),
            f"{one.change:+.0%}",
            f"±{one.noise:.0%}",
            f"[{'green' if one.verdict == 'faster' else 'red'}]{one.verdict}[/]",
        )
    return table


def _missing(keys: list[Key]) -> Iterator[str]:
    for key in keys:
        yield f"{contestants.label(key.contestant)}, {key.group}, {key.group.axis} = {key.x:,}"
