"""A plugin of pytest that writes the outcome of each test when it is known, so that a crash loses no other test's."""

import json
import os
from pathlib import Path
from typing import Any

VARIABLE = "NNX_BENCH_OUTCOMES"
"""The environment variable with the path of the file."""


def pytest_runtest_logreport(report: Any) -> None:
    """Write a line of JSON: the test, its outcome, and the first line of its error."""
    path, is_worker = os.environ.get(VARIABLE), "PYTEST_XDIST_WORKER" in os.environ
    if path is None or is_worker or (report.passed and report.when != "call"):
        return
    lines = [
        line.removeprefix("E").strip() for line in report.longreprtext.splitlines() if line.startswith("E ")
    ]
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(json.dumps([report.nodeid, report.outcome, "".join(lines[:1])]) + "\n")
