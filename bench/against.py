"""Training steps of two checkouts side by side: `python -m nnx.bench.against PYTHON_BEFORE [PYTHON_AFTER]`.

Each checkout has a process of its own, by the Python of its environment. The two take turns in every cell, so that
what slows the machine slows both. The least time of several short turns counts.
"""

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from statistics import geometric_mean
from typing import Any, NamedTuple, Self

from nnx.bench import machine
from nnx.bench.case import steps_within
from nnx.io.atomic_write import written_aside

NETWORKS = ((64, 64, 64, 10), (784, 512, 512, 10), (1024, 1024, 1024, 1024, 10), (12288, 20, 7, 5, 1))
BATCH_SIZES = (1, 8, 32, 128, 1024, 8192)

PAUSE = 0.03
"""Seconds of rest before a turn: OpenBLAS's threads spin for some 25 ms."""

TURN = 0.012
"""Seconds of a turn, about: at least one epoch. The system lets a short one pass without an interruption."""

TURNS = 3, 25
"""The least and the most turns of a checkout in a cell."""

PATIENCE = 1.0
"""Seconds of a checkout's turns in a cell, about, unless that is fewer than the least number."""

SLOW = 1.2
"""A ratio that a cell is named for."""


class Cell(NamedTuple):
    """What is measured at a time."""

    backend: str
    sizes: tuple[int, ...]
    m: int
    shuffle: bool

    def __str__(self) -> str:
        order = "shuffled" if self.shuffle else "in order"
        return f"{self.backend} {'-'.join(map(str, self.sizes))} {order} m={self.m}"


@dataclass
class Measured:
    """A cell's seconds of a step: of each turn, before and after; or why there are none."""

    cell: Cell
    before: list[float]
    after: list[float]
    absent: str | None = None

    @property
    def ratio(self) -> float:
        """The least time after, over the least before."""
        return min(self.after) / min(self.before)


class Checkout:
    """A process that trains steps with the nnx of a Python's environment; see `against_process.py`."""

    def __init__(self, python: str) -> None:
        script = Path(__file__).with_name("against_process.py")
        self._process = subprocess.Popen(
            [python, "-P", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        with suppress(BrokenPipeError):  # a question that was not read
            self._process.communicate()

    def ask(self, **question: Any) -> Any:
        """Return the answer, or raise a RuntimeError with the message of what failed."""
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: PT018
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        answer = json.loads(line) if line else f"the process ended with status {self._process.wait()}"
        if isinstance(answer, str):
            raise RuntimeError(answer)
        return answer


def measure(cell: Cell, checkouts: Sequence[Checkout]) -> Measured:
    """Measure a cell: turns of one checkout and the other."""
    steps = steps_within(cell.sizes[0], cell.m, "float32")
    turns: tuple[list[float], list[float]] = ([], [])
    try:
        epoch = [
            one.ask(backend=cell.backend, m=cell.m, steps=steps, shuffle=cell.shuffle) for one in checkouts
        ]
        epochs = max(1, round(TURN / max(1e-9, min(epoch))))
        if epochs > 1:  # so short an epoch is measured again, over several, in which much is done at once
            epoch = [one.ask(epochs=epochs) / epochs for one in checkouts]
            epochs = max(1, round(TURN / min(epoch)))
        for turn in range(_turns(epochs * max(epoch))):
            for which in (0, 1) if turn % 2 else (1, 0):
                time.sleep(PAUSE)
                turns[which].append(checkouts[which].ask(epochs=epochs) / (epochs * steps))
    except RuntimeError as error:
        return Measured(cell, [], [], str(error))
    return Measured(cell, *turns)


def _turns(seconds: float) -> int:
    return min(TURNS[1], max(TURNS[0], math.ceil(PATIENCE / seconds)))


def rounds(
    cells: Sequence[Cell], checkouts: Sequence[Checkout], count: int, say: Callable[[str], Any]
) -> Iterator[list[Measured]]:
    """Yield what was measured, after each cell, once for each round: lists as long as it has come."""
    for number in range(1, count + 1):
        found: list[Measured] = []
        sizes: tuple[int, ...] = ()
        for cell in sorted(cells, key=lambda cell: NETWORKS.index(cell.sizes)):
            if cell.sizes != sizes:
                sizes = cell.sizes
                most = max(m * steps_within(sizes[0], m, "float32") for _, n, m, _ in cells if n == sizes)
                for one in checkouts:
                    one.ask(network=sizes, samples=most)
            found.append(measure(cell, checkouts))
            say(f"{number}: {told(found[-1])}")
            yield found


def told(one: Measured) -> str:
    """Return a line on a cell."""
    if one.absent is not None:
        return f"{one.cell}: {one.absent}"
    before, after = (1e6 * min(times) for times in (one.before, one.after))
    return f"{one.cell}: {before:,.1f} to {after:,.1f} us a step, {one.ratio:.2f}"


def report(measured: Sequence[Sequence[Measured]]) -> Iterator[str]:
    """Yield the tables, in Markdown: the ratios of each round by network and order, the means, the worst cells.

    Parameters
    ----------
    measured : sequence of rounds
        The last may be shorter than the others.
    """
    for backend in dict.fromkeys(one.cell.backend for found in measured for one in found):
        mine = [
            [one for one in found if one.cell.backend == backend and not one.absent] for found in measured
        ]
        for number, found in enumerate(mine, 1):
            if found:
                mean = geometric_mean(one.ratio for one in found)
                yield f"{backend}, round {number}: geometric mean {mean:.3f} of {len(found)} cells"
                yield from _table(found)
        slow = [{one.cell for one in found if one.ratio > SLOW} for found in mine if found]
        both = set.intersection(*slow) if slow else set()
        named = sorted(
            both, key=lambda cell: -min(one.ratio for found in mine for one in found if one.cell == cell)
        )
        yield f"{backend}: {len(both)} cells over {SLOW} in {'each round' if len(slow) > 1 else 'the round'}"
        for cell in named:
            yield f"- {cell}: {', '.join(f'{one.ratio:.2f}' for found in mine for one in found if one.cell == cell)}"
    for one in {one.cell: one for found in measured for one in found if one.absent}.values():
        yield f"absent: {told(one)}"


def _table(found: Sequence[Measured]) -> Iterator[str]:
    ms = sorted({one.cell.m for one in found})
    yield f"| network, order | {' | '.join(f'm = {m:,}' for m in ms)} | mean |"
    yield f"|---|{'---:|' * (len(ms) + 1)}"
    for sizes, shuffle in dict.fromkeys((one.cell.sizes, one.cell.shuffle) for one in found):
        row = {one.cell.m: one.ratio for one in found if one.cell[1::2] == (sizes, shuffle)}
        name = f"{'-'.join(map(str, sizes))}, {'shuffled' if shuffle else 'in order'}"
        ratios = " | ".join(f"{row[m]:.2f}" if m in row else "" for m in ms)
        yield f"| {name} | {ratios} | {geometric_mean(row.values()):.2f} |"


def write(path: Path, measured: Sequence[Sequence[Measured]], checkouts: Sequence[str]) -> None:
    """Write all of it as JSON."""
    found = {
        "format": "nnx against",
        "date": machine.now(),
        "machine": machine.describe(),
        "versions": machine.versions(),
        "load": machine.load(),
        "checkouts": list(checkouts),
        "rounds": [[{**asdict(one), "cell": one.cell._asdict()} for one in each] for each in measured],
    }
    with written_aside(path) as aside:
        aside.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m nnx.bench.against", description=__doc__)
    parser.add_argument("before", help="the Python of the older checkout's environment")
    parser.add_argument("after", nargs="?", default=sys.executable, help="of the newer one's (this Python)")
    parser.add_argument("--backends", nargs="+", default=["numba"])
    parser.add_argument(
        "--networks", nargs="+", type=int, choices=range(len(NETWORKS)), default=range(len(NETWORKS))
    )
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=BATCH_SIZES)
    parser.add_argument(
        "--orders", nargs="+", choices=("in-order", "shuffled"), default=("in-order", "shuffled")
    )
    parser.add_argument("--rounds", type=int, default=1, help="runs over all cells")
    parser.add_argument("--out", type=Path, help="a JSON file of all turns")
    given = parser.parse_args(arguments)
    networks, orders = [NETWORKS[i] for i in given.networks], [order == "shuffled" for order in given.orders]
    cells = [Cell(*one) for one in product(given.backends, networks, given.batch_sizes, orders)]
    measured: list[list[Measured]] = []
    try:
        with Checkout(given.before) as before, Checkout(given.after) as after:
            for found in rounds(
                cells, (before, after), given.rounds, lambda text: print(text, file=sys.stderr)
            ):
                if not measured or measured[-1] is not found:
                    measured.append(found)
                if given.out is not None:
                    write(given.out, measured, (given.before, given.after))
    except KeyboardInterrupt:
        print("stopped by Ctrl-C", file=sys.stderr)
    print(*report(measured), sep="\n")


if __name__ == "__main__":
    main()
