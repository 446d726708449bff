"""A step of CuPy's beside the floor and beside other libraries, cell by cell, the most telling cells first."""

from dataclasses import dataclass
from pathlib import Path

from nnx.bench.case import Case
from nnx.bench.contestants import label
from nnx.bench.gpu.bars import BARS, DIGITS, SMALL, contestant, verdict
from nnx.bench.gpu.report import Report
from nnx.bench.gpu.sections import Options
from nnx.bench.result import Figure, Result, write
from nnx.bench.suite import Plan, run
from nnx.errors import BackendError
from nnx.port.precision import FLOAT32, PRECISIONS
from nnx.port.registry import backend

OURS = ("cupy", "torch@cuda", "jax@cuda")
"""nnx's backends that take part, in each precision."""

PEERS, COMPILED = ("jax-cuda", "jax-cuda-float32"), "torch-compiled-cuda"
"""Other libraries. PyTorch takes long to compile each cell, and so comes last, as far as the time reaches."""


@dataclass(frozen=True)
class Cells(Plan):  # type: ignore[misc]  # mypy does not see nnx.bench under its name
    """A plan whose cells come in another order, small m first, without those that have no bar."""

    @property
    def cases(self) -> list[Case]:
        """The cells."""
        known = {(sizes, m) for sizes, m, _ in BARS}
        wanted = [case for case in super().cases if (case.sizes, case.m) in known]
        return sorted(wanted or super().cases, key=lambda case: case.m)


def measure(report: Report, options: Options) -> None:
    """Measure, report each cell when it is done, and write the figures as `nnx bench` does."""
    sizes, batch_sizes, few = [DIGITS, SMALL], [128, 1024, 8192], len(OURS)
    if options.small:
        sizes, batch_sizes, few = [(20, 16, 4)], [8], 1
    precisions = usable_precisions(report)
    names = [contestant(library, precision) for library in OURS[:few] for precision in precisions]
    names += [] if options.small else PEERS

    def keep(result: Result) -> None:
        write(result, Path(f"{options.out}.json"))
        for precision in precisions:
            _report(report, result, precision)

    plan = Cells(names, sizes, batch_sizes, rounds=3, seconds=0.01 if options.small else 0.1)
    run(plan, say=print, keep=keep)
    if not options.small:
        plan = Cells(["nnx:cupy", COMPILED], sizes, batch_sizes, rounds=3)
        run(plan, say=print, keep=lambda result: keep_compiled(report, options, result))


def usable_precisions(report: Report) -> list[str]:
    """Return the precisions that the GPU has; report those that it lacks."""
    found = [FLOAT32]
    for precision in PRECISIONS[1:]:
        try:
            backend("cupy", None, precision)
        except BackendError as error:
            report.add(precision, "skipped", str(error))
        else:
            found.append(precision)
    return found


def keep_compiled(report: Report, options: Options, result: Result) -> None:
    """Write the figures of compiled PyTorch; report the cell that was measured last."""
    write(result, Path(f"{options.out}-compiled.json"))
    if result.figures[-1].contestant == COMPILED:
        _report(report, result, FLOAT32, f" beside {label(COMPILED)}")
    else:
        reason = next(one["absent"] for one in result.contestants if one["name"] == COMPILED)
        report.add(f"{_cell(result.figures[-1])}: {label(COMPILED)}", "skipped", str(reason))


def _report(report: Report, result: Result, precision: str, beside: str = "") -> None:
    """Report CuPy's step in the cell that was measured last."""
    last = result.figures[-1]
    outcome, text, numbers = verdict(result, tuple(last.sizes), last.m, precision)
    report.add(f"{_cell(last)}, {precision}{beside}", outcome, text, **numbers)


def _cell(figure: Figure) -> str:
    return f"{'-'.join(map(str, figure.sizes))}, m = {figure.m:,}"
