"""All that cannot be tried without a GPU, in one command of less than 8 minutes.

`python -m nnx.bench.gpu --out FOLDER` compares CuPy's programs with NumPy, runs the suite's tests of cupy and
compute-sanitizer, takes the times of a step beside those of other libraries, and prints a table last.
"""

import argparse
import json
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nnx.bench import machine
from nnx.bench.gpu.process import Process
from nnx.bench.gpu.report import Row, counts, table
from nnx.bench.gpu.sections import FIRST, SECTIONS, Options, groups, longest
from nnx.bench.gpu.suite_tests import ordered
from nnx.errors import Error, InputError, integer, one_of
from nnx.io.atomic_write import written_aside
from nnx.metrics.history import without_nan

LOG = 200_000
"""Characters of a section's log that are kept: the last ones."""


class Script:
    """A run of the sections, with the files that it writes.

    Parameters
    ----------
    folder : Path
        For the files.
    options : Options
    overwrite : bool
        Whether files of an earlier run may be replaced.
    """

    def __init__(self, folder: Path, options: Options, overwrite: bool) -> None:
        self._folder, self._options, self._overwrite = folder, options, overwrite
        self.rows: list[Row] = []
        self._logs: dict[str, str] = {}
        self._gpu: dict[str, Any] = {}
        self._start, self._date = time.monotonic(), machine.now()

    def run(self, names: list[str]) -> None:
        """Run the first section, then the named ones if there is a GPU."""
        with TemporaryDirectory() as scratch:
            self._run_group([FIRST], Path(scratch))
            self._gpu = self.rows[0].numbers
            if "name" not in self._gpu:
                raise InputError(f"there is no GPU to try: {self.rows[0].text}")
            self._folder.mkdir(parents=True, exist_ok=True)
            self._options = self._options._replace(out=str(self._folder / file_name(self._gpu["name"])))
            if self._path("-checks.json").exists() and not self._overwrite:
                raise InputError(
                    f"{str(self._path('-checks.json'))!r} is there already; --overwrite replaces it"
                )
            rest = [name for name in names if name != FIRST]
            self._write()
            self._say(f"at most {longest(rest)} s more")
            for group in groups(rest):
                self._run_group(group, Path(scratch))

    def _run_group(self, names: list[str], scratch: Path) -> None:
        processes: list[Process] = []
        try:
            for name in names:
                processes.append(Process(name, self._options, scratch))
            for process in processes:
                rows = process.rows()
                self._keep(process, rows)
                self._say(f"{process.name}: {counts(rows)}")
        except KeyboardInterrupt:
            for process in processes:
                if process.name not in self._logs:
                    self._keep(process, process.interrupted())
            raise
        finally:
            for process in processes:
                process.end()

    def _keep(self, process: Process, rows: list[Row]) -> None:
        self.rows += rows
        self._logs[process.name] = process.log
        if self._gpu:
            self._write()

    def _write(self) -> None:
        about = {"machine": machine.describe(), "versions": machine.versions(), "gpu": self._gpu}
        found = {
            "format": "nnx bench gpu",
            "version": 1,
            "date": self._date,
            "seconds": round(time.monotonic() - self._start, 1),
            "seed": self._options.seed,
            "small": self._options.small,
            **about,
            "rows": [asdict(row) for row in self.rows],
        }
        with written_aside(self._path("-checks.json")) as aside:
            aside.write_text(json.dumps(without_nan(found), indent=1) + "\n", encoding="utf-8")
        parts = [f"===== {name}\n{log[-LOG:]}\n" for name, log in self._logs.items()]
        with written_aside(self._path(".log")) as aside:
            aside.write_text("".join(parts), encoding="utf-8")

    def _path(self, end: str) -> Path:
        return Path(f"{self._options.out}{end}")

    def _say(self, text: str) -> None:
        print(f"{time.monotonic() - self._start:4.0f} s  {text}", flush=True)


def file_name(gpu: str) -> str:
    """Return the beginning of the files' names.

    Examples
    --------
    >>> file_name("NVIDIA H100 80GB HBM3"), file_name("Tesla T4")
    ('nvidia-h100-80gb-hbm3', 'tesla-t4')
    """
    words = "".join(x if x.isalnum() else " " for x in gpu.lower()).split()
    return "-".join(words) or "gpu"


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options that were given, or end with status 2 if one is wrong."""
    content = "; ".join(f"{name}: {one.content}" for name, one in SECTIONS.items())
    parser = argparse.ArgumentParser(prog="python -m nnx.bench.gpu", description=__doc__, epilog=content)
    parser.add_argument(
        "--out", type=Path, required=True, help="a folder for the files, made if it is not there"
    )
    parser.add_argument(
        "--sections", default=",".join(SECTIONS), help="some of them, as correctness,speed; default: all"
    )
    parser.add_argument("--seed", type=int, help="draws samples and weights; default: another one each time")
    parser.add_argument("--tests", default="tests", help="the folder of the test suite; default: %(default)s")
    parser.add_argument("--small", action="store_true", help="tiny networks: a try of the script itself")
    parser.add_argument("--overwrite", action="store_true", help="replace the files of an earlier run")
    given = parser.parse_args(arguments)
    try:
        check(given)
    except InputError as error:
        parser.error(str(error))
    return given


def check(given: argparse.Namespace) -> None:
    """Raise an InputError if an option is wrong, before anything runs; make `sections` a list, and draw the seed."""
    names = [one_of("section", name.strip(), SECTIONS) for name in given.sections.split(",")]
    given.sections = list(dict.fromkeys(names))
    given.seed = int(time.time()) if given.seed is None else integer("seed", given.seed)
    if given.out.exists() and not given.out.is_dir():
        raise InputError(f"--out must be a folder, not the file {str(given.out)!r}")
    if "tests" in given.sections and not ordered(Path(given.tests)):
        raise InputError(
            f"{given.tests!r} has no tests: run this in a checkout, give its folder with --tests, or leave the section "
            "'tests' out with --sections"
        )


def interrupt_on_signals() -> None:
    """Let a batch system's SIGTERM and a lost connection's SIGHUP do what Ctrl-C does."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores SIGHUP
            signal.signal(number, signal.default_int_handler)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sections, print the table, and return the exit status: 1 if a check failed, 130 after Ctrl-C."""
    given = parsed(arguments)
    script = Script(given.out, Options("", given.seed, given.small, given.tests), given.overwrite)
    print(f"Seed {given.seed}", flush=True)
    status = 0
    try:
        script.run(given.sections)
    except KeyboardInterrupt:
        status = 130
    except OSError as error:  # a full disk, say: the table is still printed
        print(f"Error: {error}", file=sys.stderr)
        status = 1
    except Error as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    if not script.rows:
        print("No section has ended")
        return status
    failed = [row for row in script.rows if row.outcome == "failed"]
    print(f"\n{table(script.rows)}\n\n{counts(script.rows)}")
    if failed:  # once more, where a long table has scrolled away
        print(f"\n{table(failed)}")
    return status or int(bool(failed))


if __name__ == "__main__":
    interrupt_on_signals()
    sys.exit(main())
