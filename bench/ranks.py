"""The share of a training step that the sum over ranks takes: `mpiexec -n 2 python -m nnx.bench.ranks --backend numba`.

In each round the first rank does steps of whole batches while the others sleep. Then all ranks do steps of the same
batches, each with its share of the samples. Then they sum a vector, and compute nothing between. Each rank has one
thread. The table has medians over the rounds.
"""

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import nnx
from nnx.batches.shares import RankBatches
from nnx.bench import machine
from nnx.errors import InputError, positive_int
from nnx.io.atomic_write import written_aside
from nnx.port.base import Backend
from nnx.port.communicator import Communicator, Wrapper
from nnx.support.rank_threads import THREADS
from nnx.train.share import Share
from nnx.train.step import initial_state, training_step

ONE_THREAD = {
    **dict.fromkeys(THREADS, "1"),
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}
"""The environment of each rank: libraries read it when they are imported."""

SIZES = "64-64-64-10", "784-512-512-10"
BATCH_SIZES = 128, 1024, 8192

SAMPLES = 8192
"""At least so many, in batches that follow each other."""

WAIT = 600.0
"""Seconds in which the other ranks come to the same place."""

Run = Callable[[int], float]
"""run(calls) -> the seconds of a step."""


@dataclass(frozen=True)
class Row:
    """A network and a batch size; times are seconds of a step, one for each round, on the first rank."""

    sizes: tuple[int, ...]
    m: int
    bytes: int
    """Of the vector that is summed."""
    alone: list[float]
    """One rank, whole batches."""
    together: list[float]
    """All ranks, each with its share."""
    sums: list[float]
    """The part of `together` that the sum takes, with the wait for the slowest rank."""
    bare: list[float]
    """A sum without steps between."""


class Timed(Wrapper):
    """A communicator whose sums are timed.

    Attributes
    ----------
    seconds : float
        Of all sums so far.

    Examples
    --------
    >>> timed = Timed(nnx.communicator("alone"))
    >>> timed.sum(np.ones(3))
    >>> timed.seconds > 0
    True
    """

    def __init__(self, ranks: Communicator) -> None:
        super().__init__(ranks)
        self.seconds = 0.0

    def sum(self, vector: Any) -> None:
        """Put the sum of all ranks' vectors into each of them."""
        start = time.perf_counter()
        super().sum(vector)
        self.seconds += time.perf_counter() - start


def sleep_until_all_are_here(ranks: Communicator) -> None:
    """Wait for the other ranks; a barrier of MPI's would take a core meanwhile."""
    if not ranks.meet(WAIT):
        ranks.abort()


def steps(backend: Backend, sizes: tuple[int, ...], m: int, ranks: Communicator | None) -> Run:
    """Return the function that trains with Adam, in float32: on one rank's share, or (None) on whole batches."""
    network, optimizer, rng = nnx.mlp(list(sizes)), nnx.Adam(), np.random.default_rng(0)
    count = math.ceil(SAMPLES / m)
    X = rng.standard_normal((sizes[0], count * m)).astype(np.float32)
    Y = rng.integers(0, sizes[-1], count * m, dtype=np.int32)
    share = None
    batches: Any = (backend.asarray(X), backend.asarray(Y), None), None, 0, m
    if ranks is not None:
        own = RankBatches(backend, X, Y, None, m, None, None, ranks)
        share, batches = Share(ranks, own.start), own.taken(None, 0, m)
    data, order, at, k = batches
    program = backend.compile(training_step(network, optimizer, share=share))
    program.load(initial_state(network, optimizer, backend.asarray(network.init(0))))

    def run(calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            program.run(data, order, at, k, count)
        backend.to_numpy(program.read("theta")["theta"])  # waits for all that is under way
        return (time.perf_counter() - start) / (calls * count)

    return run


def bare_sums(ranks: Communicator, size: int) -> Run:
    """Return the function that sums vectors of so many float32."""
    vector = np.zeros(size, np.float32)

    def run(calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            ranks.sum(vector)
        return (time.perf_counter() - start) / calls

    return run


def calls_for(run: Run, seconds: float, each: int, ranks: Communicator) -> int:
    """Return how many calls, of so many steps each, take about these seconds on the first rank; the same on all."""
    run(1)  # compiles
    found = np.array([max(1, round(seconds / (run(1) * each)))], np.int64)
    ranks.broadcast(found)
    return int(found[0])


def measure(
    ranks: Communicator, backend: Backend, sizes: tuple[int, ...], m: int, rounds: int, seconds: float
) -> Row:
    """Measure on all ranks, which call this together; each of the three parts of a round takes about these seconds."""
    timed, size, each = Timed(ranks), nnx.mlp(list(sizes)).P + 2, math.ceil(SAMPLES / m)
    alone = steps(backend, sizes, m, None) if ranks.rank == 0 else None
    together, bare = steps(backend, sizes, m, timed), bare_sums(ranks, size)
    of_one = 0 if alone is None else calls_for(alone, seconds, each, nnx.communicator("alone"))
    sleep_until_all_are_here(ranks)
    of_all, of_sums = calls_for(together, seconds, each, ranks), calls_for(bare, seconds, 1, ranks)
    row = Row(sizes, m, 4 * size, [], [], [], [])
    for _ in range(rounds):
        if alone is not None:
            row.alone.append(alone(of_one))
        sleep_until_all_are_here(ranks)
        timed.seconds = 0.0
        row.together.append(together(of_all))
        row.sums.append(timed.seconds / (of_all * each))
        row.bare.append(bare(of_sums))
    return row


def line(row: Row, ranks: int) -> str:
    """Return a row of the table."""
    alone, together, sums, bare = (median(x) for x in (row.alone, row.together, row.sums, row.bare))
    return (
        f"{'-'.join(map(str, row.sizes)):18}{row.m:8,}{1e6 * alone:11,.0f}{1e6 * together:11,.0f}"
        f"{alone / together:9.2f} of {ranks}{1e6 * sums:10,.0f}{sums / together:7.0%}{1e6 * bare:11,.0f}{row.bytes:13,}"
    )


HEAD = (
    "network            samples   one rank  all ranks   speedup   of these the sum   sum alone        bytes\n"
    "                                   us         us                      us             us"
)


def write(rows: Sequence[Row], ranks: Communicator, backend: str, path: Path) -> None:
    """Write the JSON file."""
    found = {
        "format": "nnx ranks",
        "date": machine.now(),
        "machine": machine.describe(),
        "versions": machine.versions(),
        "load": machine.load(),
        "communicator": ranks.describe(),
        "ranks": ranks.size,
        "backend": backend,
        "rows": [asdict(row) for row in rows],
    }
    with written_aside(path) as aside:
        aside.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def sizes_of(text: str) -> tuple[int, ...]:
    """Return the sizes of a network's layers.

    Examples
    --------
    >>> sizes_of("64-32-10")
    (64, 32, 10)
    """
    try:
        found = tuple(positive_int("--sizes", int(x)) for x in text.split("-"))
    except ValueError as error:
        raise InputError(f"--sizes are units of layers, such as 64-64-64-10, not {text!r}") from error
    if len(found) < 2:
        raise InputError(f"--sizes are units of two layers at least, such as 64-64-64-10, not {text!r}")
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, on the first rank."""
    parser = argparse.ArgumentParser(prog="python -m nnx.bench.ranks", description=__doc__)
    parser.add_argument("--backend", default="numba")
    parser.add_argument("--communicator", default="mpi")
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="64-64-64-10")
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=BATCH_SIZES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each of the three parts of a round")
    parser.add_argument("--out", type=Path, help="a JSON file of all rounds")
    given = parser.parse_args(arguments)
    networks, rounds = [sizes_of(text) for text in given.sizes], positive_int("--rounds", given.rounds)
    batch_sizes = [positive_int("--batch-sizes", m) for m in given.batch_sizes]
    ranks, backend = nnx.communicator(given.communicator), nnx.backend(given.backend)
    if ranks.size == 1:
        raise InputError("one rank sums nothing; start two: mpiexec -n 2 python -m nnx.bench.ranks")
    if ranks.rank == 0:
        print(f"{backend!r}\n{ranks!r}\n\n{HEAD}", flush=True)
    rows = []
    for sizes in networks:
        for m in batch_sizes:
            rows.append(measure(ranks, backend, sizes, m, rounds, given.seconds))
            if ranks.rank == 0:
                print(line(rows[-1], ranks.size), flush=True)
    if given.out and ranks.rank == 0:
        write(rows, ranks, given.backend, given.out)


if __name__ == "__main__":
    if any(os.environ.get(name) != value for name, value in ONE_THREAD.items()):
        os.environ.update(ONE_THREAD)
        os.execv(sys.executable, [sys.executable, "-m", "nnx.bench.ranks", *sys.argv[1:]])
    main()
