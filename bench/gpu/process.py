"""A section in its process: begun, waited for, and ended with all that it has started when its time is over."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from nnx.bench.gpu.report import Row, read_rows
from nnx.bench.gpu.sections import SECTIONS, Options


class Process:
    """A section that runs.

    Parameters
    ----------
    name : str
        One of SECTIONS.
    options : Options
    folder : Path
        For its rows and its log.
    """

    def __init__(self, name: str, options: Options, folder: Path) -> None:
        self.name, self._rows, self._log = name, folder / f"{name}.rows", folder / f"{name}.log"
        self._start = time.monotonic()
        arguments = [name, SECTIONS[name].where, str(self._rows), json.dumps(options._asdict())]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "nnx.bench.gpu.child", *arguments],
                stdin=subprocess.PIPE,  # its end tells the section that this process has ended
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that all that it starts can be ended with it
                env={
                    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
                    **os.environ,
                },  # JAX would take most of the memory
            )

    def rows(self) -> list[Row]:
        """Wait until it ends or its time is over; return its rows, and one more if it did not end well.

        A KeyboardInterrupt leaves it as it is: `interrupted` returns its rows then.
        """
        limit = SECTIONS[self.name].seconds
        try:
            status = self._process.wait(max(0.0, self._start + limit - time.monotonic()))
            failure = f"its process ended with status {status}: {self._last_line()}" if status else ""
        except subprocess.TimeoutExpired:
            failure = f"it was ended after {limit} s; the rows above are from before"
        self.end()
        rows = read_rows(self._rows)
        if not rows and not failure:
            failure = "it has checked nothing"
        return [*rows, Row(self.name, "the whole section", "failed", failure)] if failure else rows

    def interrupted(self) -> list[Row]:
        """End it; return its rows, and one more that says so."""
        self.end()
        row = Row(self.name, "the whole section", "interrupted", "by Ctrl-C or a signal")
        return [*read_rows(self._rows), row]

    @property
    def log(self) -> str:
        """All that it has printed."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def end(self) -> None:
        """End it, and all that it has started."""
        if hasattr(os, "killpg"):
            with suppress(ProcessLookupError, PermissionError):  # all of them have ended
                os.killpg(self._process.pid, signal.SIGKILL)
        elif self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()

    def _last_line(self) -> str:
        lines = [line for line in self.log.splitlines() if line.strip()]
        return lines[-1][:200] if lines else "it printed nothing"
