"""The process of one section: `python -m nnx.bench.gpu.child SECTION MODULE:FUNCTION ROWS OPTIONS`."""

import json
import logging
import os
import signal
import sys
from importlib import import_module
from pathlib import Path
from threading import Thread

from nnx.bench.gpu.report import Report
from nnx.bench.gpu.sections import Options


def main(section: str, where: str, rows: str, options: str) -> None:
    """Run a section; its rows go to a file, and its log to the standard output."""
    end_with_parent()
    logging.basicConfig(stream=sys.stdout, level=logging.INFO)
    module, _, function = where.partition(":")
    getattr(import_module(module), function)(Report(section, Path(rows)), Options(**json.loads(options)))


def end_with_parent() -> None:
    """End this process, and all that it has started, as soon as the process that writes to its standard input ends."""
    parent = os.dup(0)  # another number, so that no process started here reads from it
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)

    def wait() -> None:
        os.read(parent, 1)  # returns when the parent's end of the pipe is closed
        if hasattr(os, "killpg"):
            os.killpg(0, signal.SIGKILL)
        os._exit(1)

    Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    main(*sys.argv[1:])
