"""The process of one section: `python -m nnx.bench.gpu.child SECTION MODULE:FUNCTION ROWS OPTIONS`."""

import json
import logging
import sys
from importlib import import_module
from pathlib import Path

from nnx.bench.gpu.report import Report
from nnx.bench.gpu.sections import Options


def main(section: str, where: str, rows: str, options: str) -> None:
    """Run a section; its rows go to a file, and its log to the standard output."""
    logging.basicConfig(stream=sys.stdout, level=logging.INFO)
    module, _, function = where.partition(":")
    getattr(import_module(module), function)(Report(section, Path(rows)), Options(**json.loads(options)))


if __name__ == "__main__":
    main(*sys.argv[1:])
