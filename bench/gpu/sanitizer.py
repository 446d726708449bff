"""compute-sanitizer on a short fit: accesses beyond the end of memory, and races in a block's shared memory."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from nnx.bench.gpu.report import Report
from nnx.bench.gpu.sections import SECTIONS, Options

PLACES = ("/usr/local/cuda/bin", "/usr/local/cuda/compute-sanitizer", "/opt/cuda/bin")
"""Where CUDA's toolkit may be beside the PATH and CUDA_PATH."""

FOUND = 9
"""compute-sanitizer's exit status when it has found something."""

MARGIN = 5
"""Seconds of the section that are not given to compute-sanitizer."""

OURS = re.compile(r"\b(k\d+|begin|pick|pick_members|count_step|count_members|look_at_\w+)\b *[(+]")
"""A kernel of nnx in a line of compute-sanitizer's."""


def memcheck(report: Report, options: Options) -> None:
    """Look for accesses beyond the end of memory, in all kernels."""
    _check(report, "memcheck", ["--report-api-errors", "no"])


def racecheck(report: Report, options: Options) -> None:
    """Look for races in shared memory. Those in kernels of NVIDIA's are theirs: they are counted apart."""
    _check(report, "racecheck", ["--racecheck-report", "analysis"])


def _check(report: Report, tool: str, arguments: list[str]) -> None:
    program = found()
    if program is None:
        report.add(tool, "skipped", "compute-sanitizer is not on the PATH; CUDA's toolkit has it")
        return
    for how in ("calls", "graph"):
        command = [program, "--tool", tool, "--error-exitcode", str(FOUND), *arguments]
        command += [sys.executable, "-m", "nnx.bench.gpu.short_fit", how]
        name, limit = f"{tool}, {how}", (SECTIONS[report.section].seconds - MARGIN) / 2
        with report.guard(name):
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
            except subprocess.TimeoutExpired:
                report.add(name, "skipped", f"it took longer than {limit:.0f} s")
                continue
            print(name, done.stdout, done.stderr, sep="\n", flush=True)
            judge(report, name, done.returncode, done.stdout + done.stderr)


def judge(report: Report, name: str, status: int, output: str) -> None:
    """Report the outcome of a run of compute-sanitizer."""
    lines = [line.lstrip("= ") for line in output.splitlines() if line.strip("= ")]
    summary = next((line for line in lines if "SUMMARY" in line), "")
    trained = next((line for line in lines if "steps, J" in line), "")
    if not trained or not summary:
        outcome = "skipped" if any("not supported" in line for line in lines) else "failed"
        report.add(name, outcome, f"status {status}: {lines[-1] if lines else 'it printed nothing'}")
        return
    races = [line for line in lines if "Race reported" in line]
    theirs = [line for line in races if not OURS.search(line)]
    text = f"{summary}; {trained}"
    if races:
        text += f"; {len(races) - len(theirs)} in kernels of nnx, {len(theirs)} in others"
    is_clean = status == 0 and re.search(r"\b0 errors", summary) is not None
    report.judge(name, is_clean or (status == FOUND and bool(races) and theirs == races), text)


def found() -> str | None:
    """Return the path of compute-sanitizer, or None."""
    folders = [*PLACES, str(Path(os.environ.get("CUDA_PATH", "/usr/local/cuda")) / "bin")]
    return shutil.which("compute-sanitizer") or shutil.which(
        "compute-sanitizer", path=os.pathsep.join(folders)
    )
