"""Forks, the end of the program and Ctrl-C while other threads compute: each script runs in a process of its own."""

import importlib.util
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
from conftest import long_but_for

import nnx
from nnx.backends.numba import compiled
from nnx.batches.prefetch import prefetch
from nnx.io import private_folder
from nnx.support import processes

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks on Windows")

BEGIN = """
import os, sys, threading, time
import numpy as np, nnx

rng = np.random.default_rng(0)
X, Y = rng.standard_normal((64, 2048)).astype("float32"), rng.integers(0, 10, 2048)

def new():
    network = nnx.mlp([64, 64, 10], output="softmax")
    return nnx.Trainer(network, nnx.Adam(0.001), backend=BACKEND, device="cpu")

def fitted(trainer, epochs=1):
    trainer.fit(X, Y, epochs=epochs, batch_size=512)
    return trainer.theta
"""
FORK = """
expected = fitted(new())
ends, trainer = threading.Event(), new()

def work():
    while not ends.is_set():
        fitted(trainer, 5)

thread = threading.Thread(target=work)
thread.start()
time.sleep(0.2)
for turn in range(4):
    time.sleep(0.007 * turn)
    child = os.fork()
    if child == 0:
        try:
            if turn % 2:
                assert trainer.predict(X).shape == (10, 2048)  # of which the thread has had all locks
            np.testing.assert_allclose(fitted(new()), expected, atol=1e-5)
            os._exit(0)
        except nnx.errors.BackendError as error:
            print(error, flush=True)
            os._exit(1)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
ends.set()
thread.join()
"""


def begun(code, backend="numpy", **environment):
    """Start a script in a process of its own."""
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    text = f"BACKEND = {backend!r}\n" + BEGIN + textwrap.dedent(code)
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2", **environment}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-W", "ignore", "-c", text], env=environment, **pipes)


def ended(process, seconds=100):
    """Wait for its end; return what it printed and said, and its exit status."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        pytest.fail(f"it hangs, after {out!r} and {err!r}")
    return out.split("\n"), err, process.returncode


@pytest.mark.long
@forks
@pytest.mark.parametrize("library", ["numpy", "torch", pytest.param("numba", marks=pytest.mark.long)])
def test_a_fork_in_the_middle_of_a_fit_in_a_thread(library):
    out, err, status = ended(begun(FORK, library))
    assert (out, status) == (["0", "0", "0", "0", ""], 0), err


@pytest.mark.long
@forks
@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("seconds", [pytest.param(0.0, marks=pytest.mark.long), 0.05])
def test_a_fork_while_a_thread_imports_the_backend(library, seconds):
    """A module's lock that another thread holds is never released in the child."""
    code = f"""
    thread = threading.Thread(target=new)
    thread.start()
    time.sleep({seconds})
    child = os.fork()
    if child == 0:
        threading.Timer(50, os._exit, [9]).start()
        fitted(new())
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    thread.join()
    """
    out, err, status = ended(begun(code, library))
    assert (out, status) == (["0", ""], 0), err


@forks
def test_jax_in_a_fork_is_an_error_that_says_what_to_do():
    code = """
    new()
    child = os.fork()
    if child == 0:
        try:
            new()
        except nnx.errors.BackendError as error:
            print(error, flush=True)
        os._exit(0)
    os.waitpid(child, 0)
    """
    out, err, status = ended(begun(code, "jax"))
    assert status == 0, err
    assert "JAX was used before this process was forked" in out[0]
    assert "spawn" in out[0]


@forks
def test_a_pool_of_forked_processes_after_a_fit():
    """PyTorch waited there for threads of the parent's."""
    code = """
    from multiprocessing import get_context

    def other(seed):
        return fitted(new())

    expected = fitted(new())
    with get_context("fork").Pool(2) as pool:
        for found in pool.map(other, range(4)):
            np.testing.assert_allclose(found, expected, atol=1e-5)
    """
    _, err, status = ended(begun(code, "torch"))
    assert status == 0, err


END = """
threading.Thread(target=lambda: fitted(trainer, 10**6), daemon={daemon}).start()
print("begun", flush=True)
time.sleep({seconds})
"""


@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
def test_a_program_ends_while_a_thread_fits(library):
    """A thread that comes back from C++ then aborted the process."""
    code = "trainer = new()\nfitted(trainer)\n" + END.format(daemon=True, seconds=0.3)
    _, err, status = ended(begun(code, library))
    assert (status, err) == (0, "")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT")
@pytest.mark.parametrize("daemon", [True, False])
def test_an_interrupt_while_a_thread_fits(daemon):
    process = begun("trainer = new()\nfitted(trainer)\n" + END.format(daemon=daemon, seconds=60), "torch")
    assert process.stdout.readline() == "begun\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    if not daemon:  # Python waits for such a thread until the second one
        time.sleep(1)
        process.send_signal(signal.SIGINT)
    _, err, status = ended(process)
    assert "KeyboardInterrupt" in err
    assert "terminate" not in err
    assert status == -signal.SIGINT


@pytest.mark.long
def test_the_end_of_the_program_lets_others_wait_for_the_thread():
    """It ends by SystemExit, so whoever joins it does not hang."""
    code = """
    import atexit

    @atexit.register
    def join():
        thread.join()
        print("joined", flush=True)

    trainer = new()
    fitted(trainer)
    thread = threading.Thread(target=lambda: fitted(trainer, 10**6), daemon=True)
    thread.start()
    time.sleep(0.2)
    """
    out, err, status = ended(begun(code))
    assert (out, err, status) == (["joined", ""], "", 0)


@forks
def test_a_fork_waits_for_a_thread_that_compiles_and_keeps_no_lock(tmp_path):
    code = """
    from nnx.backends.numba import compiled

    SLOW = "import time\\ntime.sleep(1)\\nstep = 1"
    thread = threading.Thread(target=compiled._module, args=("step", SLOW))
    thread.start()
    time.sleep(0.3)
    child = os.fork()
    if child == 0:
        compiled._module("step", "step = 2")
        print("compiled", flush=True)
        time.sleep(100)  # with whatever it has inherited
        os._exit(0)
    thread.join()
    print(child, flush=True)
    """
    process = begun(code, NNX_CACHE_DIR=str(tmp_path / "cache"))
    lines = {process.stdout.readline().strip() for _ in range(2)}
    assert "compiled" in lines
    (child,) = lines - {"compiled"}
    try:
        seen = []
        locked = threading.Thread(target=lambda: seen.append(lock(tmp_path / "cache")), daemon=True)
        locked.start()
        locked.join(20)
        assert seen == ["locked"]
    finally:
        os.kill(int(child), signal.SIGKILL)
        ended(process)


def lock(folder):
    with private_folder.file_lock(folder / "compiling.lock"):
        return "locked"


def test_calls_may_be_nested_and_locks_are_the_threads_own():
    inside, seen = threading.Event(), []

    def other():
        with processes.uncut():
            seen.append("other")
            inside.set()

    with processes.uncut(), processes.uncut():
        thread = threading.Thread(target=other)
        thread.start()
        assert inside.wait(20)
        thread.join()
    assert seen == ["other"]


def test_a_call_within_a_call_goes_on_while_a_fork_waits():
    begun, calls, waited = threading.Event(), threading.Event(), []

    def work():
        with processes.uncut():
            begun.set()
            calls.wait(20)
            time.sleep(0.1)  # the fork waits now
            with processes.uncut():
                waited.append(processes._closed is not None)

    thread = threading.Thread(target=work)
    thread.start()
    begun.wait(20)
    calls.set()
    processes._before_fork()
    processes._after_in_parent()
    thread.join(20)
    assert waited == [True]


def test_long_calls_give_way_to_a_fork():
    turns = []

    def work():
        with processes.uncut():
            while len(turns) < 1:
                processes.give_way()

    thread = threading.Thread(target=work)
    thread.start()
    processes._before_fork()
    turns.append(1)  # it waits meanwhile
    processes._after_in_parent()
    thread.join(20)
    assert not thread.is_alive()


def test_reading_ahead_is_an_error_in_a_fork(monkeypatch):
    pieces = prefetch(iter_of(5))
    assert next(pieces) == 0
    made = processes.generation()
    monkeypatch.setattr("nnx.batches.prefetch.generation", lambda: made + 1)
    with pytest.raises(nnx.errors.BackendError, match="forked in the middle of a fit"):
        next(pieces)


def iter_of(count):
    yield from range(count)


def test_what_cannot_have_a_thread_reads_in_its_own(monkeypatch, caplog):
    def refused(thread):
        raise RuntimeError("can't start new thread")

    X, Y = np.random.default_rng(0).standard_normal((3, 40)).astype("float32"), np.arange(40) % 2
    parts = [(X[:, i : i + 10], Y[i : i + 10]) for i in range(0, 40, 10)]
    found = []
    for start in (threading.Thread.start, refused):
        trainer = nnx.Trainer(nnx.mlp([3, 4, 1]), backend="numpy", seed=1)
        with monkeypatch.context() as patch, caplog.at_level(logging.WARNING, "nnx"):
            patch.setattr(threading.Thread, "start", start)
            trainer.fit(lambda: iter(parts), epochs=2)
        found.append(trainer.theta)
    np.testing.assert_array_equal(*found)
    assert "not read ahead: can't start new thread" in caplog.text


def test_the_command_line_says_what_to_do_about_threads(capsys):
    pytest.importorskip("typer")
    from nnx.__main__ import said

    said(RuntimeError("can't start new thread"))
    told = capsys.readouterr().err
    assert "starts no more threads" in told
    assert "nnx failed" not in told


@pytest.mark.parametrize("kept", long_but_for([1, 2], 2))
def test_old_forms_are_forgotten_and_what_is_in_use_is_not(kept, tmp_path, monkeypatch):
    monkeypatch.setenv("NNX_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(compiled, "_modules", {})
    monkeypatch.setattr(compiled, "shared", lambda: sys.modules["math"])
    monkeypatch.setattr(compiled, "IDLE_STEPS", kept)
    monkeypatch.setattr(compiled, "_used", type(compiled._used)())
    held = compiled.compiled("step = lambda: 'held'")
    for number in range(5):
        assert compiled.compiled(f"step = lambda: {number}").function() == number
        modules = {module.__name__ for module in compiled._modules.values()}
    assert len(modules) == kept + 2  # the one in use, and the last, which had just been asked for
    assert {name for name in sys.modules if name.startswith("nnx_step_")} >= modules
    assert held.function() == "held"
    assert compiled.compiled("step = lambda: 'held'") is held
    assert compiled.compiled("step = lambda: 0").function() == 0


def test_metrics_that_were_asked_for_long_ago_are_forgotten():
    X, Y = np.random.default_rng(0).standard_normal((3, 40)).astype("float32"), np.arange(40) % 2
    trainer = nnx.Trainer(nnx.mlp([3, 4, 1]), backend="numpy")
    names = ("accuracy", "precision", "recall", "f1")
    wanted = [[a] if a == b else [a, b] for a in names for b in names]
    first = trainer.evaluate(X, Y, metrics=wanted[0])
    for one in wanted:
        trainer.evaluate(X, Y, metrics=one)
    assert len(trainer.session.compiled_metrics) <= 8
    assert trainer.evaluate(X, Y, metrics=wanted[0]) == first


def test_jax_forgets_shapes(monkeypatch):
    pytest.importorskip("jax")
    from nnx.backends.jax import program

    backend, cleared = nnx.backend("jax", "cpu"), []
    monkeypatch.setattr(program, "COMPILED_SHAPES", 3)
    forget = program.forget_shapes
    monkeypatch.setattr(program, "forget_shapes", lambda f: (forget(f), cleared.append(f._cache_size())))
    double = backend.compile(lambda x: x + x)
    for n in (*range(1, 8), 1, 2):
        np.testing.assert_array_equal(backend.to_numpy(double(backend.asarray(np.ones(n), "float32"))), 2)
    assert max(cleared) < 3
