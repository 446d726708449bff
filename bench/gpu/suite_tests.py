"""The suite's tests of the backend cupy, the most telling files first."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from nnx.bench.gpu.outcomes import VARIABLE
from nnx.bench.gpu.report import Report
from nnx.bench.gpu.sections import SECTIONS, Options
from nnx.support.limits import cores

FIRST = (
    "programs",
    "training",
    "trainer",
    "members",
    "stacks",
    "operations",
    "layers",
    "optimizers",
    "regularization",
    "metrics",
    "losses",
)
"""The files that try most of a GPU's programs, each test_NAME.py."""

MARGIN = 10
"""Seconds of the section that are left for pytest's start and end."""

FAILURES = 20
"""Failed tests that have a row of their own."""

WORKER, WORKERS = 3 << 30, 8
"""The bytes of a GPU that a process of pytest-xdist uses by CuPy, PyTorch and JAX, and the most processes."""


def run(report: Report, options: Options) -> None:
    """Run pytest for as long as the section may take; report how many tests passed, and those that did not."""
    if find_spec("pytest") is None:
        report.add("pytest -k cupy", "skipped", "pytest is not installed")
        return
    outcomes = report.path.with_suffix(".outcomes")
    command = [sys.executable, "-m", "pytest", "-q", "-k", "cupy", "-p", "no:cacheprovider"]
    command += ["-p", "nnx.bench.gpu.outcomes", "--continue-on-collection-errors"]
    command += in_parallel()
    ended = "all of them"
    with subprocess.Popen(
        [*command, *map(str, ordered(Path(options.tests)))], env={**os.environ, VARIABLE: str(outcomes)}
    ) as process:
        try:
            status = process.wait(SECTIONS[report.section].seconds - MARGIN)
        except subprocess.TimeoutExpired:
            process.kill()
            status, ended = 0, "its time was over"
    found = read(outcomes)
    for test, error in [(test, error) for test, (outcome, error) in found.items() if outcome == "failed"][
        :FAILURES
    ]:
        report.add(test, "failed", error)
    names = [outcome for outcome, _ in found.values()]
    text = f"{names.count('passed')} passed, {names.count('failed')} failed, {names.count('skipped')} skipped; {ended}"
    if status not in (0, 1):
        text += f"; pytest ended with status {status}: see the log"
    is_right = status == 0 and "passed" in names and "failed" not in names
    report.judge("pytest -k cupy", is_right, text)


def in_parallel() -> list[str]:
    """Return pytest's arguments for as many processes as the cores and the GPU's memory allow."""
    import cupy

    free, _ = cupy.cuda.runtime.memGetInfo()
    workers = min(WORKERS, cores(), int(free) // WORKER)
    return ["-n", str(workers)] if workers > 1 and find_spec("xdist") is not None else []


def ordered(folder: Path) -> list[Path]:
    """Return the files with tests in the order in which they run."""
    paths = sorted(folder.glob("test_*.py"))
    first = [folder / f"test_{name}.py" for name in FIRST]
    return [path for path in first if path in paths] + [path for path in paths if path not in first]


def read(outcomes: Path) -> dict[str, tuple[str, str]]:
    """Return each test's outcome and error. A test that failed once has failed, also if its end passed."""
    found: dict[str, tuple[str, str]] = {}
    if outcomes.exists():
        for line in outcomes.read_text(encoding="utf-8").splitlines():
            with suppress(ValueError):  # half a line
                test, outcome, error = json.loads(line)
                if found.get(test, ("", ""))[0] != "failed":
                    found[test] = outcome, error
    return found
