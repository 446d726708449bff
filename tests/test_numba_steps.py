"""The steps that numba compiles: what several threads do at once is what one step after the other does."""

import os
import sys
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import partial

import numpy as np
import pytest
from program_cases import NETWORKS, made, one_by_one

import nnx
from nnx.array.namespace import array_namespace
from nnx.train.step import initial_state, training_step


def steps(backend, step):
    """A function of a state that does steps on end, compiled."""
    program = backend.compile(step)

    def done(state, data, order, at, m, count):
        program.load(state)
        assert program.compiled(data, m) is not None
        Js = program.run(data, order, at, m, count)
        return program.read(), Js

    return done


@pytest.fixture
def numba():
    pytest.importorskip("numba")
    return nnx.backend("numba")


def test_all_of_these_are_compiled(numba):
    """None of them falls back to NumPy's replay, which would give the same numbers."""
    for name in NETWORKS:
        step, state, data = made(name, numba)
        program = numba.compile(step)
        program.load(state)
        assert program.compiled(data, 10) is not None


def test_threads_share_the_work(numba, monkeypatch):
    step, state, data = made("norms", numba, "float64", weights=True)
    done = steps(numba, step)
    alone, Js = done(state, data, None, 0, 10, 5)
    seen = []

    def together(function, work, *arguments, T):
        sync = np.zeros(16, np.int64)
        with ThreadPoolExecutor(4) as pool:
            others = [pool.submit(function, t, T, sync, *arguments) for t in range(1, T)]
            function(0, T, sync, *arguments)
            seen.append([other.result(timeout=60) for other in others])

    for T in (2, 3):
        monkeypatch.setattr("nnx.backends.numba.program.run_in_threads", partial(together, T=T))
        for _ in range(20):
            found, costs = done(state, data, None, 0, 10, 5)
            np.testing.assert_allclose(costs, Js, rtol=1e-12)
            for key, x in alone.items():
                np.testing.assert_allclose(found[key], x, rtol=1e-9, atol=1e-12, err_msg=key)
    assert [len(one) for one in seen] == [1] * 20 + [2] * 20


def test_what_comes_between_compiled_steps_leaves_no_thread_spinning(numba, monkeypatch):
    """OpenBLAS's threads spin on after a product, and a validation between epochs made these many times as long."""
    from nnx.backends.numba import threads

    limits = []

    @contextmanager
    def limited():
        limits.append("one thread")
        yield

    monkeypatch.setattr(threads, "blas_threads", lambda: 2)
    monkeypatch.setattr(threads, "FEWER", limited)
    monkeypatch.setattr(threads, "SINGLE_THREAD_SECONDS", 0.0)
    monkeypatch.setattr(threads, "_last_call", -1e9)
    monkeypatch.setattr(threads, "SOON_SECONDS", 60.0)
    x = np.random.default_rng(0).standard_normal((30, 30))
    square = numba.compile(lambda x: x @ x)
    np.testing.assert_allclose(square(x), x @ x)
    assert not limits
    step, state, data = made("softmax", numba)
    steps(numba, step)(state, data, None, 0, 10, 5)
    assert len(limits) == 1
    np.testing.assert_allclose(square(x), x @ x)
    assert len(limits) == 2
    monkeypatch.setattr(
        "nnx.backends.numba.program.NO_SECOND_THREAD_SECONDS", 0.0
    )  # what takes long takes all threads
    numba.compile(lambda x: x @ x)(x)
    monkeypatch.setattr(threads, "SOON_SECONDS", 0.0)
    square(x)
    assert len(limits) == 2


@pytest.mark.needs("numba")
@pytest.mark.parametrize("layout", ["rows", "columns", "every other", "frozen", "not aligned"])
@pytest.mark.parametrize("shuffled", [False, True])
def test_layouts(numba, layout, shuffled):
    step, state, (X, Y, w) = made("softmax", numba, m=40)
    order = np.random.default_rng(3).permutation(40) if shuffled else None
    expected, _ = steps(numba, step)(state, (X, Y, w), order, 0, 10, 4)
    if layout == "columns":
        X = np.ascontiguousarray(X)
    elif layout == "every other":
        wide = np.zeros((12, 80), "float32")
        wide[::2, ::2] = X
        X = wide[::2, ::2]
    elif layout == "frozen":
        X = X.copy()
        X.flags.writeable = Y.flags.writeable = False
    elif layout == "not aligned":
        raw = np.zeros(X.nbytes + 1, np.uint8)
        odd = raw[1:].view("float32").reshape(40, 6).T
        odd[...] = X
        X = odd
    found, _ = steps(numba, step)(state, (X, Y, w), order, 0, 10, 4)
    for key, x in expected.items():
        np.testing.assert_allclose(found[key], x, rtol=1e-5, atol=1e-6, err_msg=key)


@pytest.mark.needs("numba")
@pytest.mark.parametrize("layout", ["rows", "columns"])
@pytest.mark.parametrize("m", [64, 256, 512])
def test_lines_of_whole_pages(numba, m, layout):
    """Where a line takes half a page or more, the compiled step's own matrices have longer ones."""
    layers = [
        nnx.Dense(256),
        nnx.BatchNorm(),
        nnx.Activate("tanh"),
        nnx.Dropout(0.2),
        nnx.Dense(256),
        nnx.Dense(8),
    ]
    network = nnx.Network(256, layers, "softmax")
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((2 * m, 256)).T, rng.integers(0, 8, 2 * m)
    step = training_step(network, nnx.Momentum(0.1))
    state = initial_state(network, nnx.Momentum(0.1), numba.asarray(network.init(0), "float64"), seed=1)
    expected, Js = one_by_one(step, state, (X, Y, None), None, 0, m, 2)
    X = np.ascontiguousarray(X) if layout == "columns" else X
    found, costs = steps(numba, step)(state, (X, Y, None), None, 0, m, 2)
    np.testing.assert_allclose(costs, Js, rtol=1e-10)
    np.testing.assert_allclose(found["theta"], expected["theta"], rtol=1e-9, atol=1e-12)


@pytest.mark.needs("numba")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("m", [33, 50, 100, 128, 400])
@pytest.mark.parametrize("T", [1, 2, 3])
def test_sums_in_parts_with_longer_lines(monkeypatch, T, m, dtype):
    """Square layers: each thread has a part of the sums of W A or W^T dZ, and m is no whole number of cache lines."""
    pytest.importorskip("numba", reason="numba is not installed")
    from nnx.backends.numba import threads

    monkeypatch.setattr(threads, "blas_threads", lambda: T)
    monkeypatch.setattr(threads, "SINGLE_THREAD_SECONDS", 0.0)
    network, optimizer = nnx.mlp([70, 192, 192, 5]), nnx.Momentum(0.1)
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((70, 2 * m)).astype(dtype), rng.integers(0, 5, 2 * m)
    backend = nnx.backend("numba")
    step = training_step(network, optimizer)
    state = initial_state(network, optimizer, backend.asarray(network.init(0), dtype))
    near = {"rtol": 1e-9, "atol": 1e-12} if dtype == "float64" else {"rtol": 1e-3, "atol": 1e-5}
    for order in (None, rng.permutation(2 * m)):
        expected, Js = one_by_one(step, state, (X, Y, None), order, 0, m, 2)
        found, costs = steps(backend, step)(state, (X, Y, None), order, 0, m, 2)
        np.testing.assert_allclose(costs, Js, **near)
        np.testing.assert_allclose(found["theta"], expected["theta"], **near)


def test_strides_that_blas_cannot_take(numba):
    """Windows that overlap, lines in reverse, one line many times: BLAS would read elsewhere, so they are copied."""
    step, state, (_, Y, w) = made("softmax", numba, m=40)
    rng = np.random.default_rng(5)
    A = rng.standard_normal((6, 40)).astype("float32")
    windows = np.lib.stride_tricks.sliding_window_view(rng.standard_normal(45).astype("float32"), 40)
    for X in (windows, A[::-1], A[:, ::-1], np.broadcast_to(A[0], (6, 40))):
        plain = np.ascontiguousarray(X)
        expected, Js = steps(numba, step)(state, (plain, Y, w), None, 0, 10, 4)
        found, costs = steps(numba, step)(state, (X, Y, w), None, 0, 10, 4)
        np.testing.assert_allclose(costs, Js, rtol=1e-5)
        np.testing.assert_allclose(found["theta"], expected["theta"], rtol=1e-4, atol=1e-6)


def test_what_is_read_late_is_not_written_over(numba):
    """In one loop, a new array of the state lies over the old one only if nobody reads that after it is written."""

    def swap(state, batch):
        xp = array_namespace(state["a"])
        gradient = xp.concat([state["a"] * 0.0])
        return {"a": state["b"] * 2 + gradient, "b": state["a"] * 3}, xp.sum(batch[0])

    def matrix(state, batch):
        xp = array_namespace(state["a"])
        V = xp.exp(xp.reshape(state["a"], (3, 3))) @ xp.reshape(state["a"], (3, 3))
        new = xp.reshape(V.T * 2 + V, (9,))
        return {"a": xp.concat([new]), "b": state["b"] + new}, xp.sum(V.T * 2 @ xp.tanh(V + 1))

    state = {"a": np.linspace(0, 1, 9), "b": np.linspace(1, 2, 9)}
    data = np.ones((2, 12)), np.zeros(12, int), None
    for step in (swap, matrix):
        done = steps(numba, step)
        found, Js = done(state, data, None, 0, 4, 1)
        expected, costs = one_by_one(step, state, data, None, 0, 4, 1)
        np.testing.assert_allclose(Js, costs)
        for key, x in expected.items():
            np.testing.assert_allclose(found[key], x, err_msg=key)


def test_fits_in_several_threads_do_not_wait_for_each_other(monkeypatch):
    from nnx.backends.numba import threads

    monkeypatch.setattr(threads, "blas_threads", lambda: 3)
    monkeypatch.setattr(threads, "FEWER", nullcontext)
    together = []

    def function(t, T, sync):
        with lock:
            sync[0] += 1
        deadline = time.monotonic() + 30
        while sync[0] < T:
            assert time.monotonic() < deadline, "the others never came"
            time.sleep(0)
        together.append(T)

    lock = threading.Lock()

    def fit():
        for _ in range(20):
            threads.run_in_threads(function, 1.0)

    fits = [threading.Thread(target=fit) for _ in range(3)]
    for one in fits:
        one.start()
    for one in fits:
        one.join(60)
    assert not any(one.is_alive() for one in fits)
    assert together.count(3) % 3 == 0
    assert together.count(3) / 3 + together.count(1) == 60


def test_who_fails_lets_the_others_go(monkeypatch):
    from nnx.backends.numba import threads

    monkeypatch.setattr(threads, "blas_threads", lambda: 2)
    monkeypatch.setattr(threads, "FEWER", nullcontext)
    monkeypatch.setattr(threads, "_pool", None)
    before = threading.active_count()

    def function(t, T, sync, bad):
        if t == bad:
            raise ValueError(f"thread {t}")
        deadline = time.monotonic() + 30
        while sync[0] < T:
            assert time.monotonic() < deadline, "nobody said that it is over"
            time.sleep(0)

    for bad in (0, 1):
        with pytest.raises(ValueError, match=f"thread {bad}"):
            threads.run_in_threads(function, 1.0, bad)
        assert threading.active_count() == before  # nobody is left to wait for a call that does not come


def test_after_an_interrupt_there_are_new_threads(monkeypatch):
    """The old ones may be at it for a while; what they still do disturbs nobody."""
    from nnx.backends.numba import threads

    monkeypatch.setattr(threads, "blas_threads", lambda: 2)
    monkeypatch.setattr(threads, "FEWER", nullcontext)
    seen = []

    def interrupted(t, T, sync):
        if t == 0:
            raise KeyboardInterrupt
        time.sleep(0.2)
        seen.append(sync[0] > T)

    def meets(t, T, sync):
        seen.append(threading.get_ident())

    with pytest.raises(KeyboardInterrupt):
        threads.run_in_threads(interrupted, 1.0)
    assert seen == [True]
    for _ in range(3):
        threads.run_in_threads(meets, 1.0)
    others = {*seen[1:]} - {threading.get_ident()}
    assert len(others) == 1  # the same thread does one call after the other


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no sched_setaffinity")
def test_a_system_that_lets_no_thread_choose_its_core_is_none_that_ends_a_step(monkeypatch):
    """Only the threads beside the first one move; a sandbox may forbid it."""
    pytest.importorskip("numba", reason="numba is not installed")
    from nnx.backends.numba import threads

    def forbidden(*_):
        asked.append(threading.get_ident())
        raise PermissionError

    asked = []
    monkeypatch.setattr(os, "sched_setaffinity", forbidden)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(threads, "_core", lambda: 0)
    monkeypatch.setattr(threads, "blas_threads", lambda: 2)
    monkeypatch.setattr(threads, "FEWER", nullcontext)
    seen = []
    threads.run_in_threads(lambda t, T, sync: seen.append((t, T)), 1.0)
    assert sorted(seen) == [(0, 2), (1, 2)]
    assert len(asked) == 1
    assert threading.get_ident() not in asked


def test_threads_that_cannot_all_be_had_end(monkeypatch):
    from nnx.backends.numba import threads

    monkeypatch.setattr(threads, "blas_threads", lambda: 4)
    monkeypatch.setattr(threads, "FEWER", nullcontext)
    monkeypatch.setattr(threads, "_pool", None)
    start, started, seen = threading.Thread.start, [], []

    def few(self):
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        started.append(self)
        start(self)

    monkeypatch.setattr(threading.Thread, "start", few)
    threads.run_in_threads(lambda t, T, sync: seen.append((t, T)), 1.0)
    for thread in started:
        thread.join(60)
    assert seen == [(0, 1)]
    assert not any(thread.is_alive() for thread in started)


def test_a_thread_holds_no_array_while_it_waits(monkeypatch):
    from nnx.backends.numba import threads

    monkeypatch.setattr(threads, "blas_threads", lambda: 2)
    monkeypatch.setattr(threads, "FEWER", nullcontext)
    array = np.zeros(3)
    before = sys.getrefcount(array)
    threads.run_in_threads(lambda t, T, sync, x: None, 1.0, array)
    after = sys.getrefcount(array)
    assert after == before


def test_no_array_is_allocated_after_the_second_time(numba):
    network, optimizer = nnx.mlp([300, 200, 10]), nnx.Adam()
    rng = np.random.default_rng(0)
    data = rng.standard_normal((900, 300), np.float32).T, rng.integers(0, 10, 900), None
    program, order = numba.compile(training_step(network, optimizer)), rng.permutation(900)
    program.load(initial_state(network, optimizer, network.init(0)))
    for _ in range(3):
        program.snapshot()
        program.run(data, order, 0, 300, 3)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(5):
            program.snapshot()
            program.run(data, order, 0, 300, 3)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < 200 * 300 * 4 / 2  # W[1]'s bytes


def test_what_cannot_be_compiled_is_replayed(numba, caplog):
    network, optimizer = nnx.mlp([4, 5, 3]), nnx.Adam()
    theta = np.stack([network.init(seed) for seed in range(3)])  # a stack of networks
    state = initial_state(network, optimizer, theta)
    step, data = training_step(network, optimizer), (np.ones((4, 6), "float32"), np.zeros(6, int), None)
    program = numba.compile(step)
    program.load(state)
    with caplog.at_level("INFO", "nnx"):
        Js = program.run(data, None, 0, 3, 2)
    found = program.read()
    assert "a step is not compiled" in caplog.text
    expected, costs = one_by_one(step, state, data, None, 0, 3, 2)
    np.testing.assert_allclose(found["theta"], expected["theta"], rtol=1e-5)
    np.testing.assert_allclose(np.stack(Js), np.stack(costs), rtol=1e-5)


def test_a_number_of_the_state_that_is_not_finite_is_noticed(numba):
    def step(state, batch):
        xp = array_namespace(state["theta"])
        product = state["scale"] * 1e30
        return {"theta": state["theta"] * 0.5, "scale": product}, xp.sum(batch[0])

    state = {"theta": np.ones(4, "float32"), "scale": np.asarray(1, "float32")}
    data = np.ones((2, 8), "float32"), np.zeros(8, int), None
    program = numba.compile(step)
    program.load(state)
    assert program.compiled(data, 2) is not None
    program.snapshot()
    program.run(data, None, 0, 2, 1)
    assert program.finite
    program.run(data, None, 0, 2, 1)
    assert not program.finite
    program.rollback()
    assert program.finite


def test_products_of_one_input_do_not_write_over_each_others_sums(numba, monkeypatch):
    """Two W^T dZ on end, in threads that each have a part of every sum."""
    from nnx.backends.numba import threads

    monkeypatch.setattr(threads, "SINGLE_THREAD_SECONDS", 0)
    n = 256

    def step(state, batch):
        xp = array_namespace(state["theta"])
        W = [xp.reshape(state["theta"][i * n * n : (i + 1) * n * n], (n, n)) for i in range(2)]
        A = [w.T @ batch[0] for w in W]
        dW = [a @ batch[0].T for a in A]
        dtheta = xp.concat([xp.reshape(x, (-1,)) for x in dW])
        return {"theta": state["theta"] - 0.001 * dtheta}, xp.sum(A[0] * A[1])

    rng = np.random.default_rng(0)
    state = {"theta": rng.standard_normal(2 * n * n)}
    data = rng.standard_normal((n, 320)), np.zeros(320, int), None
    done = steps(numba, step)
    found, Js = done(state, data, None, 0, 16, 20)
    expected, costs = one_by_one(step, state, data, None, 0, 16, 20)
    np.testing.assert_allclose(found["theta"], expected["theta"], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(Js, costs, rtol=1e-9)
