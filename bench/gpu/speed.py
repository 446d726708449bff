"""A step of CuPy's beside the floor and beside other libraries, cell by cell, the most telling cells first."""

from dataclasses import dataclass
from pathlib import Path

from nnx.bench.case import Case
from nnx.bench.contestants import label
from nnx.bench.gpu.bars import BARS, DIGITS, SMALL, us, verdict
from nnx.bench.gpu.report import Report
from nnx.bench.gpu.sections import Options
from nnx.bench.result import Result, write
from nnx.bench.suite import Plan, run
from nnx.port.precision import PRECISIONS

OURS = ("cupy", "torch@cuda", "jax@cuda")
"""nnx's backends that take part, in each precision."""

PEERS, COMPILED = ("jax-cuda", "jax-cuda-float32"), "torch-compiled-cuda"
"""Other libraries. PyTorch compiles each cell for long, and so comes last, as far as the time reaches."""


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
    """Measure, report each cell when it is done, and keep the figures as `nnx bench` does."""
    sizes, batch_sizes = [DIGITS, SMALL], [128, 1024, 8192]
    ours = [name(library, precision) for library in OURS for precision in PRECISIONS]
    if options.small:
        sizes, batch_sizes = [(20, 16, 4)], [8]
        ours = [name("cupy", precision) for precision in PRECISIONS]
    plan = Cells([*ours, *PEERS], sizes, batch_sizes, rounds=3, seconds=0.01 if options.small else 0.1)
    run(plan, say=print, keep=lambda found: _keep(report, Path(f"{options.out}.json"), found))
    if not options.small:
        plan = Cells(["nnx:cupy", COMPILED], sizes, batch_sizes, rounds=3)
        run(plan, say=print, keep=lambda found: _keep_compiled(report, found))


def name(library: str, precision: str) -> str:
    """Return a contestant's name.

    Examples
    --------
    >>> name("torch@cuda", "tf32"), name("cupy", "float32")
    ('nnx:torch@cuda/tf32', 'nnx:cupy')
    """
    return f"nnx:{library}" if precision == "float32" else f"nnx:{library}/{precision}"


def _keep(report: Report, path: Path, result: Result) -> None:
    """Write the figures; report the cell that was measured last."""
    write(result, path)
    last = result.figures[-1]
    sizes = tuple(last.sizes)
    bars = [precision for precision in PRECISIONS if (sizes, last.m, precision) in BARS]
    for precision in bars or PRECISIONS:
        outcome, text, numbers = verdict(result, sizes, last.m, precision)
        report.add(f"{'-'.join(map(str, sizes))}, m = {last.m:,}, {precision}", outcome, text, **numbers)


def _keep_compiled(report: Report, result: Result) -> None:
    """Report whether CuPy's step is faster than compiled PyTorch's in the cell that was measured last."""
    last = result.figures[-1]
    seconds = {
        one.contestant: one.seconds for one in result.figures if (one.sizes, one.m) == (last.sizes, last.m)
    }
    check = f"{'-'.join(map(str, last.sizes))}, m = {last.m:,}: {label(COMPILED)}"
    if COMPILED not in seconds or "nnx:cupy" not in seconds:
        reasons = [f"{one['label']}: {one['absent']}" for one in result.contestants if one["absent"]]
        report.add(check, "skipped", "; ".join(reasons))
        return
    compiled, ours = seconds[COMPILED], seconds["nnx:cupy"]
    outcome = "met" if ours <= compiled else "missed"
    report.add(check, outcome, f"{us(compiled)} us; nnx cupy {us(ours)} us", seconds=compiled, ours=ours)
