"""Tasks done by workers: processes of this machine, or those of Dask or Ray. A worker that dies costs no result."""

import os
import re
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NamedTuple, TypeAlias

from nnx.errors import BackendError, InputError, first_line
from nnx.support.install import install
from nnx.support.limits import cores
from nnx.support.rank_threads import THREADS
from nnx.support.starting import ctrl_c_kept

ATTEMPTS = 2
"""How often a task is begun beside others, and then by itself, where its worker dies."""

SECONDS = 10
"""In which a scheduler must answer."""

ATTEMPTS_ON_DASK = 1
"""Dask itself begins a task four times, on other workers."""

ADDRESS_OF_DASK = r"((tcp|tls|ws|wss|ucx)://)?[^\s/]+:\d+/?"

POLL = 0.5
"""Seconds from one look at the scheduler to the next."""

Submit: TypeAlias = Callable[..., "Future[Any]"]
"""submit(function, *arguments): begins a call in a worker."""


class SchedulerError(BackendError):
    """The scheduler has ended, or cannot be reached any more. The tasks that were under way may have been done."""


class Workers(NamedTuple):
    """Workers: how a call begins, how many there may be at once, and how often each is begun (`ATTEMPTS`).

    `check` raises a SchedulerError once there are none any more.
    """

    submit: Submit
    most: int
    attempts: int
    check: Callable[[], None] = lambda: None


class Result(NamedTuple):
    """The result of a task, by its number: a value, or the error that it raised."""

    task: int
    value: Any
    error: Exception | None


def done(
    function: Callable[..., Any],
    tasks: Sequence[tuple[Any, ...]],
    jobs: int | None = None,
    scheduler: str | None = None,
    goes_on: Callable[[Collection[int]], bool] = lambda running: True,
) -> Iterator[Result]:
    """Yield the result of function(*task) for each task, as they come.

    Parameters
    ----------
    function : function of a module
        The workers import it. It must bear to be begun again.
    tasks : sequence of tuples
        What pickle takes.
    jobs : int or None
        Tasks at once; None: as many as there are cores, or workers of the scheduler.
    scheduler : str or None
        Of Dask, "tcp://host:8786", or of Ray, "ray://host:10001" (or "ray", a new one). None: this machine's processes.
    goes_on : function
        Whether more tasks are to be begun; it is handed the numbers of those that are under way, which come to their
        ends. It is asked every `POLL` seconds or more often.

    Raises
    ------
    InputError
        When a library is missing, or the scheduler does not answer.
    SchedulerError
        When it answers no more.
    """
    if not tasks:
        return
    beside, alone = deque(range(len(tasks))), deque[int]()
    deaths: Counter[int] = Counter()
    running: dict[Future[Any], int] = {}
    kind = _processes if scheduler is None else _ray if scheduler.partition(":")[0] == "ray" else _dask
    with kind(jobs, scheduler or "", len(tasks)) as (submit, most, attempts, check):
        while running or ((beside or alone) and goes_on([])):
            check()
            while goes_on(running.values()) and len(running) < most and (beside or (alone and not running)):
                number = (beside or alone).popleft()
                running[submit(_result, function, number, tasks[number])] = number
                if deaths[number] >= attempts:
                    break  # none beside it: so none of the others is the cause, if its worker dies again
            for future in wait(running, POLL, FIRST_COMPLETED).done:
                number = running.pop(future)
                try:
                    yield future.result()
                except Exception as error:  # the worker has died, or another one, which ends all of loky's
                    check()  # a scheduler that ends cancels all tasks, which is no death
                    deaths[number] += 1
                    if deaths[number] < 2 * attempts:
                        (beside if deaths[number] < attempts else alone).append(number)
                    else:
                        why = getattr(error, "cause", None) or error  # Ray's errors have one
                        said = f"no worker does it, {2 * attempts} have tried: {type(why).__name__}: {first_line(why)}"
                        yield Result(number, None, BackendError(said))


def _result(function: Callable[..., Any], number: int, task: tuple[Any, ...]) -> Result:
    """Do a task in a worker. Its own error is a value: others are of the worker."""
    try:
        return Result(number, function(*task), None)
    except Exception as error:
        return Result(number, None, error)


@contextmanager
def _processes(jobs: int | None, _: str, tasks: int) -> Iterator[Workers]:
    loky, most = _library("joblib.externals.loky", install("sklearn")), min(jobs or cores(), tasks)
    threads = str(max(1, cores() // most))
    env = {name: os.environ.get(name, threads) for name in THREADS}

    def executor() -> Any:  # another one, once a worker has died
        return loky.get_reusable_executor(max_workers=most, env=env)

    try:
        yield Workers(lambda *call: executor().submit(*call), most, ATTEMPTS)
    finally:
        executor().shutdown(kill_workers=True)


@contextmanager
def _dask(jobs: int | None, scheduler: str, _: int) -> Iterator[Workers]:
    distributed = _library("distributed", 'python -m pip install "dask[distributed]"')
    known = "give the address that `dask scheduler` prints, such as tcp://127.0.0.1:8786"
    if not re.fullmatch(ADDRESS_OF_DASK, scheduler):  # which its client would find, and then wait for
        raise InputError(f"{scheduler!r} is no address of a scheduler of Dask; {known}")
    try:
        client = distributed.Client(scheduler, timeout=SECONDS, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"no scheduler of Dask answers at {scheduler!r} ({first_line(error)}); {known}"
        ) from error

    def check() -> None:
        if client.status in ("closing", "closed"):  # it has tried for some seconds
            raise SchedulerError(
                f"the scheduler of Dask at {scheduler} has ended, or cannot be reached any more"
            )

    with client:
        executor = client.get_executor(pure=False)
        try:
            most = jobs or max(1, sum(client.ncores().values()))
            yield Workers(executor.submit, most, ATTEMPTS_ON_DASK, check)
        finally:
            if client.status == "running":
                executor.shutdown(wait=False)  # what a second Ctrl-C leaves under way is not waited for


@contextmanager
def _ray(jobs: int | None, scheduler: str, _: int) -> Iterator[Workers]:
    ray = _library("ray", "python -m pip install ray")
    ours = not ray.is_initialized()
    try:
        if ours:
            ray.init(**({} if scheduler == "ray" else {"address": scheduler}), logging_level="ERROR")
    except Exception as error:  # Ray's own
        raise InputError(
            f"no cluster of Ray answers at {scheduler!r} ({first_line(error)}); give its address, ray://host:10001"
        ) from error
    call = ray.remote(max_retries=0)(lambda function, *arguments: function(*arguments))

    def check() -> None:
        if not ray.is_initialized():
            raise SchedulerError(
                f"the cluster of Ray at {scheduler} has ended, or cannot be reached any more"
            )

    try:
        most = jobs or max(1, int(ray.cluster_resources().get("CPU", 1)))
        yield Workers(lambda *given: call.remote(*given).future(), most, ATTEMPTS, check)
    finally:
        if ours:
            ray.shutdown()


def _library(name: str, how: str) -> Any:
    try:
        with ctrl_c_kept():
            return import_module(name)
    except ImportError as error:
        raise InputError(f"{name} cannot be imported ({first_line(error)}); install it: {how}") from error
