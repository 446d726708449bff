"""Programs, on every backend: they do what the function does, and own the state of its steps."""

import copy
import os
import signal
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from program_cases import NETWORKS, loaded, made, numbers, on_host, one_by_one, same

import nnx
from nnx.array.gather import mini_batch
from nnx.array.namespace import array_namespace
from nnx.backends.calls.program import CallProgram
from nnx.backends.calls.program_cache import PROGRAMS
from nnx.backends.numpy.adapter import LIBRARY
from nnx.backends.torch.cuda_graph import CudaGraphProgram
from nnx.compiler import TraceError
from nnx.compiler.thresholds import BLOCK
from nnx.optimizers import OPTIMIZERS
from nnx.port.program import Program
from nnx.support import processes
from nnx.train.step import initial_state, stacked_state, training_step


def close(backend, found, expected, rtol=1e-8, atol=1e-10):
    """Whether two states are equal up to rounding."""
    found, expected = on_host(backend, found), on_host(backend, expected)
    assert set(found) == set(expected)
    for name, x in expected.items():
        assert found[name].shape == x.shape
        assert found[name].dtype == x.dtype
        np.testing.assert_allclose(found[name], x, rtol=rtol, atol=atol, err_msg=name)


def repeatable(backend):
    """Whether two runs from one state give the same bits: on a GPU sums may differ in the last one."""
    return not backend.device.startswith("cuda")


# ----------------------------------------------------------------------------------------------------------- runs


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        pytest.param(
            name,
            weights,
            marks=() if (name, weights) in (("softmax", True), ("numbers", False)) else pytest.mark.long,
        )
        for name in NETWORKS
        for weights in (False, True)
    ],
)
def test_a_run_is_one_step_after_the_other(backend, name, weights):
    step, state, data = made(name, backend, "float64", weights=weights)
    program, single = loaded(backend, step, state), backend.compile(step)
    drawn = backend.asarray(np.random.default_rng(3).permutation(50))
    longer = backend.asarray(np.concatenate([np.random.default_rng(k).permutation(50) for k in range(3)]))
    for order, at, m, count in (
        (None, 0, 8, 6),
        (drawn, 0, 8, 6),
        (drawn, 48, 2, 1),
        (None, 16, 8, 2),
        (None, 0, 50, 1),
        (None, 30, 10, 7),  # after the last sample the first comes again
        (None, 0, 50, 3),
        (longer, 60, 10, 8),  # the orders of three epochs
        (longer, 0, 50, 3),
    ):
        Js = program.run(data, order, at, m, count)
        expected, costs = one_by_one(single, state, data, order, at, m, count)
        assert len(Js) >= count
        np.testing.assert_allclose(numbers(backend, Js, count), numbers(backend, costs, count), rtol=1e-9)
        state = program.read()
        close(backend, state, expected)


def test_no_steps_leave_the_state(backend):
    step, state, data = made("softmax", backend)
    program = loaded(backend, step, state)
    assert len(program.run(data, None, 0, 10, 0)) == 0
    same(on_host(backend, program.read()), on_host(backend, state))


def test_a_step_by_itself_leaves_its_arguments(backend):
    step, state, data = made("softmax", backend)
    program, before = backend.compile(step), on_host(backend, state)
    states = [state]
    for _ in range(5):
        states.append(program(states[-1], mini_batch(data, None, 0, 10))[0])
    held = [on_host(backend, one) for one in states]
    for _ in range(3):
        program(states[-1], mini_batch(data, None, 10, 10))
    for one, copied in zip(states, held, strict=True):
        same(on_host(backend, one), copied)
    same(on_host(backend, state), before)
    assert [int(one["t"]) for one in held] == list(range(6))


# ---------------------------------------------------------------------------------------------------- load and read


def test_what_is_loaded_and_read_is_a_copy(backend):
    step, state, data = made("softmax", backend)
    before, program = on_host(backend, state), loaded(backend, step, state)
    held, copies = [], []
    for _ in range(8):
        program.run(data, None, 0, 10, 5)
        held.append(program.read())
        copies.append(on_host(backend, held[-1]))
        program.snapshot()
    program.run(data, None, 0, 10, 5)
    program.rollback()
    program.run(data, None, 0, 10, 5)
    same(on_host(backend, state), before)
    for one, copied in zip(held, copies, strict=True):
        same(on_host(backend, one), copied)
    assert [int(one["t"]) for one in copies] == list(range(5, 45, 5))


def test_a_program_that_calls_the_function_as_it_is_copies_too():
    backend = nnx.backend("numpy")
    step, state, _ = made("softmax", backend)
    program = Program(step)
    program.load(state)
    before = on_host(backend, state)
    state["theta"][:] = 0
    program.read("theta")["theta"][:] = 0
    same(program.read(), before)


def test_what_is_read_has_the_types_of_what_was_loaded(backend):
    step, state, data = made("softmax", backend)
    program = loaded(backend, step, state)
    program.run(data, None, 0, 10, 5)
    found = program.read()
    assert list(found) == list(state)
    for name, x in state.items():
        assert isinstance(found[name], type(x))
        assert (found[name].shape, found[name].dtype) == (x.shape, x.dtype)
    assert list(program.read("t", "alpha")) == ["t", "alpha"]


def test_arrays_of_any_strides_are_loaded(backend):
    """Later steps write into them: an array of columns, as if of rows, would be another one."""

    def step(state, batch):
        X, _, _ = batch
        xp = array_namespace(X)
        G = X @ xp.matrix_transpose(X)
        W = xp.concat([G[:1, :] * 0.5, G[1:, :] + state["t"]])
        return {"W": W, "t": state["t"] + 1.0}, xp.sum(G)

    rng = np.random.default_rng(0)
    data = backend.asarray(rng.standard_normal((3, 8))), backend.asarray(np.arange(8)), None
    W = np.asfortranarray(rng.standard_normal((3, 3)))
    state = {"W": backend.asarray(W), "t": backend.asarray(np.asarray(1.0))}
    program = loaded(backend, step, state)
    for _ in range(3):
        program.run(data, None, 0, 4, 2)
        state, _ = one_by_one(step, state, data, None, 0, 4, 2)
        close(backend, program.read(), state)


def test_some_arrays_are_loaded_and_the_others_stay(backend):
    step, state, data = made("softmax", backend, "float64")
    program = loaded(backend, step, state)
    program.run(data, None, 0, 10, 5)
    found, rate = program.read(), backend.asarray(0.5, "float64")
    program.load({"alpha": rate})
    close(backend, program.read(), {**found, "alpha": rate}, rtol=0, atol=0)
    program.run(data, None, 0, 10, 5)
    expected, _ = one_by_one(step, {**found, "alpha": rate}, data, None, 0, 10, 5)
    close(backend, program.read(), expected)
    program.load({name: state[name] for name in ("theta", "m", "v", "t", "alpha")})
    program.run(data, None, 0, 10, 5)
    close(backend, program.read("theta"), {"theta": found["theta"]})


def test_a_state_of_other_shapes_takes_the_place_of_the_first(backend):
    step, state, data = made("softmax", backend)
    program = loaded(backend, step, state)
    program.run(data, None, 0, 10, 5)
    program.snapshot()
    program.run(data, None, 0, 10, 5)
    found = []
    for dtype in ("float64", "float32", "float64"):
        _, other, its = made("softmax", backend, dtype)
        program.load(other)
        for _ in range(3):
            program.run(its, None, 0, 10, 5)
            program.snapshot()
        found.append(program.read())
        expected, _ = one_by_one(step, other, its, *(None, 0, 10, 5))
        for _ in range(2):
            expected, _ = one_by_one(step, expected, its, *(None, 0, 10, 5))
        near = {"rtol": 1e-3, "atol": 1e-5} if dtype == "float32" else {}
        close(backend, found[-1], expected, **near)
    close(backend, found[0], found[2])


# ------------------------------------------------------------------------------------------- snapshots and failures


def test_a_snapshot_is_the_way_back(backend):
    step, state, data = made("softmax", backend)
    program = loaded(backend, step, state)
    program.snapshot()
    for _ in range(3):  # the first snapshot stays
        program.run(data, None, 0, 10, 5)
        program.run(data, None, 0, 10, 3)
        program.rollback()
        same(on_host(backend, program.read()), on_host(backend, state))
    program.run(data, None, 0, 10, 5)
    program.snapshot()
    found = on_host(backend, program.read())
    program.load({"alpha": backend.asarray(1e30, "float32")})
    program.run(data, None, 0, 10, 5)
    program.rollback()
    same(on_host(backend, program.read()), found)
    program.snapshot()
    program.run(data, None, 0, 10, 5)
    program.run(data, None, 0, 10, 1)
    program.rollback()
    program.rollback()
    same(on_host(backend, program.read()), found)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_program_tells_what_is_not_finite(backend, bad):
    step, state, data = made("numbers", backend)
    program = loaded(backend, step, state)
    assert program.finite
    program.run(data, None, 0, 10, 5)
    assert program.finite
    theta = np.array(backend.to_numpy(state["theta"]))
    theta[-1] = bad
    program.load({"theta": backend.asarray(theta)})
    assert not program.finite
    program.run(data, None, 0, 10, 1)
    assert not program.finite
    program.load(state)
    assert program.finite


def test_a_run_that_fails_changes_nothing(backend):
    step, state, data = made("softmax", backend)
    program = loaded(backend, step, state)
    program.run(data, None, 0, 10, 5)
    before = on_host(backend, program.read())
    with pytest.raises(Exception):  # noqa: B017, PT011  # each library has its own
        program.run((data[0][:-1, :], *data[1:]), None, 0, 10, 3)
    same(on_host(backend, program.read()), before)
    program.run(data, None, 0, 10, 5)
    again = loaded(backend, step, state)
    again.run(data, None, 0, 10, 5)
    again.run(data, None, 0, 10, 5)
    if repeatable(backend):
        same(on_host(backend, program.read()), on_host(backend, again.read()))


@pytest.mark.parametrize("name", ["numpy", pytest.param("torch", marks=pytest.mark.needs("torch"))])
@pytest.mark.parametrize("shuffled", [False, True])
def test_an_interrupt_within_a_run_changes_nothing(name, shuffled, monkeypatch):
    """Ctrl-C between two steps of a call."""
    backend = nnx.backend(name, device="cpu")
    step, state, data = made("softmax", backend)
    program = loaded(backend, step, state)
    order = backend.asarray(np.random.default_rng(0).permutation(50)) if shuffled else None
    program.run(data, order, 0, 10, 5)
    before, steps = on_host(backend, program.read()), []

    def interrupt():
        steps.append(1)
        if len(steps) % 3 == 0:
            raise KeyboardInterrupt

    expected = loaded(backend, step, program.read())
    expected.run(data, order, 0, 10, 5)
    monkeypatch.setattr("nnx.backends.calls.program.give_way", interrupt)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            program.run(data, order, 0, 10, 5)
        same(on_host(backend, program.read()), before)
    assert len(steps) == 9
    monkeypatch.undo()
    program.run(data, order, 0, 10, 5)
    same(on_host(backend, program.read()), on_host(backend, expected.read()))


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="the system has no timer that sends signals")
@pytest.mark.parametrize("name", ["numpy", pytest.param("jax", marks=pytest.mark.needs("jax"))])
def test_an_interrupt_leaves_a_program_open(name):
    """Ctrl-C at any instant of a call: what handles it, as a fit does, can use the program."""
    backend = nnx.backend(name, device="cpu")
    program = loaded(backend, *made("softmax", backend)[:2])
    program.read("t")
    free, moments = [], np.random.default_rng(0)

    def interrupt(number, frame):
        raise KeyboardInterrupt

    def look():
        free.append(program.lock().acquire(timeout=1))
        if free[-1]:
            program.lock().release()

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for _ in range(200):
            try:
                signal.setitimer(signal.ITIMER_REAL, moments.uniform(2e-5, 2e-4))
                while True:
                    program.read("t")
            except KeyboardInterrupt:  # its traceback holds what was interrupted
                thread = threading.Thread(target=look)
                thread.start()
                thread.join()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert free == [True] * 200


@pytest.mark.parametrize("name", ["numpy", pytest.param("torch", marks=pytest.mark.needs("torch"))])
def test_a_handler_of_a_signal_reads_the_state_before_the_run(name, monkeypatch):
    """A handler runs between any two lines of the thread that does the steps, such as one that saves the trainer."""
    backend = nnx.backend(name, device="cpu")
    step, state, data = made("softmax", backend)
    program, found = loaded(backend, step, state), []
    monkeypatch.setattr("nnx.backends.calls.program.give_way", lambda: found.append(program.read()))
    program.run(data, None, 0, 10, 5)
    monkeypatch.undo()
    assert len(found) == 5
    for one in found:
        same(on_host(backend, one), on_host(backend, state))
    assert int(program.read("t")["t"]) == 5


def test_a_handler_of_a_signal_may_call_the_program_that_it_cuts():
    program, found = nnx.backend("numpy").compile(lambda x: (x + 1) @ (x * 2) - 3), []
    x, y = np.arange(9.0).reshape(3, 3), np.ones((3, 3))
    expected = program(x), program(y)

    def interrupt(frame, event, argument):
        """Call the program before each line of its function."""
        if event == "line" and frame.f_code.co_filename == "<nnx schedule>":
            sys.settrace(None)
            found.append(program(y))
            sys.settrace(interrupt)
        return interrupt

    before = sys.gettrace()
    sys.settrace(interrupt)
    try:
        result = program(x)
    finally:
        sys.settrace(before)
    np.testing.assert_array_equal(result, expected[0])
    assert len(found) > 3
    for one in found:
        np.testing.assert_array_equal(one, expected[1])


# --------------------------------------------------------------------------------------------------------- threads


def test_threads_call_one_program_at_once(backend):
    step, state, data = made("softmax", backend, "float64")
    program, found = loaded(backend, step, state), []
    batch = mini_batch(data, None, 0, 10)
    expected = state
    for _ in range(10):
        expected, _ = step(expected, batch)

    def call():
        now = state
        for _ in range(10):
            now, _ = program(now, batch)
        found.append(now)

    def run():
        for _ in range(5):
            program.run(data, None, 0, 10, 4)

    threads = [threading.Thread(target=target) for target in (call, run, call, run)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2
    for one in found:
        close(backend, one, expected)
    assert int(backend.to_numpy(program.read("t")["t"])) == 40


FORKS = """
import os, sys, threading
import program_cases as these
backend = these.nnx.backend(sys.argv[1], device="cpu")
step, state, data = these.made("softmax", backend)
program, stop = these.loaded(backend, step, state), threading.Event()
program.run(data, None, 0, 10, 5)

def run():
    while not stop.is_set():
        program.run(data, None, 0, 10, 5000)

threads = [threading.Thread(target=run) for _ in range(2)]
for thread in threads:
    thread.start()
found = []
for _ in range(5):
    child = os.fork()
    if child == 0:
        before = int(program.read("t")["t"])
        program.run(data, None, 0, 10, 5)
        os._exit(int(program.read("t")["t"]) - before)
    found.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
stop.set()
for thread in threads:
    thread.join()
print(found, int(program.read("t")["t"]) % 5000)
"""


@pytest.mark.long
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.parametrize("name", ["numpy", pytest.param("torch", marks=pytest.mark.needs("torch"))])
def test_a_fork_while_threads_run_steps(name):
    """It waits for no call, and the program works in the child, whatever a thread of the parent held."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKS, name], capture_output=True, text=True, timeout=120,
        env=environment, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == "[5, 5, 5, 5, 5] 5", done.stderr


# ----------------------------------------------------------------------------------------- programs of calls alone


@pytest.fixture(params=["numpy", pytest.param("torch", marks=pytest.mark.needs("torch"))])
def calling(request):
    """The backends that run a graph as calls."""
    return nnx.backend(request.param, device="cpu")


class Counted:
    """A function that counts its calls: a traced one is called once for each set of shapes."""

    def __init__(self, function):
        self.function, self.calls = function, 0

    def __call__(self, *arguments):
        self.calls += 1
        return self.function(*arguments)


def test_each_set_of_shapes_is_traced_once(calling):
    step = Counted(made("softmax", calling)[0])
    program = calling.compile(step)
    for m in (8, 3, 8, 1, 3):
        _, state, data = made("softmax", calling)
        batch = mini_batch(data, None, 0, m)
        found, expected = program(state, batch), step.function(state, batch)
        close(calling, found[0], expected[0], rtol=2e-4, atol=2e-5)
    assert step.calls == 3
    _, state, data = made("softmax", calling, "float64")
    batch = mini_batch(data, None, 0, 8)
    close(calling, program(state, batch)[0], step.function(state, batch)[0])
    assert step.calls == 4
    program.load(state)
    for order in (None, calling.asarray(np.arange(50)[::-1].copy())):
        for _ in range(3):
            program.run(data, order, 0, 10, 2)
    assert step.calls == 5


def test_few_programs_are_kept():
    double = Counted(lambda x: x * 2)
    program = nnx.backend("numpy").compile(double)
    for n in range(1, 3 * PROGRAMS):
        np.testing.assert_array_equal(program(np.ones(n)), np.full(n, 2.0))
    seen = double.calls
    for _ in range(20):
        program(np.ones(n))
    assert double.calls == seen
    program(np.ones(1))
    assert double.calls == seen + 1  # it was forgotten
    for n in range(1, 9 * PROGRAMS):
        program(np.ones(n))
    traced = []
    program.function = lambda x: (traced.append(type(x)), x * 2)[1]
    np.testing.assert_array_equal(program(np.ones(999)), np.full(999, 2.0))
    assert traced == [np.ndarray]  # its shapes seldom come again: to trace each is lost work


def test_what_cannot_be_traced_runs_as_it_is():
    seen = []

    def f(x):
        seen.append(type(x))
        return x * float(x[0])

    program = nnx.backend("numpy").compile(f)
    for _ in range(3):
        np.testing.assert_array_equal(program(np.array([2.0, 3.0])), [4, 6])
    assert seen[1:] == [np.ndarray] * 3


def fails(graph, slots):
    raise TraceError("never")


def fails_later(graph, slots):
    return lambda inputs, outs: 1 / 0


@pytest.mark.parametrize("render", [fails, fails_later])
def test_what_cannot_be_rendered_or_called_runs_as_it_is(render):
    step, state, data = made("softmax", nnx.backend("numpy"), "float64")
    program = CallProgram(step, LIBRARY._replace(render=render))
    program.load(state)
    for _ in range(2):
        program.run(data, None, 0, 10, 5)
    expected, _ = one_by_one(step, state, data, None, 0, 10, 5)
    expected, _ = one_by_one(step, expected, data, None, 0, 10, 5)
    close(nnx.backend("numpy"), program.read(), expected)
    batch = mini_batch(data, None, 0, 10)
    close(nnx.backend("numpy"), program(state, batch)[0], step(state, batch)[0])


@pytest.mark.parametrize("where", ["made", "called"])
def test_a_lack_of_memory_is_told_and_not_remembered(where):
    """As it is, the function would take no less, and it would stay slow."""
    lacks = [True]

    def render(graph, slots):
        call = LIBRARY.render(graph, slots)
        if where == "made" and lacks.pop():
            raise MemoryError

        def may_lack(inputs, outs):
            if where == "called" and lacks.pop():
                raise MemoryError
            call(inputs, outs)

        return may_lack

    step, state, data = made("softmax", nnx.backend("numpy"))
    for act in (lambda program: program.run(data, None, 0, 10, 1), lambda program: program(state, data)):
        program = CallProgram(Counted(step), LIBRARY._replace(render=render))
        program.load(state)
        lacks[:] = [True]
        with pytest.raises(MemoryError):
            act(program)
        same(program.read(), state)
        for _ in range(2):
            lacks[:] = [False]
            act(program)
        assert program.function.calls == (2 if where == "made" else 1)  # each to trace it


def test_steps_that_return_parts_of_the_data_leave_the_data(calling):
    """Traced and as they are: the state has arrays of its own."""

    def step(state, batch):
        X, Y, _ = batch
        return {"first": X[0, :2], "last": state["first"], "sum": state["sum"] + Y[0]}, Y[1]

    def untraced(state, batch):
        float(batch[0][0, 0])
        return step(state, batch)

    X, Y = np.arange(20.0).reshape(10, 2).T.copy(), np.arange(10.0)
    for function in (step, untraced):
        for order in (None, np.arange(10)[::-1].copy()):
            data = calling.asarray(X.copy()), calling.asarray(Y.copy()), None
            drawn = None if order is None else calling.asarray(order)
            state = {"first": np.zeros(2), "last": np.zeros(2), "sum": np.zeros(())}
            given = {name: calling.asarray(x) for name, x in state.items()}
            program, held = loaded(calling, function, given), []
            for at in (0, 2, 4):
                held.append((program.run(data, drawn, at, 2, 2), at))
            places = np.arange(10) if order is None else order
            found = on_host(calling, program.read())
            same(found, {"first": X[0, places[6:8]], "last": X[0, places[4:6]],
                         "sum": Y[places[[0, 2, 2, 4, 4, 6]]].sum()})  # fmt: skip
            for Js, at in held:
                np.testing.assert_array_equal(numbers(calling, Js, 2), Y[places[[at + 1, at + 3]]])
            np.testing.assert_array_equal(calling.to_numpy(data[0]), X)


def test_a_fault_of_the_caller_is_told_as_ever(calling):
    step, state, data = made("softmax", calling)
    program, (X, Y, _) = calling.compile(step), mini_batch(data, None, 0, 10)
    with pytest.raises(nnx.InputError, match="expected \\(n\\[0\\], m\\)"):
        program(state, (X[1:], Y))
    close(calling, program(state, (X, Y))[0], step(state, (X, Y))[0], rtol=2e-4, atol=2e-5)
    for wrong in ((), (state,), (state, X), ({}, (X, Y)), (None, None)):
        with pytest.raises((TypeError, KeyError, ValueError, AttributeError, RuntimeError, IndexError)):
            program(*wrong)
    close(calling, program(state, (X, Y))[0], step(state, (X, Y))[0], rtol=2e-4, atol=2e-5)


def test_numbers_among_the_arguments_are_part_of_the_key():
    program = nnx.backend("numpy").compile(lambda x, factor, more: x * factor if more is None else x)
    assert program(np.ones(1), 2, None) == 2
    assert program(np.ones(1), 3, None) == 3
    assert program(np.ones(1), 2, None) == 2
    assert program(np.ones(1), 2, "more") == 1
    assert program(np.ones(1), 1, None) == 1
    assert program(np.ones(1), 2, {"a": {1, 2}}) == 1  # a set cannot be hashed


@pytest.mark.parametrize("layout", ["rows", "columns", "every other", "frozen"])
def test_layouts(calling, layout):
    step, state, (X, Y, _) = made("softmax", calling, "float64", m=8)
    X = np.array(calling.to_numpy(X))
    if layout == "columns":
        X = np.ascontiguousarray(X)
    elif layout == "every other":
        X = np.repeat(X, 2, axis=1)[:, ::2]
    elif layout == "frozen":
        X.flags.writeable = False
    X = calling.asarray(X)
    program = loaded(calling, step, state)
    close(calling, program(state, (X, Y))[0], step(state, (X, Y))[0])
    order = calling.asarray(np.arange(8)[::-1].copy())
    program.run((X, Y, None), order, 0, 4, 2)
    close(calling, program.read(), one_by_one(step, state, (X, Y, None), order, 0, 4, 2)[0])


@pytest.mark.parametrize("rows", [True, False])
@pytest.mark.parametrize("n", [1, 20, 40])
def test_few_units_of_many_samples(calling, n, rows):
    rng = np.random.default_rng(0)
    W, b = rng.standard_normal((n, 30)), rng.standard_normal((n, 1))
    program = calling.compile(lambda W, b, X: (W @ X + b, W @ X))
    for _ in range(3):
        X = rng.standard_normal((100, 30)).T if rows else rng.standard_normal((30, 100))
        Z, product = program(*(calling.asarray(x, "float64") for x in (W, b, X)))
        np.testing.assert_allclose(calling.to_numpy(Z), W @ X + b, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(calling.to_numpy(product), W @ X, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_roots_of_long_vectors(calling, dtype):
    x = np.random.default_rng(0).random(9000).astype(dtype) ** 8
    x[:8] = 0, -0.0, np.inf, np.nan, -1, np.finfo(dtype).tiny, np.finfo(dtype).max, 4
    program = calling.compile(lambda x: array_namespace(x).sqrt(x))
    given = calling.asarray(x, dtype)
    for _ in range(2):
        found = calling.to_numpy(program(given))
        with np.errstate(invalid="ignore"):
            np.testing.assert_allclose(found, np.sqrt(x), rtol=4 * np.finfo(dtype).eps)
        np.testing.assert_array_equal(np.signbit(found[:2]), [False, True])


def test_programs_made_in_inference_mode_serve_outside():
    torch = pytest.importorskip("torch")
    x, double = torch.arange(3.0), Counted(lambda x: x * 2.0 + 1.0)
    program = nnx.backend("torch", "cpu").compile(double)
    with torch.inference_mode():
        first = program(x).clone()
    for given in (x, first * 0 + x, x.clone().requires_grad_()):
        assert program(given).tolist() == [1, 3, 5]
        assert not program(given).requires_grad
    assert double.calls == 1


@pytest.mark.parametrize("shuffled", [pytest.param(False, marks=pytest.mark.long), True])
def test_no_array_is_allocated_by_the_steps_of_a_run(shuffled):
    """NumPy's: neither for the state, nor for what lies between, nor for the samples."""
    network, optimizer, backend = nnx.mlp([300, 200, 10]), nnx.Adam(), nnx.backend("numpy")
    rng = np.random.default_rng(0)
    data = rng.standard_normal((900, 300), np.float32).T, rng.integers(0, 10, 900), None
    program = loaded(
        backend, training_step(network, optimizer), initial_state(network, optimizer, network.init(0))
    )
    order = rng.permutation(900) if shuffled else None
    for _ in range(3):
        program.run(data, order, 0, 300, 3)
        program.snapshot()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(5):
            program.run(data, order, 0, 300, 3)
            program.snapshot()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < 200 * 300 * 4 / 2  # half of W[1]'s bytes
    assert program.finite


def test_that_test_sees_an_allocation():
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        x = np.empty(100 * 50, "float32")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before >= x.nbytes


def test_samples_that_are_no_floats_are_gathered(calling):
    def step(state, batch):
        xp = array_namespace(batch[0])
        return {"sum": state["sum"] + xp.sum(batch[0])}, state["sum"]

    data = calling.asarray(np.arange(6).reshape(3, 2).T), calling.asarray(np.zeros(3)), None
    program = loaded(calling, step, {"sum": calling.asarray(np.asarray(0))})
    Js = program.run(data, calling.asarray(np.array([2, 0, 1])), 0, 1, 3)
    np.testing.assert_array_equal(numbers(calling, Js, 3), [0, 9, 10])
    assert int(program.read("sum")["sum"]) == 15


@pytest.mark.parametrize("optimizer", sorted(set(OPTIMIZERS) - {"lbfgs"}))
def test_long_vectors_are_done_by_pieces(optimizer):
    """Of more than two pieces, the last one smaller; over the old state from the second step on."""
    network, rng, numpy = nnx.mlp([300, 500, 4]), np.random.default_rng(0), nnx.backend("numpy")
    assert network.P // BLOCK == 2
    step = training_step(network, nnx.optimizers.optimizer(optimizer))
    state = initial_state(network, nnx.optimizers.optimizer(optimizer), network.init(0))
    before = on_host(numpy, state)
    data = rng.standard_normal((300, 40)).astype("float32"), rng.integers(0, 4, 40), None
    program = loaded(numpy, step, state)
    Js = program.run(data, None, 0, 10, 4)
    expected, costs = one_by_one(step, state, data, None, 0, 10, 4)
    np.testing.assert_allclose(numbers(numpy, Js, 4), costs, rtol=1e-4)
    close(numpy, program.read(), expected, rtol=1e-4, atol=1e-5)
    same(state, before)


def test_a_whole_vector_that_the_chain_reads_last_is_whole():
    """It has memory for all of it, also where the chain writes over it."""
    n = 600
    assert n * n > 2 * BLOCK

    def step(state, batch):
        xp = array_namespace(state["theta"])
        g = xp.reshape(batch[0] @ batch[0].T, (n * n,))
        square = g * g
        v = 0.9 * state["v"] + 0.1 * square
        return {"theta": state["theta"] - v, "v": v}, xp.sum(batch[0])

    rng = np.random.default_rng(0)
    state = {"theta": rng.random(n * n), "v": rng.random(n * n)}
    data = rng.standard_normal((n, 12)), np.zeros(12, int), None
    program = loaded(nnx.backend("numpy"), step, state)
    program.run(data, None, 0, 4, 3)
    close(nnx.backend("numpy"), program.read(), one_by_one(step, state, data, None, 0, 4, 3)[0], rtol=1e-7)


@pytest.mark.long
@pytest.mark.parametrize("shuffled", [pytest.param(False, marks=pytest.mark.long), True])
def test_a_narrow_layer_on_batches_of_many_bytes(backend, shuffled):
    n, sizes = 4100, [(1100, 2), (1030, 1), (7, 1), (1100, 1)]  # m and steps, one call after the other
    M = sum(m * count for m, count in sizes)
    network, rng = nnx.mlp([n, 5, 3]), np.random.default_rng(0)
    X, y = rng.standard_normal((M, n), np.float32).T, rng.integers(0, 3, M)
    order = rng.permutation(M).astype(np.int32) if shuffled else None
    step = training_step(network, nnx.Adam(0.01))
    state = initial_state(network, nnx.Adam(0.01), network.init(0))
    expected = []
    program = loaded(backend, step, {name: backend.asarray(x) for name, x in state.items()})
    data, places = (
        (backend.asarray(X), backend.asarray(y), None),
        None if order is None else backend.asarray(order),
    )
    costs = []
    for _ in range(2):  # the second time memory is used again
        at = 0
        for m, count in sizes:
            costs += numbers(backend, program.run(data, places, at, m, count), count).tolist()
            state, Js = one_by_one(step, state, (X, y, None), order, at, m, count)
            expected += Js
            at += m * count
    costs += numbers(backend, program.run(data, None, 0, M, 1), 1).tolist()
    state, Js = one_by_one(step, state, (X, y, None), None, 0, M, 1)
    np.testing.assert_allclose(costs, [*expected, *Js], rtol=2e-3, atol=1e-4)
    theta = backend.to_numpy(program.read("theta")["theta"])
    np.testing.assert_allclose(theta, state["theta"], rtol=2e-3, atol=1e-3)


# -------------------------------------------------------------------------------------------------- what a fit shows


@pytest.fixture(params=["numpy", pytest.param("numba", marks=pytest.mark.needs("numba"))])
def with_numpys_arrays(request):
    """The backends with NumPy's arrays."""
    try:
        return nnx.backend(request.param)
    except (nnx.BackendError, nnx.InputError) as error:
        pytest.skip(str(error))


def small(hidden="tanh", output="softmax"):
    return nnx.mlp([4, 5, 3], hidden, output)


def test_a_copied_trainer_goes_its_own_way(with_numpys_arrays):
    trainer = nnx.Trainer(small(), nnx.Adam(0.05), backend=with_numpys_arrays)
    X, Y = np.ones((4, 8)), np.zeros(8, int)
    trainer.fit(X, Y, epochs=2)
    copied = copy.deepcopy(trainer)
    before = copied.theta
    assert trainer.fit(X, Y, epochs=3) == copied.fit(X, Y, epochs=3)
    assert (copied.theta != before).any()
    np.testing.assert_array_equal(trainer.theta, copied.theta)


def test_callbacks_may_keep_what_they_see(with_numpys_arrays):
    """The best weights, the average, and the state before an epoch are arrays that steps have passed by."""
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((4, 40)), rng.integers(0, 3, 40)
    seen = []

    def look(progress):
        seen.append(trainer.state["theta"])

    trainer = nnx.Trainer(small(), nnx.Adam(0.05), backend=with_numpys_arrays)
    trainer.fit(X, Y, epochs=2, batch_size=8, callbacks=look)
    plain = nnx.Trainer(small(), nnx.Adam(0.05), backend="strict")
    again = []
    plain.fit(X, Y, epochs=2, batch_size=8, callbacks=lambda progress: again.append(plain.theta))
    assert len(seen) == len(again)
    for x, y in zip(seen, again, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


def test_an_epoch_that_diverges_leaves_the_state_before_it(with_numpys_arrays):
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((4, 40)), rng.standard_normal((3, 40))
    trainer = nnx.Trainer(small("relu", "identity"), nnx.GradientDescent(1e-3), backend=with_numpys_arrays)
    trainer.fit(X, Y, epochs=1, batch_size=8)
    before = trainer.theta
    trainer.learning_rate = 1e30
    with pytest.raises(nnx.DivergenceError):
        trainer.fit(X, Y, epochs=3, batch_size=8)
    np.testing.assert_array_equal(trainer.theta, before)


def test_a_fit_looks_now_and_then_or_after_every_step(backend):
    """A callback that may be called seldom sees fewer steps, and the fit has the same numbers."""

    class Seldom(nnx.Callback):
        often = False
        calls = 0

        def on_step(self, trainer, progress):
            Seldom.calls += 1

    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((6, 300)), rng.integers(0, 4, 300)
    histories, each = [], []
    for callbacks in ((), Seldom(), lambda progress: each.append(progress.step)):
        trainer = nnx.Trainer(nnx.mlp([6, 5, 4]), nnx.Adam(0.01), backend=backend)
        histories.append(trainer.fit(X, Y, epochs=3, batch_size=4, callbacks=callbacks))
    assert histories[0] == histories[1] == histories[2]
    assert 3 <= Seldom.calls <= 3 * 75
    assert each == 3 * [*range(1, 76), 75]


# ------------------------------------------------------------------------------------------------------ CUDA graphs


def graphs_of_numpys(step, state, capture=lambda run: (run(), run)[1]):
    """A program of graphs with NumPy in CUDA's place: what is launched reads and writes always the same memory."""

    def empty(shape, dtype):
        return np.full(shape, np.nan if dtype.startswith("float") else 7, dtype)

    program = CudaGraphProgram(step, LIBRARY._replace(empty=empty), capture)
    program.load(state)
    return program


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_steps_as_graphs_are_one_after_the_other(name, weights):
    numpy, captures = nnx.backend("numpy"), []
    step, state, data = made(name, numpy, "float64", weights=weights)

    def capture(run):
        captures.append(run)
        run()
        return run

    program, drawn = graphs_of_numpys(step, state, capture), np.random.default_rng(3).permutation(50)
    for order, at, m, count in ((None, 0, 8, 6), (drawn, 0, 8, 6), (drawn, 44, 3, 2), (None, 16, 8, 2)):
        before, held = on_host(numpy, program.read()), program.read()
        Js = program.run(data, order, at, m, count)
        expected, costs = one_by_one(step, before, data, order, at, m, count)
        np.testing.assert_allclose(Js, costs, rtol=1e-9)
        close(numpy, program.read(), expected)
        same(held, before)
    assert len(captures) == 2


def test_members_have_orders_of_their_own_in_a_graph(rng):
    net, optimizer = nnx.mlp([4, 5, 3]), nnx.Adam([0.01, 0.1])
    step = training_step(net, optimizer)
    state = stacked_state(net, optimizer, np.stack([net.init(0), net.init(1)]))
    data = rng.standard_normal((4, 12)).astype("float32"), rng.integers(0, 3, 12), None
    order = np.stack([rng.permutation(12), rng.permutation(12)])
    program = graphs_of_numpys(step, state)
    Js = program.run(data, order, 0, 4, 3)
    assert all(program._graphs._made.values())
    expected, costs = one_by_one(step, state, data, order, 0, 4, 3)
    np.testing.assert_allclose(Js, costs, rtol=1e-5)
    close(nnx.backend("numpy"), program.read(), expected, rtol=1e-4, atol=1e-6)


def test_graphs_and_snapshots(monkeypatch):
    numpy = nnx.backend("numpy")
    step, state, data = made("softmax", numpy)
    program, plain = graphs_of_numpys(step, state), loaded(numpy, step, state)
    for one in (program, plain):
        one.run(data, None, 0, 10, 5)
        one.snapshot()
        one.run(data, None, 0, 7, 1)  # no graph yet
        one.load({"alpha": np.asarray(0.5, "float32")})
        one.run(data, None, 0, 10, 5)
    same(program.read(), plain.read())
    before, steps = program.read(), []

    def interrupt():
        steps.append(1)
        if len(steps) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("nnx.backends.torch.cuda_graph.give_way", interrupt)
    with pytest.raises(KeyboardInterrupt):
        program.run(data, None, 0, 10, 5)
    same(program.read(), before)
    for one in (program, plain):
        one.rollback()
        one.run(data, None, 0, 10, 2)
    same(program.read(), plain.read())
    _, other, its = made("softmax", numpy, "float64")
    for one in (program, plain):
        one.load(other)
        one.run(its, None, 0, 10, 5)
        one.load(state)
        one.run(data, None, 0, 10, 5)
    same(program.read(), plain.read())


def test_a_graph_of_a_step_that_hands_an_old_array_on():
    """By another name, which must not be given what is written over it; and as the cost."""

    def step(state, batch):
        return {
            "theta": state["theta"] + batch[0][0, 0],
            "last": state["theta"],
            "J": state["J"] + 1.0,
        }, state["J"]

    state = {name: np.full((), x) for name, x in (("theta", 1.0), ("last", 0.0), ("J", 5.0))}
    data = np.arange(1.0, 9.0)[None], np.zeros(8, int), None
    program = graphs_of_numpys(step, state)
    assert program.run(data, None, 0, 2, 3).tolist() == [5.0, 6.0, 7.0]
    assert {name: float(x) for name, x in program.read().items()} == {"theta": 10.0, "last": 5.0, "J": 8.0}


def test_steps_that_are_no_graph_are_done_by_calls(caplog):
    def refused(run):
        raise RuntimeError("this cannot be captured")

    numpy = nnx.backend("numpy")
    step, state, data = made("softmax", numpy)
    program, plain = graphs_of_numpys(step, state, refused), loaded(numpy, step, state)
    with caplog.at_level("INFO", "nnx"):
        program.run(data, None, 0, 10, 3)
    assert "a step is no CUDA graph: RuntimeError: this cannot be captured" in caplog.text
    plain.run(data, None, 0, 10, 3)
    assert len(program.run(data, None, 0, 10, 0)) == 0
    same(program.read(), plain.read())


def test_a_single_step_is_a_graph_when_it_is_met_again():
    step, state, data = made("softmax", nnx.backend("numpy"))
    captures = []
    program = graphs_of_numpys(step, state, lambda run: (captures.append(run), run)[1])
    program.run(data, None, 0, 7, 1)
    assert not captures
    program.run(data, None, 7, 7, 1)
    assert len(captures) == 1


def test_the_short_last_batch_of_an_epoch_is_a_graph_from_the_second_epoch_on():
    step, state, data = made("softmax", nnx.backend("numpy"))
    captures = []
    program = graphs_of_numpys(step, state, lambda run: (captures.append(run), run)[1])
    for graphs in (1, 2, 2):
        program.run(data, None, 0, 9, 5)
        program.run(data, None, 45, 5, 1)
        assert len(captures) == graphs


@pytest.mark.parametrize("name", NETWORKS)
def test_steps_of_pytorch_are_graphs_on_a_gpu(name, caplog):
    try:
        backend = nnx.backend("torch", device="cuda")
    except nnx.BackendError as error:
        pytest.skip(str(error))
    step, state, data = made(name, backend)
    program = loaded(backend, step, state)
    with caplog.at_level("INFO", "nnx"):
        program.run(data, None, 0, 10, 5)
    assert "no CUDA graph" not in caplog.text


def test_a_fork_finds_the_lock_of_a_program_open(monkeypatch):
    """A thread of the parent, which held it, is not in the child."""
    step, state, data = made("softmax", nnx.backend("numpy"))
    program = loaded(nnx.backend("numpy"), step, state)
    thread = threading.Thread(target=program.lock().acquire)
    thread.start()
    thread.join()
    assert not program.lock().acquire(blocking=False)
    monkeypatch.setattr(processes, "_generation", processes._generation + 1)
    program.run(data, None, 0, 10, 1)
    assert int(program.read("t")["t"]) == 1
