"""The kernels and products of a step with their times, and the step with one choice of the program changed."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

from nnx.backends.cupy.cublaslt import Matmul
from nnx.backends.cupy.resident import ResidentStep
from nnx.backends.cupy.streams import Plan
from nnx.bench import kernels
from nnx.bench.case import Case
from nnx.bench.gpu.bars import DIGITS, us
from nnx.bench.gpu.report import Report
from nnx.bench.gpu.sections import Options
from nnx.bench.kernels import step_profile
from nnx.errors import BackendError

TOGETHER = 16
"""Steps in one graph, where that is tried."""

ALGORITHMS = 4
"""Algorithms of products that are tried, the first ones of cuBLASLt's own order."""

UNCHANGED = "as it is"


def measure(report: Report, options: Options) -> None:
    """Report the time of each call of a step, by itself."""
    with small_matrices() if options.small else nullcontext():
        for case in cases(options):
            check = f"{'-'.join(map(str, case.sizes))}, m = {case.m:,}"
            with report.guard(check):
                profile = step_profile(case)
                print(profile, flush=True)
                if profile.absent is not None or profile.graph_seconds is None:
                    reason = profile.absent or "CUDA has refused the graph"
                    report.add(check, "failed", reason)
                    continue
                for row in profile.rows:
                    assert row.seconds is not None
                    assert row.least_seconds is not None
                    text = f"{us(row.seconds):>8} us, at least {us(row.least_seconds):>6}  {row.name}"
                    report.add(
                        f"m = {case.m:,}: {row.call}", "measured", text, seconds=row.seconds, bytes=row.bytes
                    )
                assert profile.seconds is not None
                text = f"{us(profile.graph_seconds)} us as a graph; its calls by themselves {us(profile.seconds)}"
                report.add(check, "measured", text, graph=profile.graph_seconds, calls=profile.seconds)


def compare_choices(report: Report, options: Options) -> None:
    """Report the time of a step as it is, and with one thing changed."""
    with small_matrices():
        for case in cases(options):
            for name, (change, steps) in choices().items():
                check = f"m = {case.m:,}: {name}"
                with report.guard(check), change:
                    try:
                        seconds = step_profile(case).graph_seconds
                    except BackendError as error:  # some algorithms are refused at their first call only
                        report.add(check, "failed" if name == UNCHANGED else "skipped", str(error))
                        continue
                    if seconds is None:
                        report.add(check, "failed", "CUDA has refused the graph")
                    else:
                        report.add(check, "measured", f"{us(seconds / steps)} us", seconds=seconds / steps)


def choices() -> dict[str, tuple[Any, int]]:
    """Return each change of a program, and the steps in a graph that is changed so."""
    found: dict[str, tuple[Any, int]] = {
        UNCHANGED: (nullcontext(), 1),
        "on one stream": (patch("nnx.backends.cupy.calls.planned", one_stream), 1),
        f"{TOGETHER} steps in one graph": (steps_together(), TOGETHER),
    }
    for k in range(1, ALGORITHMS):
        found[f"algorithm {k + 1} of each product"] = other_algorithm(k), 1
    return found


def one_stream(after: Any, weights: Any = None) -> Plan:
    """Return all calls on one stream, in their order."""
    return Plan((False,) * len(after), (None,) * len(after))


@contextmanager
def steps_together() -> Iterator[None]:
    """Let a graph be several steps."""
    enqueue = ResidentStep._enqueue

    def several(step: ResidentStep, stream: Any) -> None:
        for _ in range(TOGETHER):
            enqueue(step, stream)

    costs = patch.object(kernels, "COSTS", TOGETHER * kernels.COSTS)
    with costs, patch.object(ResidentStep, "_enqueue", several):
        yield


@contextmanager
def other_algorithm(k: int) -> Iterator[None]:
    """Let each product take the algorithm k places further down in cuBLASLt's order, or the last one that it has."""
    algorithms = Matmul.algorithms

    def later(matmul: Matmul, lt: Any, alignments: Any, count: int = 1) -> Any:
        found = algorithms(matmul, lt, alignments, max(count, k + 1))
        return found if count > 1 else found[min(k, len(found) - 1) :]

    with patch.object(Matmul, "algorithms", later):
        yield


def cases(options: Options) -> list[Case]:
    """Return the steps whose times are taken."""
    return [Case((20, 16, 4), 8)] if options.small else [Case(DIGITS, 128), Case(DIGITS, 1024)]


def small_matrices() -> Any:
    """Let the GPU's own speed be measured by small matrices, in no time, where it does not matter."""
    return patch.multiple(kernels, COPIED=1 << 16, LARGE=64)
