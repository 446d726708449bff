"""The runs of a sweep in several processes, of this machine or of a cluster with its disk."""

import signal
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from nnx.callbacks import Callback
from nnx.cli import config, show
from nnx.cli.folder import CONFIG
from nnx.cli.options import Options
from nnx.cli.prepared import Reader
from nnx.cli.stacks import Run, place_of, stacks
from nnx.errors import count
from nnx.support.limits import cores
from nnx.support.parallel import done

Row = dict[str, Any]
Train = Callable[[Sequence[Run], Path, Reader, Callable[[str], Callback]], list[Row]]
"""Trains the runs of a stack in the folder of their sweep, and returns their rows of the table."""


def shares(found: Sequence[Sequence[Run]], jobs: int | None) -> list[list[Run]]:
    """Return stacks cut into as many parts as there are workers, so that all have something to do.

    Examples
    --------
    >>> from nnx.cli.options import Options
    >>> runs = [Run(str(k), {}, Options()) for k in range(5)]
    >>> [[run.name for run in share] for share in shares([runs], 2)]
    [['0', '1', '2'], ['3', '4']]
    """
    parts = jobs or cores()
    sizes = [-(-len(stack) // parts) for stack in found]
    return [
        list(stack[at : at + size])
        for stack, size in zip(found, sizes, strict=True)
        for at in range(0, len(stack), size)
    ]


def results(
    train: Train, tasks: Sequence[list[Run]], path: Path, jobs: int | None, scheduler: str | None
) -> Iterator[tuple[list[Run], list[Row] | Exception]]:
    """Yield the runs of each task and their rows, or the error of the worker, as they come.

    After Ctrl-C no more tasks are begun; those of this machine end after a step, as one process does.

    Raises
    ------
    KeyboardInterrupt
        After Ctrl-C, when the tasks that were under way have ended; after the second one at once.
    """
    with _interrupts() as interrupted:
        told = False

        def goes_on(running: Collection[int]) -> bool:
            nonlocal told
            if interrupted and running and not told:
                runs = count(sum(len(tasks[number]) for number in running), "run")
                show.console.print(f"Ctrl-C: waits for {runs} under way; Ctrl-C again does not.")
                told = True
            return not interrupted

        given = [(train, task if scheduler is None else _located(task), path.absolute()) for task in tasks]
        for number, rows, error in done(work, given, jobs, scheduler, goes_on):
            yield tasks[number], error or rows
    if interrupted:
        raise KeyboardInterrupt


def _located(runs: Sequence[Run]) -> list[Run]:
    """Return runs whose files workers find from any folder."""

    def located(options: Options) -> Options:
        given: dict[str, Any] = {**config.files(options)}
        return replace(options, **given)

    return [replace(run, options=located(run.options)) for run in runs]


def work(train: Train, runs: Sequence[Run], path: Path) -> list[Row]:
    """Train runs in a worker; return their rows. Those that a worker has begun before it died go on."""
    if not path.is_dir():
        raise FileNotFoundError(f"a worker sees no folder {str(path)!r}: all must have the disk of the sweep")
    again = [_going_on(run, path / run.name) for run in runs]
    found: dict[str, Row] = {}
    with show.told(quiet=True):
        for stack in stacks(again) if len({run.place for run in again}) > 1 else [again]:
            for row in train(stack, path, _reader(), lambda part: Callback()):
                found[row["run"]] = row
    return [found[run.name] for run in runs]


def _going_on(run: Run, path: Path) -> Run:
    """Return a run as it is now: another worker may have begun it."""
    if run.resumed or not (path / CONFIG).is_file():
        return run
    return replace(run, resumed=True, place=place_of(path))


@lru_cache(maxsize=1)
def _reader() -> Reader:
    """Return the reader of this process, which keeps the data of the runs before."""
    return Reader()


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Return a list that the first Ctrl-C makes true; the second one is a KeyboardInterrupt."""
    found: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield found
        return
    before = signal.getsignal(signal.SIGINT)

    def first(number: int, _: object) -> None:
        found.append(number)
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, first)
    try:
        yield found
    finally:
        signal.signal(signal.SIGINT, before)
