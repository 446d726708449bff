"""Ranks that are processes of MPI. `test_rank_fits` has the same as threads."""

import os
import re
import signal
import subprocess
import sys
import time
from shutil import which

import numpy as np
import pytest
from mpi import HERE, ended, needs_mpi, run, started

import nnx
from nnx.support.rank_threads import THREADS

PROGRAM = HERE / "ranks_program.py"
pytestmark = needs_mpi


def long(*values):
    return pytest.param(*values, marks=pytest.mark.long)


def test_gradients_and_a_fit_are_those_of_one_rank():
    without = dict.fromkeys(THREADS)  # as if the user had set none
    assert run(4, PROGRAM, "one_to_four", **without).count("done") == 4


@pytest.mark.long
@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_a_fit_is_that_of_one_rank(n):
    assert run(n, PROGRAM, "gradient").count("done") == n
    assert run(n, PROGRAM, "fit").count("done") == n


@pytest.mark.long
@pytest.mark.parametrize(
    "library", [pytest.param(x, marks=pytest.mark.needs(x)) for x in ("torch", "numba", "jax")]
)
def test_on_other_backends(library):
    run(2, PROGRAM, "gradient", library, JAX_ENABLE_X64="1")
    run(2, PROGRAM, "fit", library, seconds=300)


@pytest.mark.long
@pytest.mark.skipif(which("g++") is None, reason="g++ is not installed")
def test_nccl_on_a_stand_in():
    assert run(2, PROGRAM, "nccl_on_host", seconds=200).count("done") == 2


@pytest.mark.long
def test_a_fit_goes_on_with_other_ranks(tmp_path):
    run(2, PROGRAM, "checkpoints", tmp_path, 2, "anew")
    run(3, PROGRAM, "checkpoints", tmp_path, 4, "resume")
    assert nnx.Trainer.load(tmp_path / "of-3.safetensors", "numpy").steps == 24
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 5


@pytest.mark.long
def test_ranks_that_do_not_fit_each_other():
    """Each raises the error, and one says it."""
    output, status, _ = ended(started(2, PROGRAM, "differs", "seed"))
    assert status == 1
    assert output.count("InputError: rank 1 has seed = 4, rank 0 has 3") == 1, output
    assert "done" not in output


FAILURES = {
    "raise": "nnx: rank 1 of 2 failed, and ends all: the callback .*fail raised ValueError.*a mistake of one rank",
    "outside": "ValueError: a mistake of one rank\nnnx: rank 1 of 2 failed, and ends all",
    "interrupt": "KeyboardInterrupt\nnnx: rank 1 of 2 failed, and ends all",
    "sys.exit": "nnx: rank 1 has ended, and rank 0 of 2 waits for it. All ranks must call the same methods",
    "SIGKILL": "",
    "SIGSEGV": "",
    "SIGTERM": "",
}


@pytest.mark.parametrize(
    "how", ["SIGKILL", *map(long, ("raise", "outside", "interrupt", "sys.exit", "SIGSEGV", "SIGTERM"))]
)
def test_a_rank_that_fails_ends_all(how):
    output, status, _ = ended(started(2, PROGRAM, "fails", how, 1))
    told = re.search(r"fails at ([\d.]+)", output)
    assert told, output
    assert time.time() - float(told[1]) < 10
    assert status != 0, output
    assert "done" not in output
    assert re.search(FAILURES[how], output), output
    assert output.count("Traceback") <= 1


@pytest.mark.long
def test_ranks_that_are_killed_go_on_with_the_same_bits(tmp_path):
    """At any moment: all end, and the last checkpoint is whole."""
    rng, kills, whole = np.random.default_rng(), int(os.environ.get("NNX_TEST_KILLS", 4)), tmp_path / "whole"
    run(3, PROGRAM, "killed", whole)
    expected = np.load(whole / "theta.npy")
    for number, rank in enumerate(rng.integers(0, 3, kills)):
        folder = tmp_path / str(number // 2)  # the second kill hits a fit that goes on
        process, pids = started(3, PROGRAM, "killed", folder), {}
        while len(pids) < 3:
            pids |= re.findall(r"rank (\d) is (\d+)\.", process.stdout.readline())
        time.sleep(rng.random() * 1.5)
        os.kill(int(pids[str(rank)]), signal.SIGKILL)
        output, status, seconds = ended(process)
        assert seconds < 10
        assert status != 0, output
        if number % 2:
            run(3, PROGRAM, "killed", folder)
            assert np.array_equal(np.load(folder / "theta.npy"), expected)


@pytest.mark.long
def test_without_mpiexec_there_is_one_rank():
    found = subprocess.run(
        [sys.executable, PROGRAM, "alone"], capture_output=True, text=True, check=True, timeout=60
    )
    assert "communicator 'mpi' has one rank, this process. To have four: mpiexec -n 4" in found.stderr
    assert found.stdout == "done\n"
