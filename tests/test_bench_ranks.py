"""`python -m nnx.bench.ranks`: its figures, table and file. Nothing asks for speed."""

import json

import pytest
from mpi import needs_mpi
from mpi import run as in_processes
from thread_ranks import in_ranks

import nnx
from nnx.bench.ranks import Timed, line, main, measure, sizes_of

PARTS = "alone", "together", "sums", "bare"


def checked(row, rank):
    """Two rounds; the sum is a part of the step, and the first rank alone does whole batches."""
    assert row["bytes"] == 4 * (nnx.mlp([4, 5, 3]).P + 2)
    assert [len(row[part]) for part in PARTS] == [2 * (rank == 0), 2, 2, 2]
    assert all(0 < one < whole for one, whole in zip(row["sums"], row["together"], strict=True))
    assert all(seconds > 0 for part in PARTS for seconds in row[part])


def test_a_row():
    rows = in_ranks(2, measure, nnx.backend("numpy"), (4, 5, 3), 4096, 2, 0.001)
    for rank, row in enumerate(rows):
        assert (row.sizes, row.m) == ((4, 5, 3), 4096)
        checked(vars(row), rank)
    first = line(rows[0], 2)
    assert first.split()[:2] == ["4-5-3", "4,096"]
    assert first.endswith(" 180")
    assert "of 2" in first


def test_the_timed_communicator_is_the_other_one():
    def rank(ranks):
        timed, vector = Timed(ranks), ranks.rank + nnx.backend("numpy").asarray([1.0, 2.0])
        timed.broadcast(vector, 1)
        timed.sum(vector)
        timed.barrier()
        return timed.rank, timed.size, timed.meet(30), vector.tolist()

    assert in_ranks(2, rank) == [(0, 2, True, [4, 6]), (1, 2, True, [4, 6])]


def test_bad_arguments():
    with pytest.raises(nnx.InputError, match="one rank sums nothing; start two"):
        main(["--communicator", "alone", "--backend", "numpy"])
    for sizes in ("64", "64-x", "64-0"):
        with pytest.raises(nnx.InputError, match="--sizes"):
            sizes_of(sizes)


class TestInProcesses:
    pytestmark = [*needs_mpi, pytest.mark.long]  # noqa: RUF012  # pytest takes a list

    def test_the_first_rank_prints_and_writes(self, tmp_path):
        options = "--sizes", "4-5-3", "--batch-sizes", "512", "4096", "--rounds", "2", "--seconds", "0.01"
        output = in_processes(
            2, "-m", "nnx.bench.ranks", "--backend", "numpy", *options, "--out", tmp_path / "ranks.json"
        )
        assert output.count("4-5-3") == 2
        assert output.count("all ranks") == output.count("<nnx communicator mpi: rank 0 of 2") == 1
        found = json.loads((tmp_path / "ranks.json").read_text())
        assert (found["format"], found["ranks"], found["backend"]) == ("nnx ranks", 2, "numpy")
        assert found["machine"]["environment"]["OMP_NUM_THREADS"] == "1"
        assert [row["m"] for row in found["rows"]] == [512, 4096]
        for row in found["rows"]:
            checked(row, 0)
