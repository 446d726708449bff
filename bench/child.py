"""A process for each contestant: their thread pools disturb each other in one.

PyTorch's OpenMP, XLA's pool and OpenBLAS's threads wait for work by spinning, on cores that the others want: JAX took
12 ms for a step at m = 1 in a process where PyTorch had run. So each contestant lives in a process of its own, answers
through a pipe, and waits in `recv`, asleep, while another one has its turn.
"""

import logging
import multiprocessing
import os
import signal
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, Self

from nnx.bench import machine, memory
from nnx.bench.case import Case
from nnx.bench.contestant import Absent, Contestant
from nnx.bench.contestants import WITH_WORKERS, make
from nnx.errors import Error, first_line


class Built(NamedTuple):
    """What a contestant says of itself when it is ready.

    Attributes
    ----------
    first : float
        Seconds that it took to be made and to train its first epoch: what compiles does it here.
    epoch : float
        Seconds of its second epoch.
    peak : int or None
        The bytes that it had in memory at most in the second epoch, less those before it was made. On a GPU: those of
        the device's memory, less X's.
    library, device, detail, precision : str
        See `Contestant`.
    blas : list
        See `machine.blas`.
    """

    first: float
    epoch: float
    peak: int | None
    library: str
    device: str
    detail: str
    precision: str
    blas: list[dict[str, Any]]


class Child:
    """One contestant in its own process.

    Parameters
    ----------
    name : str
        See `contestants`.

    Raises
    ------
    Absent
        In `build`: when it cannot take part.
    RuntimeError
        When it failed, with its own message.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would take the parent's pools along
        if os.name == "posix":  # started by the first process otherwise, which would let Ctrl-C through
            resource_tracker.ensure_running()
        self._pipe, other = context.Pipe()
        # (a daemon would end with this process, but may have no processes of its own)
        is_daemon = self.name not in WITH_WORKERS
        self._process = context.Process(target=serve, args=(other, self.name), daemon=is_daemon)
        with (
            _uninterrupted()
        ):  # Ctrl-C goes to it, too, and it has nobody who would catch it before it serves
            self._process.start()
        other.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def begin(self, case: Case) -> None:
        """Begin to import its library, without a wait: other contestants import theirs at the same time."""
        with suppress(BrokenPipeError, ConnectionResetError):  # `build` starts another process
            self._pipe.send(("warm", (case,)))

    def ready(self) -> None:
        """Wait for the end of `begin`. If that failed, `build` says why."""
        with suppress(EOFError, ConnectionResetError):
            self._pipe.recv()

    def build(self, case: Case) -> Built:
        """Make the contestant ready for this case, in place of the last one; in a new process if that one ended."""
        if not self._process.is_alive():  # the system killed it: that case took too much memory
            self.close()
            self._start()
        return Built(*self._ask("build", case))

    def seconds(self, epochs: int) -> float:
        """Train so many epochs; return the seconds."""
        return float(self._ask("seconds", epochs))

    def outside(self) -> float | None:
        """Return what of the last seconds was outside the program's steps; None of a contestant without a program."""
        found: float | None = self._ask("outside")
        return found

    def parameters(self) -> dict[str, Any]:
        """Return the parameters that it has reached."""
        return dict(self._ask("parameters"))

    def drop(self) -> None:
        """Free what the last case took."""
        self._ask("drop")

    def large_product(self, dtype: str) -> float:
        """Return what `floor.large_product` does."""
        return float(self._ask("large_product", dtype))

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join(5)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join()

    def _ask(self, verb: str, *arguments: Any) -> Any:
        try:
            self._pipe.send((verb, arguments))
            outcome, value = self._pipe.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self._process.join(5)
            raise Absent(f"its process ended with status {self._process.exitcode}") from None
        if outcome == "absent":
            raise Absent(value)
        return value


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C back, here and in a process that is started; that goes on so until it says otherwise."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def serve(pipe: Connection, name: str) -> None:
    """Answer until the other end is closed, or Ctrl-C, which the parent gets, too."""
    with suppress(KeyboardInterrupt):
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        _serve(pipe, name)


def _serve(pipe: Connection, name: str) -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    # JAX would take three quarters of a GPU's memory for itself, in each of two processes.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    contestant: Contestant | None = None
    warm: set[tuple[str, str]] = set()
    # Those are of an answer that nobody waits for any more: after Ctrl-C, above all.
    with suppress(BrokenPipeError, ConnectionResetError):
        while True:
            try:
                verb, arguments = pipe.recv()
            except EOFError:
                return
            try:
                if verb == "warm":
                    _warm_up(name, warm, *arguments)
                    pipe.send(("done", None))
                elif verb == "build":
                    contestant = None
                    contestant, built = _build(name, warm, *arguments)
                    pipe.send(("done", tuple(built)))
                elif verb == "drop":
                    contestant = None
                    memory.resident()
                    pipe.send(("done", None))
                elif verb == "large_product":
                    from nnx.bench.floor import large_product

                    pipe.send(("done", large_product(*arguments)))
                elif verb == "outside" and contestant is not None and contestant.outside is None:
                    pipe.send(("done", None))
                else:
                    assert contestant is not None
                    pipe.send(("done", getattr(contestant, verb)(*arguments)))
            except (Absent, Error) as error:
                contestant = None
                pipe.send(("absent", str(error)))
            except Exception as error:  # whatever a library raises where it cannot run
                contestant = None
                pipe.send(("absent", f"{type(error).__name__}: {first_line(error)}"))


def _warm_up(name: str, warm: set[tuple[str, str]], case: Case) -> None:
    """Import the library and start its compilers before a measurement, once for each optimizer and dtype."""
    if (case.optimizer, case.dtype) in warm:
        return
    # Of another form than the case's: to compile that is part of what is measured.
    hidden = (2, 2) if len(case.sizes) == 3 else (2,)
    tiny = replace(case, sizes=(3, *hidden, case.sizes[-1]), m=2, steps=2, members=case.members and 2)
    made = make(name, tiny, tiny.data())
    made.seconds(1)
    del made
    warm.add((case.optimizer, case.dtype))


def _build(name: str, warm: set[tuple[str, str]], case: Case) -> tuple[Contestant, Built]:
    _warm_up(name, warm, case)
    data = case.data()
    before = memory.resident()
    start = time.perf_counter()
    made = make(name, case, data)
    made.seconds(1)
    first = time.perf_counter() - start
    memory.resident()  # gives back what the compiler took
    if made.peak is not None:
        made.peak()
    epoch = 0.0

    def second() -> None:
        nonlocal epoch
        epoch = made.seconds(1)

    highest = memory.peak(second)
    peak = None if highest is None or before is None or made.has_workers else max(0, highest - before)
    if made.peak is not None:
        peak = max(0, made.peak() - data.X.nbytes)
    told = made.library, made.device, made.detail, made.precision or case.dtype
    return made, Built(first, epoch, peak, *told, machine.blas())
