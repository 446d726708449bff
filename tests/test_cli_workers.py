"""Sweeps whose runs are trained by several processes."""

import csv
import io
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from thread_ranks import Second

import nnx
from nnx.cli import sweep_workers
from nnx.cli.options import Options
from nnx.cli.stacks import Run
from nnx.port import communicators, failures
from nnx.support import parallel
from nnx.support.parallel import Result, done

SWEEP = "--sweep", "layers=8 4", "--sweep", "learning-rate=0.001 0.01 0.1", "--backend", "numpy"


def started(folder, *options, data="iris", epochs=4):
    """`nnx train --sweep` in a group of processes of its own."""
    words = sys.executable, "-m", "nnx", "train", data, *SWEEP, "--epochs", epochs, "--out", folder, *options
    return subprocess.Popen(
        [*map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def ended(process, status=0, seconds=240):
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        pytest.fail(f"the sweep hangs: {process.communicate()[0]}")
    assert process.returncode == status, output
    return output


def table(folder):
    """The results, without the times."""
    with (folder / "results.csv").open(encoding="utf-8") as file:
        rows = [{name: x for name, x in row.items() if name != "seconds"} for row in csv.DictReader(file)]
    return sorted(rows, key=lambda row: row["run"])


def same(found, expected):
    assert [row.keys() for row in found] == [row.keys() for row in expected]
    for row, other in zip(found, expected, strict=True):
        for name, x in row.items():
            try:
                assert float(x) == pytest.approx(float(other[name]), rel=1e-3, abs=1e-6)
            except ValueError:
                assert x == other[name]


@pytest.fixture(scope="module")
def sequential(tmp_path_factory):
    """The tables of one process, by the number of epochs."""
    made = {}

    def of(data, epochs):
        if (data, epochs) not in made:
            folder = tmp_path_factory.mktemp("sequential") / "sweep"
            ended(started(folder, data=data, epochs=epochs))
            made[data, epochs] = table(folder)
        return made[data, epochs]

    return of


@pytest.mark.long
def test_the_table_is_that_of_one_process(tmp_path, sequential):
    output = ended(started(tmp_path / "sweep", "--jobs", 2))
    assert output.count("Best ") == 1
    assert len(re.findall(r"^\d +layers=", output, re.MULTILINE)) == 6  # a line for each run
    same(table(tmp_path / "sweep"), sequential("iris", 4))
    assert all((tmp_path / "sweep" / str(k) / "model.safetensors").is_file() for k in range(1, 7))


def workers(pid):
    """The processes of loky below a process."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    named = {int(child): Path(f"/proc/{child}/cmdline").read_bytes() for child in children}
    return [child for child, command in named.items() if b"popen_loky" in command]


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="it looks for processes as Linux has them")
def test_a_worker_that_is_killed_costs_no_run(tmp_path, sequential):
    process = started(tmp_path / "sweep", "--jobs", 2, data="digits", epochs=120)
    begun = tmp_path / "sweep" / "1" / "config.toml"
    while not begun.exists():
        time.sleep(0.02)
    os.kill(workers(process.pid)[0], signal.SIGKILL)
    ended(process)
    same(table(tmp_path / "sweep"), sequential("digits", 120))


@pytest.mark.long
def test_ctrl_c_ends_the_workers_and_the_sweep_goes_on(tmp_path, sequential):
    process = started(tmp_path / "sweep", "--jobs", 2, data="digits", epochs=120)
    while not (tmp_path / "sweep" / "1" / "config.toml").exists():
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    start = time.monotonic()
    output = ended(process, 130)
    assert time.monotonic() - start < 20
    assert "Stopped by Ctrl-C with" in output
    words = sys.executable, "-m", "nnx", "train", "--resume", str(tmp_path / "sweep"), "--jobs", "2"
    subprocess.run(words, check=True, capture_output=True, timeout=240)
    same(table(tmp_path / "sweep"), sequential("digits", 120))


CLUSTER = """if True:
    import sys
    from distributed import LocalCluster
    if __name__ == "__main__":
        with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
            print(cluster.scheduler_address, *(it.process.pid for it in cluster.workers.values()), flush=True)
            sys.stdin.read()
"""


@pytest.fixture
def dask(tmp_path):
    """A scheduler of Dask: its process, its address, and the processes of its two workers."""
    (tmp_path / "cluster.py").write_text(CLUSTER)
    words = [sys.executable, tmp_path / "cluster.py"]
    cluster = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    address, *pids = cluster.stdout.readline().split()
    yield cluster, address, [*map(int, pids)]
    cluster.communicate(timeout=60)


def begun(folder, *options, **more):
    """A sweep that trains its first run."""
    process = started(folder, *options, **more)
    while not (folder / "1" / "config.toml").exists():
        time.sleep(0.02)
        assert process.poll() is None
    time.sleep(1)
    return process


def killed(pid):
    """Kill a process, and wait until it has ended."""
    os.kill(pid, signal.SIGKILL)
    end = time.monotonic() + 10
    with suppress(ProcessLookupError):
        while True:
            os.kill(pid, 0)
            assert time.monotonic() < end
            time.sleep(0.01)


@pytest.mark.long
@pytest.mark.needs("distributed")
def test_on_dask_also_where_a_worker_is_killed(tmp_path, sequential, dask):
    _, address, pids = dask
    process = begun(tmp_path / "sweep", "--scheduler", address, data="digits", epochs=120)
    killed(pids[0])
    assert process.poll() is None  # the sweep has not ended before
    ended(process)
    same(table(tmp_path / "sweep"), sequential("digits", 120))


@pytest.mark.long
@pytest.mark.needs("distributed")
def test_a_scheduler_of_dask_that_ends_ends_the_sweep(tmp_path, dask):
    cluster, address, _ = dask
    endless = "--no-early-stopping", "--scheduler", address
    process = begun(tmp_path / "sweep", *endless, data="digits", epochs=100_000)
    cluster.kill()
    output = ended(process, 1, seconds=60)
    said = f"has ended, or cannot be reached any more. Go on with nnx train --resume {tmp_path / 'sweep'}"
    assert output.count(said) == output.count("\nError: ") == 1, output
    assert "Traceback" not in output
    assert (tmp_path / "sweep" / "config.toml").exists()


@pytest.mark.long
@pytest.mark.needs("distributed")
def test_ctrl_c_waits_for_the_runs_on_dask_and_the_second_one_does_not(tmp_path, dask):
    endless = "--no-early-stopping", "--scheduler", dask[1]
    process = begun(tmp_path / "sweep", *endless, data="digits", epochs=100_000)
    process.send_signal(signal.SIGINT)
    while not re.search(r"Ctrl-C: waits for \d runs? under way", line := process.stdout.readline()):
        assert line, "the sweep has ended"
    process.send_signal(signal.SIGINT)
    output = ended(process, 130, seconds=60)
    assert f"Go on     nnx train --resume {tmp_path / 'sweep'}" in output
    assert "Traceback" not in output


@pytest.mark.long
@pytest.mark.needs("ray")
def test_on_ray(tmp_path, sequential):
    ended(started(tmp_path / "sweep", "--scheduler", "ray", "--jobs", 2))
    same(table(tmp_path / "sweep"), sequential("iris", 4))


def test_no_jobs(run):
    status, _, errors = run("train", "iris", *SWEEP, "--jobs", 0)
    assert status == 2
    assert "jobs must be a positive integer, not 0" in errors


@pytest.mark.long
@pytest.mark.needs("distributed")
def test_no_scheduler(tmp_path):
    output = ended(started(tmp_path / "sweep", "--scheduler", "tcp://127.0.0.1:9", "--jobs", "2"), 1)
    assert "no scheduler of Dask answers at" in output
    assert "Traceback" not in output


def test_workers_are_of_a_sweep(run):
    for option, value in (("--jobs", "2"), ("--scheduler", "tcp://127.0.0.1:9")):
        status, _, errors = run("train", "iris", option, value)
        assert status == 2
        assert f"{option} is of a sweep, whose runs it shares out" in errors


@pytest.mark.parametrize("all_fail", [True, False])
def test_a_fault_on_several_ranks(run, monkeypatch, all_fail):
    """The second rank says nothing, unless it fails alone."""
    monkeypatch.setattr(communicators, "_made", {"mpi": Second(all_fail)})
    monkeypatch.setattr(failures, "_say", [*failures._say])
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, getattr(sys, name))  # which the command replaces
    errors = io.StringIO()
    monkeypatch.setattr("sys.__stderr__", errors)
    assert run("train", "nowhere.csv", "--communicator", "mpi") == (1, "", "")
    sys.stdout.close()
    expected = r"Error: rank 1 of 2 failed, and ends all: .*there is no file.*\n"
    assert re.fullmatch("" if all_fail else expected, errors.getvalue())


# ------------------------------------------------------------------------------------------------ the tasks themselves


def task(number, folder):
    """A task that dies once, one that always does, and one that fails."""
    if number == 3 and not Path(folder, "3").exists():
        Path(folder, "3").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 6:
        raise ValueError("its own")
    return number**2


def checked(results):
    found = {result.task: result.value if result.error is None else result.error for result in results}
    assert {k: x for k, x in found.items() if k not in (5, 6)} == {
        k: k**2 for k in range(8) if k not in (5, 6)
    }
    assert isinstance(found[5], nnx.BackendError)
    assert "no worker does it, 4 have tried: " in str(found[5])
    assert repr(found[6]) == "ValueError('its own')"


@pytest.mark.long
def test_tasks_whose_workers_die(tmp_path):
    checked(done(task, [(k, tmp_path) for k in range(8)], jobs=2))


@pytest.mark.long
@pytest.mark.needs("ray")
@pytest.mark.filterwarnings("ignore:os.fork", "ignore::pytest.PytestUnraisableExceptionWarning")  # Ray forks
def test_tasks_on_ray_whose_workers_die(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))  # so that its workers find the task
    checked(done(task, [(k, tmp_path) for k in range(8)], jobs=2, scheduler="ray"))


def test_a_library_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(
        nnx.InputError, match=r"distributed cannot be imported .*pip install \"dask\[distributed\]\""
    ):
        next(done(task, [(1, "")], scheduler="tcp://127.0.0.1:9"))


def test_no_more_workers_than_tasks(monkeypatch):
    asked = []

    def executor(max_workers, env):
        asked.append(max_workers)
        return ThreadPool(1)

    class ThreadPool(ThreadPoolExecutor):
        def shutdown(self, kill_workers=False):
            super().shutdown()

    monkeypatch.setattr(parallel, "_library", lambda *_: SimpleNamespace(get_reusable_executor=executor))
    assert sorted(result.value for result in done(len, [("a",), ("bc",)], jobs=100)) == [1, 2]
    assert {*asked} == {2}
    assert not [*done(len, [], jobs=100)]


@pytest.mark.parametrize("address", ["", "foo", "http://localhost:80", "127.0.0.1"])
def test_an_address_of_no_scheduler(monkeypatch, address):
    monkeypatch.setattr(parallel, "_library", lambda *_: None)  # it is not asked
    with pytest.raises(nnx.InputError, match="is no address of a scheduler of Dask; give the address that"):
        next(done(len, [("a",)], scheduler=address))


def test_a_scheduler_that_ends(monkeypatch):
    """Its client's tasks never end."""
    looks = []

    def check():
        looks.append(0)
        if len(looks) > 2:
            raise parallel.SchedulerError("it has ended")

    monkeypatch.setattr(
        parallel, "_dask", lambda *_: nullcontext(parallel.Workers(lambda *_: Future(), 1, 1, check))
    )
    monkeypatch.setattr(parallel, "POLL", 0.01)
    with pytest.raises(parallel.SchedulerError):
        next(done(len, [("a",)], scheduler="tcp://127.0.0.1:8786"))


def test_a_scheduler_that_ends_cancels_its_tasks(monkeypatch):
    """They are no tasks whose workers died."""

    def cancelled(*_):
        future = Future()
        future.cancel()
        future.set_running_or_notify_cancel()
        looks.append(0)
        return future

    def check():
        if looks:
            raise parallel.SchedulerError("it has ended")

    looks = []
    monkeypatch.setattr(parallel, "_dask", lambda *_: nullcontext(parallel.Workers(cancelled, 1, 1, check)))
    with pytest.raises(parallel.SchedulerError):
        next(done(len, [("a",)], scheduler="tcp://127.0.0.1:8786"))


def test_the_first_ctrl_c_says_for_what_it_waits(monkeypatch, capsys):
    asked = []

    def fake(work, given, jobs, scheduler, goes_on):
        asked.append(goes_on([1]))
        signal.raise_signal(signal.SIGINT)
        asked.extend(goes_on([1]) for _ in range(2))
        yield Result(1, ["a row"], None)

    monkeypatch.setattr(sweep_workers, "done", fake)
    tasks = [[1], [2, 3]]
    found = sweep_workers.results(None, tasks, Path(), 2, None)
    assert next(found) == ([2, 3], ["a row"])
    with pytest.raises(KeyboardInterrupt):
        next(found)
    assert asked == [True, False, False]
    assert capsys.readouterr().err == "Ctrl-C: waits for 2 runs under way; Ctrl-C again does not.\n"


@pytest.mark.parametrize("scheduler", [None, "tcp://127.0.0.1:8786"])
def test_workers_of_another_folder_find_the_files(monkeypatch, tmp_path, scheduler):
    """The processes of this machine have its folder."""
    handed = []

    def fake(work, given, jobs, scheduler, goes_on):
        handed.extend(given)
        yield from (Result(k, [], None) for k in range(len(given)))

    monkeypatch.setattr(sweep_workers, "done", fake)
    monkeypatch.chdir(tmp_path)
    for name in ("data.csv", "test.csv"):
        Path(name).touch()
    runs = [
        Run("1", {}, Options("data.csv", test="test.csv", validation="0.2")),
        Run("2", {}, Options("iris")),
    ]
    assert len([*sweep_workers.results(None, [runs], Path("sweep"), 2, scheduler)]) == 1
    ((_, (first, second), folder),) = handed
    where = "" if scheduler is None else f"{tmp_path}/"
    its = first.options
    assert (its.data, its.test, its.validation) == (f"{where}data.csv", f"{where}test.csv", "0.2")
    assert second.options.data == "iris"
    assert folder == tmp_path / "sweep"
