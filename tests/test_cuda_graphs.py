"""CuPy's training steps as CUDA graphs, on a stand-in for CuPy: what the host asks of the GPU, and what it refuses."""

import re
import threading

import numpy as np
import pytest
from conftest import long_but_for
from cuda_kernels_on_host import needs_compiler
from cupy_on_host import Stream, installed
from nvrtc import compiled, needs_nvrtc
from program_cases import loaded, made, on_host, one_by_one, same

import nnx
from nnx.backends.cupy import calls, loop
from nnx.backends.cupy.cublaslt import CuBlasLt, Matmul
from nnx.backends.cupy.gpu import Gpu
from nnx.backends.cupy.program import CudaProgram
from nnx.backends.cupy.rendering import render_step
from nnx.backends.cupy.streams import Plan, planned
from nnx.train.step import initial_state, training_step

pytestmark = needs_compiler


@pytest.fixture
def gpu(monkeypatch):
    """The backend and the module of CuPy."""
    backend, cupy, _ = installed(monkeypatch)
    return backend, cupy


def counted(cupy, call):
    """What a call asks of the GPU: launches of graphs, kernels, copies."""
    before = cupy.launches, cupy.calls, cupy.copies
    call()
    return tuple(
        now - then for now, then in zip((cupy.launches, cupy.calls, cupy.copies), before, strict=True)
    )


# ------------------------------------------------------------------------------------------ what the host asks for


def test_a_step_is_one_launch_and_no_copy(gpu):
    backend, cupy = gpu
    step, state, data = made("softmax", backend)
    program = loaded(backend, step, state)
    program.run(data, None, 0, 10, 2)  # the first step by itself, the second captured
    assert counted(cupy, lambda: program.run(data, None, 0, 10, 30)) == (
        30,
        1,
        1,
    )  # one kernel and one copy to begin
    program.snapshot()
    assert counted(cupy, lambda: program.run(data, None, 0, 10, 30)) == (
        30,
        1,
        0,
    )  # the snapshot is the way back


def test_a_first_step_by_itself_is_no_graph(gpu):
    backend, cupy = gpu
    step, state, data = made("softmax", backend)
    program = loaded(backend, step, state)
    program.run(data, None, 0, 10, 1)
    assert cupy.launches == 0
    program.run(data, None, 0, 10, 1)
    assert cupy.launches == 1


def test_other_numbers_of_samples_compile_nothing(gpu):
    backend, cupy = gpu
    step, state, data = made("softmax", backend)
    program = loaded(backend, step, state)
    program.run(data, None, 0, 16, 3)
    compiled = len(cupy.compiled)
    for m in (2, 7, 48, 50):
        program.run(data, None, 0, m, 1)
    assert len(cupy.compiled) == compiled
    before = program.read()
    Js = program.run(data, backend.asarray(np.arange(50)), 0, 49, 1)
    after, expected = one_by_one(step, before, data, backend.asarray(np.arange(50)), 0, 49, 1)
    np.testing.assert_allclose(Js[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(program.read()["theta"], after["theta"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", long_but_for(["int32", "int64", "uint8"], "int32"))
def test_an_order_of_several_epochs(gpu, dtype):
    backend, cupy = gpu
    step, state, data = made("numbers", backend, weights=True)
    order = np.concatenate([np.random.default_rng(k).permutation(50) for k in range(3)]).astype(dtype)
    program = loaded(backend, step, state)
    Js = program.run(data, backend.asarray(order), 0, 10, 15)
    expected, costs = one_by_one(step, state, data, backend.asarray(order.astype("int64")), 0, 10, 15)
    np.testing.assert_allclose(Js, np.array(costs), rtol=1e-5)
    np.testing.assert_allclose(program.read()["theta"], expected["theta"], rtol=1e-4, atol=1e-6)
    assert cupy.launches == 14


@pytest.mark.parametrize("layout", long_but_for(["rows", "columns", "every other"], "every other"))
def test_samples_of_any_layout(gpu, layout):
    backend, _ = gpu
    step, state, (X, Y, w) = made("numbers", backend)
    given = {"rows": lambda x: np.ascontiguousarray(x), "columns": np.asfortranarray}.get(layout)
    if given is None:
        X, Y = (np.repeat(np.repeat(x, 2, 0), 2, 1).view(type(X))[::2, ::2] for x in (X, Y))
    else:
        X, Y = (given(x).view(type(X)) for x in (X, Y))
    program = loaded(backend, step, state)
    Js = program.run((X, Y, w), None, 0, 10, 5)
    _, costs = one_by_one(step, state, (X, Y, w), None, 0, 10, 5)
    np.testing.assert_allclose(Js, np.array(costs), rtol=1e-5)


def test_derivatives_of_weights_are_beside_those_of_activations(gpu):
    """Of 784-512-512-10: the products for dA and dW[1] on one stream, the other dW, J and Adam's numbers beside."""
    backend, _ = gpu
    network, optimizer = nnx.mlp([784, 512, 512, 10]), nnx.Adam()
    state = initial_state(network, optimizer, backend.asarray(network.init(0)))
    data = backend.asarray(np.ones((784, 128), "float32")), backend.asarray(np.zeros(128, "int64")), None
    step = render_step(training_step(network, optimizer), state, data, 128)
    plan = planned(step.after, [calls.seconds(call) for call in step.calls])
    beside = [call for call, away in zip(step.calls, plan.beside, strict=True) if away]
    products = [(x.m, x.n, x.k) for x in beside if hasattr(x, "k")]
    assert sorted(products) == [(512, 10, 128), (512, 512, 128)]  # dW[3], dW[2]
    assert len(beside) - len(products) >= 2


@pytest.mark.parametrize("weights", [False, pytest.param(True, marks=pytest.mark.long)])
def test_steps_on_all_samples_read_them_where_they_are(gpu, weights):
    backend, cupy = gpu
    step, state, data = made("numbers", backend, m=500, weights=weights)
    program = loaded(backend, step, state)
    working = cupy.used
    program.run(data, None, 0, 500, 3)
    picked = loaded(backend, step, state)
    middle = cupy.used
    order = backend.asarray(np.arange(500))
    picked.run(data, order, 0, 500, 1)
    assert (cupy.used - middle) - (middle - working) > data[0].nbytes / 2
    expected, costs = one_by_one(step, state, data, None, 0, 500, 3)
    np.testing.assert_allclose(program.read()["theta"], expected["theta"], rtol=1e-4, atol=1e-6)
    others = tuple(None if x is None else backend.asarray(np.array(x) * 2) for x in data)  # elsewhere
    Js = program.run(others, None, 500, 500, 2)
    _, costs = one_by_one(step, expected, others, None, 500, 500, 2)
    np.testing.assert_allclose(Js, np.array(costs), rtol=1e-5)


def test_batches_that_come_one_by_one_have_one_graph(gpu, monkeypatch):
    backend, cupy = gpu
    step, state, data = made("softmax", backend)
    program, rendered, held = loaded(backend, step, state), [], []
    monkeypatch.setattr(
        "nnx.backends.cupy.program.render_step", lambda *a: rendered.append(a) or render_step(*a)
    )
    for _ in range(6):
        held.append(tuple(None if x is None else backend.asarray(np.array(x)) for x in data))
        program.run(held[-1], None, 0, 50, 1)
    assert len(rendered) == 1
    assert cupy.launches == 5
    for _ in range(3):  # the same samples again: they are read where they are
        program.run(data, None, 0, 50, 1)
    assert len(rendered) == 2


@needs_nvrtc
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90", "sm_100"])
def test_the_whole_source_of_a_step_compiles(gpu, architecture):
    backend, _ = gpu
    step, state, data = made("softmax", backend)
    whole = loop.with_loop(render_step(step, state, data, 10))
    prelude = calls.PRELUDE.read_text(encoding="utf-8")
    for source in (prelude + whole.source, loop.SOURCE + loop.MEMBERS):
        log = compiled(source, architecture)
        spills = [int(n) for n in re.findall(r"(\d+) bytes spill stores", log)]
        assert max(spills) == 0
        assert len(spills) >= 5


# --------------------------------------------------------------------------------------------- what must not be lost


class Interrupted:
    """Raises an interrupt at one of the launches, or does something else there."""

    def __init__(self, cupy, at, call):
        self.cupy, self.at, self.call, self.choose = cupy, at, call, cupy.choose

    def __call__(self, ready):
        if self.cupy.launches == self.at:
            self.at = -1
            self.call()
        return self.choose(ready)


def interrupt():
    raise KeyboardInterrupt


def test_an_interrupted_run_changes_nothing(gpu):
    backend, cupy = gpu
    step, state, data = made("softmax", backend)
    program = loaded(backend, step, state)
    program.run(data, None, 0, 10, 5)
    for snapshot in (False, True, False):
        before = on_host(backend, program.read())
        if snapshot:
            program.snapshot()
        cupy.choose = Interrupted(cupy, cupy.launches + 3, interrupt)
        with pytest.raises(KeyboardInterrupt):
            program.run(data, None, 0, 10, 5)
        same(on_host(backend, program.read()), before)
        again = [float(J) for J in program.run(data, None, 0, 10, 5)]
        expected = loaded(backend, step, {name: backend.asarray(x) for name, x in before.items()})
        assert again == [float(J) for J in expected.run(data, None, 0, 10, 5)]
        same(on_host(backend, program.read()), on_host(backend, expected.read()))


def test_an_interrupt_while_a_stream_captures(gpu):
    backend, cupy = gpu
    step, state, data = made("softmax", backend)
    program, do, asked = loaded(backend, step, state), cupy.do, []

    def interrupted(call):
        if cupy.cuda.get_current_stream().graph is not None:
            asked.append(call)
            if len(asked) == 4:
                raise KeyboardInterrupt
        do(call)

    cupy.do = interrupted
    with pytest.raises(KeyboardInterrupt):
        program.run(data, None, 0, 10, 5)
    same(on_host(backend, program.read()), on_host(backend, state))
    Js = program.run(data, None, 0, 10, 5)
    expected, costs = one_by_one(step, state, data, None, 0, 10, 5)
    np.testing.assert_allclose(Js, np.array(costs), rtol=1e-5)
    assert cupy.launches == 5
    np.testing.assert_allclose(program.read()["theta"], expected["theta"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("call", ["begin_capture", "end_capture"])
def test_an_interrupt_leaves_no_stream_capturing(gpu, monkeypatch, call):
    backend, cupy = gpu
    step, state, data = made("softmax", backend)
    program, asked = loaded(backend, step, state), getattr(Stream, call)

    def interrupted(self):
        monkeypatch.setattr(Stream, call, asked)
        asked(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(Stream, call, interrupted)
    with pytest.raises(KeyboardInterrupt):
        program.run(data, None, 0, 10, 5)
    assert [stream for stream in cupy.streams.values() if stream.graph is not None] == []
    program.run(data, None, 0, 10, 5)
    assert cupy.launches == 5


def test_an_interrupt_between_calls_joins_the_streams(gpu, monkeypatch):
    backend, cupy = gpu
    step, state, data = made("softmax", backend)
    program, do, wait = loaded(backend, step, state), cupy.do, Stream.wait_event
    asked, waits = [], []

    def interrupted(call):
        asked.append(cupy.cuda.get_current_stream())
        do(call)
        if len(asked) > 5 and asked[-1] is not cupy.null:
            raise KeyboardInterrupt

    monkeypatch.setattr(Stream, "wait_event", lambda self, event: waits.append(self) or wait(self, event))
    monkeypatch.setattr(cupy, "do", interrupted)
    with pytest.raises(KeyboardInterrupt):
        program.run(data, None, 0, 10, 1)
    assert asked[-1] is not cupy.null
    assert waits[-1] is cupy.null


def test_a_handler_reads_the_state_before_the_run(gpu):
    backend, cupy = gpu
    step, state, data = made("softmax", backend)
    program = loaded(backend, step, state)
    program.run(data, None, 0, 10, 5)
    before, found = on_host(backend, program.read()), []

    def handler():
        found.append(on_host(backend, program.read()))
        program.snapshot()

    cupy.choose = Interrupted(cupy, cupy.launches + 3, handler)
    program.run(data, None, 0, 10, 5)
    same(found[0], before)
    after = on_host(backend, program.read())
    assert int(after["t"]) == 10
    program.rollback()
    same(on_host(backend, program.read()), before)


def test_a_handler_reads_the_state_while_a_stream_captures(gpu, monkeypatch):
    backend, _ = gpu
    step, state, data = made("softmax", backend)
    program, found = loaded(backend, step, state), []
    planned_wait = calls.Calls.enqueue

    def enqueue(self, stream, addresses):
        planned_wait(self, stream, addresses)
        found.append(on_host(backend, program.read()))

    monkeypatch.setattr(calls.Calls, "enqueue", enqueue)
    program.run(data, None, 0, 10, 4)
    assert len(found) == 2  # the first step, and the capture
    for one in found:
        same(one, on_host(backend, state))
    assert int(program.read()["t"]) == 4


def test_a_call_waits_for_those_of_other_streams_and_threads(gpu):
    """A thread reads the samples ahead: its stream is the null stream, whatever the caller's is."""
    backend, cupy = gpu
    step, state, data = made("softmax", backend)
    program, waited, ends = loaded(backend, step, state), [], []
    other = cupy.cuda.Stream(non_blocking=True)
    other.wait_event = lambda event: waited.append(event)

    def read():
        backend.asarray(np.ones(2))
        ends.append(backend.gpu._ends[threading.get_ident(), cupy.null.ptr])

    thread = threading.Thread(target=read)
    thread.start()
    thread.join()
    with other:
        program.run(data, None, 0, 10, 1)
    assert set(ends) < set(waited)


def test_no_thread_asks_for_algorithms_while_another_one_captures(gpu, monkeypatch):
    backend, cupy = gpu
    step, state, data = made("softmax", backend)
    one, other = (loaded(backend, step, state) for _ in range(2))
    capturing, asked, find = threading.Event(), [], Matmul.algorithms
    begin = Stream.begin_capture

    def begun(self):
        begin(self)
        capturing.set()
        thread.join(0.2)  # it would come by now

    def algorithms(self, *arguments):
        found = find(self, *arguments)
        asked.append(cupy.streams[one._gpu.streams[0].ptr].graph)
        return found

    def run():
        capturing.wait()
        monkeypatch.setattr(Matmul, "algorithms", algorithms)
        other.run(data, None, 0, 10, 1)

    monkeypatch.setattr(Stream, "begin_capture", begun)
    thread = threading.Thread(target=run)
    thread.start()
    one.run(data, None, 0, 10, 3)
    thread.join()
    assert asked == [None] * len(asked)
    assert len(asked) == 5


@pytest.mark.parametrize("order", ["as asked", "last first", "any"])
def test_a_missing_wait_is_seen(monkeypatch, order):
    """The stand-in does the calls of a graph in several orders: one of them shows a wait that was left out."""
    backend, _, _ = installed(monkeypatch, order=order)
    step, state, data = made("softmax", backend)

    def costs():
        program = loaded(backend, step, state)
        return [float(J) for J in program.run(data, None, 0, 10, 6)]

    right = costs()

    def without_waits(after, weights):
        plan = planned(after, weights)
        first = next(k for k, wait in enumerate(plan.waits) if wait is not None and not plan.beside[k])
        return Plan(plan.beside, tuple(None if k >= first else wait for k, wait in enumerate(plan.waits)))

    monkeypatch.setattr(calls, "planned", without_waits)
    wrong = costs()
    assert (right == wrong) == (order == "as asked")


# ------------------------------------------------------------------------------------------------------- all of nnx


@pytest.mark.long
def test_a_trainer_on_the_stand_in(gpu):
    """Fitting, validation, metrics and predictions; the whole is equal to NumPy's up to rounding."""
    backend, cupy = gpu
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((70, 8), np.float32).T, rng.integers(0, 3, 70)
    found = []
    for which in (backend, "numpy"):
        trainer = nnx.Trainer(nnx.mlp([8, 16, 3]), nnx.Adam(0.01), backend=which, seed=1)
        history = trainer.fit(X, y, epochs=6, batch_size=16, validation=(X, y))
        found.append((history["loss"], history["validation_loss"], trainer.theta, trainer.predict(X)))
    assert cupy.launches > 20
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.long
def test_products_in_fewer_digits(monkeypatch):
    """Another precision changes results a little, and the products alone."""
    results = {}
    for precision in ("float32", "tf32", "bfloat16"):
        backend, cupy, library = installed(monkeypatch)
        step, state, data = made("softmax", backend)
        program = CudaProgram(step, Gpu(cupy, cupy.cuda.Device(), CuBlasLt(library, "90")), precision)
        program.load(state)
        results[precision] = float(program.run(data, None, 0, 10, 1)[0])
        assert library.products == 5
    exact = results.pop("float32")
    errors = {name: abs(x - exact) / exact for name, x in results.items()}
    assert 0 < errors["tf32"] < 1e-3
    assert errors["tf32"] < errors["bfloat16"] < 1e-2
