"""The port, the choice of a backend, and adapters from elsewhere."""

import ast
import importlib
import logging
import subprocess
import sys
import textwrap
import threading
import types
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import nnx
from nnx.port import registry
from nnx.train.step import initial_state, training_step


def test_asarray_and_to_numpy_are_inverse(backend):
    for x in (np.arange(6.0).reshape(2, 3).T, np.arange(3), np.float64(2.5), np.array([True, False])):
        found = backend.to_numpy(backend.asarray(x))
        assert isinstance(found, np.ndarray)
        np.testing.assert_array_equal(found, x)
    for dtype in ("float32", "float64", "int32"):
        assert backend.to_numpy(backend.asarray([[1, 2]], dtype)).dtype == dtype


def test_arrays_come_from_every_other_backend(backend):
    seen = []
    for name in ("numpy", "torch", "jax", "strict"):
        try:
            other = nnx.backend(name)
        except nnx.BackendError:
            continue
        seen.append(name)
        x = other.asarray([[1.0, 2.0], [3.0, 4.0]], "float32")
        found = backend.to_numpy(backend.asarray(x, "float64"))
        np.testing.assert_array_equal(found, [[1.0, 2.0], [3.0, 4.0]])
        assert found.dtype == np.float64
    if len(seen) < 2:
        pytest.skip("only NumPy is installed")


def test_the_rest_of_the_port(backend):
    assert backend.name in registry.names()
    library, detail = registry.described(backend)
    assert library.split()[0] == backend.name
    assert library.split()[1][0].isdigit()
    assert detail
    assert backend.describe() == f"{library} on {backend.device}: {detail}"
    assert backend.device in repr(backend)
    x = backend.asarray(1.0, "float32")  # a GPU may hold nothing else
    memory = backend.memory()
    assert memory.in_use > 0
    assert memory.peak >= memory.in_use
    assert memory.free is None or memory.free > 0
    step = backend.compile(lambda state, batch: ({"x": state["x"] + batch}, state["x"]))
    state, before = step({"x": x}, x)
    assert (float(state["x"]), float(before)) == (2.0, 1.0)


@pytest.fixture
def no_gpu(monkeypatch):
    """Neither a driver nor CuPy is installed."""
    monkeypatch.setattr(registry, "has_driver", lambda: False)
    monkeypatch.setitem(sys.modules, "cupy", None)


@pytest.fixture
def no_driver(monkeypatch):
    """A CuPy that imports, but cannot compute, as on a machine without a driver."""

    class CUDARuntimeError(RuntimeError):
        pass

    def device(number=None):
        raise CUDARuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient")

    cuda = types.SimpleNamespace(Device=device, runtime=types.SimpleNamespace())
    cupy = types.SimpleNamespace(__version__="14.2.0", cuda=cuda)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setitem(sys.modules, "array_api_compat.cupy", types.ModuleType("array_api_compat.cupy"))
    monkeypatch.setattr(registry, "has_driver", lambda: False)


def test_auto_falls_back_to_numpy_and_says_why_once(no_gpu, caplog, monkeypatch):
    monkeypatch.setattr(registry, "_logged", set())
    with caplog.at_level(logging.INFO, logger="nnx"):
        for _ in range(3):
            assert nnx.backend("auto").name == "numpy"
    (record,) = caplog.records
    assert "backend numpy on cpu: no usable CUDA GPU" in record.message
    with pytest.raises(nnx.BackendError, match=r"pip install .*\[cuda13\]"):
        nnx.backend("cupy")


def test_auto_does_not_take_a_cupy_that_cannot_compute(no_driver, monkeypatch):
    monkeypatch.setattr(registry, "has_driver", lambda: True)
    monkeypatch.setattr(registry, "ON_GPU", {"cupy": "alone"})
    made, reason = registry.choose("auto")
    assert made.name == "numpy"
    assert "CuPy 14.2.0 is installed, but cannot compute on cuda (cudaErrorInsufficientDriver" in reason


class Begun(nnx.Callback):
    """Ends a fit before its first step."""

    def on_fit_start(self, trainer, epochs):
        raise KeyboardInterrupt


def begun(epochs, **wish):
    """A trainer whose fit has just begun: 500 samples, 10 a step, 8,448 parameters."""
    trainer = nnx.Trainer(nnx.mlp([64, 64, 64, 2]), **wish)
    assert trainer.backend.name == wish.get("backend", "numpy")
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(np.zeros((64, 500)), np.zeros(500, int), epochs, 10, callbacks=Begun())
    return trainer


LONG = 2_000
"""Epochs of 500 samples that are worth the compilation."""


def test_auto_takes_numba_where_the_work_is_worth_it(no_gpu, monkeypatch):
    pytest.importorskip("numba")
    assert begun(100).backend.name == "numpy"
    trainer = begun(LONG)
    assert trainer.backend.name == "numba"
    assert "no usable CUDA GPU" in trainer.reason
    assert "long enough to let numba compile it" in trainer.reason
    assert begun(LONG, device="cpu").backend.name == "numba"
    assert begun(LONG, backend="numpy").backend.name == "numpy"
    assert nnx.backend("auto").name == "numpy"
    monkeypatch.setenv("NNX_BACKEND", "numpy")
    assert begun(LONG).backend.name == "numpy"
    monkeypatch.delenv("NNX_BACKEND")
    monkeypatch.setitem(sys.modules, "numba", None)
    assert begun(LONG).backend.name == "numpy"
    with pytest.raises(nnx.BackendError, match=r"python -m pip install .*\[numba\]\""):
        begun(1, backend="numba")


def trainer_and_samples(monkeypatch, epochs):
    """A trainer for which "auto" takes numba from so many epochs on, of 40 samples in 4 steps, and these samples."""
    pytest.importorskip("numba")
    trainer = nnx.Trainer(nnx.mlp([2, 3, 2]), nnx.Adam(0.05))
    for module in (registry, nnx.train.session):
        monkeypatch.setattr(module, "WORTH", epochs * registry.work(trainer.network.P, 40, 4))
    return trainer, np.random.default_rng(0).standard_normal((2, 40)), np.arange(40) % 2


def test_auto_weighs_the_work_of_all_fits_of_a_trainer(no_gpu, monkeypatch):
    trainer, X, Y = trainer_and_samples(monkeypatch, 2.5)
    expected = nnx.Trainer(nnx.mlp([2, 3, 2]), nnx.Adam(0.05), backend="numpy")
    for name in ("numpy", "numpy", "numba"):
        history = trainer.fit(X, Y, 1, 10)
        assert trainer.backend.name == name
        np.testing.assert_allclose(history["loss"], expected.fit(X, Y, 1, 10)["loss"], rtol=1e-5)


def test_auto_weighs_the_work_that_fits_have_done_also_where_they_were_stopped(no_gpu, monkeypatch):
    trainer, X, Y = trainer_and_samples(monkeypatch, 3.5)

    class Stop(nnx.Callback):
        def on_epoch(self, trainer, progress):
            trainer.stop()

    class Interrupt(nnx.Callback):
        def on_epoch(self, trainer, progress):
            raise KeyboardInterrupt

    trainer.fit(X, Y, 3, 10, callbacks=Stop())  # does one epoch of three
    assert trainer.backend.name == "numpy"
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(X, Y, 2, 10, callbacks=Interrupt())
    assert trainer.backend.name == "numpy"  # 1 and 2
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(X, Y, 2, 10, callbacks=Interrupt())
    assert trainer.backend.name == "numba"  # 2 and 2


def test_small_products_have_one_thread(backend, monkeypatch):
    """And what was set before is set again, whatever happens within."""
    info = pytest.importorskip("threadpoolctl").threadpool_info
    if backend.name not in ("numpy", "torch") or backend.device != "cpu":
        pytest.skip("its threads are its own matter")
    torch = sys.modules.get("torch")

    def threads():
        if backend.name == "torch":
            return {torch.get_num_threads()}
        return {pool["num_threads"] for pool in info() if pool["user_api"] == "blas"}

    before, within = threads(), []
    network, optimizer = nnx.mlp([2, 600, 2]), nnx.Adam()
    state = initial_state(network, optimizer, backend.asarray(network.init(0)))
    data = backend.asarray(np.zeros((2, 20_000), "float32")), backend.asarray(np.arange(20_000) % 2), None
    program = backend.compile(training_step(network, optimizer))
    program.load(state)
    monkeypatch.setattr("nnx.backends.calls.program.give_way", lambda: within.append(threads()))
    program.run(data, None, 0, 10, 5)
    assert within == [{1}] * 5
    assert threads() == before
    within.clear()
    program.run(data, None, 0, 20_000, 1)
    assert within == [before]

    def fail():
        within.append(threads())
        raise KeyboardInterrupt

    within.clear()
    monkeypatch.setattr("nnx.backends.calls.program.give_way", fail)
    with pytest.raises(KeyboardInterrupt):
        program.run(data, None, 0, 10, 5)
    assert within == [{1}]
    assert threads() == before


def test_fits_of_numpy_and_numba_at_once_give_blas_its_threads_back():
    limits = pytest.importorskip("threadpoolctl").threadpool_limits
    blas = importlib.import_module("nnx.support.blas_threads")
    threads = importlib.import_module("nnx.backends.numba.threads")
    with limits(2, "blas"):
        before = blas.get_threads()
        if set(before) != {2}:
            pytest.skip("BLAS has one thread, whatever it is told")
        numba, numpy = threads.FEWER(), blas.one_thread()()
        numba.__enter__()
        numpy.__enter__()
        assert blas.get_threads() == [1] * len(before)
        assert threads.blas_threads() == min(2, nnx.support.limits.cores())
        numba.__exit__(None, None, None)
        numpy.__exit__(None, None, None)
        assert blas.get_threads() == before


def test_an_interrupt_leaves_blas_its_threads_while_its_traceback_lives(monkeypatch):
    """It came when the threads were set, and the block in which they are was not yet entered."""
    limits = pytest.importorskip("threadpoolctl").threadpool_limits
    blas = importlib.import_module("nnx.support.blas_threads")
    entered, call = [], blas.Fewer.__call__

    class Interrupted:
        def __enter__(self):
            entered.append(call(blas.FEWER))
            entered[-1].__enter__()
            raise KeyboardInterrupt

        def __exit__(self, *error):
            raise AssertionError("not entered")

    with limits(2, "blas"):
        before = blas.get_threads()
        if set(before) != {2}:
            pytest.skip("BLAS has one thread, whatever it is told")
        trainer = nnx.Trainer(nnx.mlp([4, 8, 1]), backend="numpy")
        with monkeypatch.context() as patch:
            patch.setattr(blas.Fewer, "__call__", lambda fewer: Interrupted())
            with pytest.raises(KeyboardInterrupt):
                trainer.fit(np.zeros((4, 6)), np.zeros(6))
        assert entered
        assert blas.get_threads() == before
        entered.clear()  # which closes the generator
        assert blas.get_threads() == before
        assert blas.FEWER.idle


@pytest.mark.parametrize("of_thread", [False, True])
def test_a_signals_handler_may_compute_while_the_threads_are_set(monkeypatch, of_thread):
    from nnx.support import blas_threads

    threads, handled = [4], []

    def handler():
        if not handled or handled[-1] == "done":
            handled.append("begun")
            with fewer():
                pass
            handled.append("done")

    def put(counts):
        handler()
        threads[:] = counts

    def enter():
        for _ in range(2):
            with fewer():
                assert threads == [1]

    monkeypatch.setattr(blas_threads, "_all", [])
    fewer = blas_threads.Fewer(lambda: [*threads], put, of_thread)
    thread = threading.Thread(target=enter, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    assert handled.count("done") == 4
    assert threads == [4]
    assert fewer.idle


def test_an_interrupt_while_the_threads_are_set_gives_them_back(monkeypatch):
    from nnx.support import blas_threads

    threads = [4]

    def put(counts):
        threads[:] = counts
        if counts == [1]:
            raise KeyboardInterrupt

    monkeypatch.setattr(blas_threads, "_all", [])
    fewer = blas_threads.Fewer(lambda: [*threads], put)
    with pytest.raises(KeyboardInterrupt), fewer():
        raise AssertionError("not entered")
    assert threads == [4]
    assert fewer.idle


def test_threads_of_a_user_that_fit_at_once_keep_the_number_of_theirs():
    torch = pytest.importorskip("torch")
    before, found = torch.get_num_threads(), []
    adapter, waiting = importlib.import_module("nnx.backends.torch.adapter"), threading.Barrier(3)

    def compute():
        waiting.wait()
        with adapter._one_thread():
            within = torch.get_num_threads()
            waiting.wait()
        waiting.wait()
        found.append((within, torch.get_num_threads()))

    torch.set_num_threads(3)
    try:
        users = [threading.Thread(target=compute) for _ in range(2)]
        for one in users:
            one.start()
        compute()
        for one in users:
            one.join()
    finally:
        torch.set_num_threads(before)
    assert found == [(1, 3)] * 3


def test_an_explicit_wish_is_never_replaced(no_driver, monkeypatch):
    with pytest.raises(nnx.BackendError, match="it needs an NVIDIA GPU and a driver"):
        nnx.backend("cupy")
    for wish in ({"name": "auto", "device": "cuda"}, {"device": "cuda:1"}):
        with pytest.raises(nnx.BackendError, match=r"device='cuda.*': there is no NVIDIA driver"):
            nnx.backend(**wish)
    monkeypatch.setenv("NNX_BACKEND", "cupy")
    with pytest.raises(nnx.BackendError, match="NNX_BACKEND=cupy: backend 'cupy' cannot be used here"):
        nnx.Trainer(nnx.mlp([2, 1]))


def test_cupy_that_is_not_installed(no_gpu):
    with pytest.raises(
        nnx.BackendError, match=r"cupy cannot be imported .* pip install .*\[cuda13\]\", or with cuda12"
    ):
        nnx.backend("cupy")


def test_the_environment_names_the_backend_unless_the_code_does(monkeypatch):
    pytest.importorskip("array_api_strict")
    monkeypatch.setenv("NNX_BACKEND", "strict")
    assert nnx.backend().name == "strict"
    assert nnx.Trainer(nnx.mlp([2, 1])).backend.name == "strict"
    assert nnx.backend("numpy").name == "numpy"
    monkeypatch.setenv("NNX_BACKEND", "auto")
    assert nnx.backend(device="cpu").name == "numpy"


def test_unknown_backends_and_devices():
    with pytest.raises(nnx.InputError, match=r"unknown backend 'nunpy'; did you mean 'numpy'\?"):
        nnx.backend("nunpy")
    for name, device in (("gpu", "cuda"), ("cuda:1", "cuda:1"), ("CPU", "cpu")):
        with pytest.raises(nnx.InputError, match=f"is a device, not a backend: give device='{device}'"):
            nnx.backend(name)
    with pytest.raises(nnx.BackendError, match="NumPy computes on the CPU only; given device='cuda'"):
        nnx.backend("numpy", device="cuda")
    with pytest.raises(nnx.BackendError, match="given device='tpu'"):
        nnx.backend("cupy", device="tpu")
    with suppress(nnx.BackendError):
        nnx.backend("strict")
        with pytest.raises(
            nnx.BackendError, match="warp"
        ):  # an adapter of another package has its own devices
            nnx.backend("strict", device="warp")


def test_a_library_without_cuda_says_how_to_get_it():
    torch = pytest.importorskip("torch")
    if torch.version.cuda is not None:
        pytest.skip("PyTorch has CUDA here")
    with pytest.raises(
        nnx.BackendError, match=r"PyTorch with CUDA: https://pytorch\.org/get-started/locally"
    ):
        nnx.backend("torch", device="cuda")
    with pytest.raises(
        nnx.BackendError, match="computes on 'cpu', 'cuda' or 'cuda:N' only; given device='tpu'"
    ):
        nnx.backend("torch", device="tpu")


def test_jax_says_how_to_get_cuda():
    pytest.importorskip("jax")
    with pytest.raises(nnx.BackendError, match=r'with CUDA: python -m pip install "jax\[cuda13\]"'):
        nnx.backend("jax", device="cuda:99")


@pytest.mark.parametrize("name", ["auto", "numpy", "torch", "jax", "cupy"])
@pytest.mark.parametrize(
    ("device", "meant"),
    [
        ("gpu", "cuda"),
        ("CUDA", "cuda"),
        ("cud", "cuda"),
        ("0", "cuda:0"),
        ("gpu:1", "cuda:1"),
        ("cuda:", "cuda"),
        ("cuda:x", "cuda"),
        ("mps", None),
    ],
)
def test_a_device_that_no_library_has_is_refused_before_one_is_imported(name, device, meant):
    hint = f"; did you mean '{meant}'\\? " if meant else r"\. "
    with pytest.raises(nnx.InputError, match=f"^unknown device '{device}'{hint}Known: cpu, cuda, cuda:1"):
        nnx.backend(name, device=device)


def test_strict_is_never_chosen_by_itself(no_gpu):
    assert nnx.backend().name == "numpy"
    assert nnx.backend(device="cpu").name == "numpy"


def test_survey_has_a_row_for_every_backend(no_driver):
    rows = {row.name: row for row in registry.survey()}
    assert set(rows) >= {"numpy", "cupy", "torch", "jax", "strict"}
    assert rows["numpy"].usable
    assert rows["numpy"].version == np.__version__
    assert not rows["cupy"].usable
    assert "driver" in rows["cupy"].reason


def test_adapters_are_imported_only_when_asked_for():
    code = """
        import sys, nnx
        nnx.backend("numpy")
        libraries = ("cupy", "torch", "jax", "numba", "array_api_strict")
        print([name for name in libraries if name in sys.modules])
        names = [name for name in sys.modules if name.startswith("nnx.backends.")]
        print([name for name in names if name.endswith(".adapter")])
        print(sorted({name.split(".")[2] for name in names}))
    """
    run = [sys.executable, "-c", textwrap.dedent(code)]
    lines = subprocess.run(run, capture_output=True, text=True, check=True).stdout.splitlines()
    libraries, adapters, rooms = map(ast.literal_eval, lines)
    assert libraries == []
    assert adapters == ["nnx.backends.numpy.adapter"]
    assert set(rooms) <= {"calls", "numpy", "numba"}  # numba's threads share BLAS with NumPy's calls


def installed(folder, monkeypatch, package, name, code, target="Adapter"):
    """Let a package with one adapter be on Python's path, as pip installs it."""
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[nnx.backends]\n{name} = {package}:{target}\n")
    (folder / f"{package}.py").write_text(code)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, package, raising=False)
    importlib.invalidate_caches()


def test_a_third_partys_adapter_from_the_docs(tmp_path, monkeypatch):
    """The example of docs/adapter.md, installed as a package of its own."""
    text = (Path(__file__).parent.parent / "docs" / "adapter.md").read_text(encoding="utf-8")
    code = text.split("```python\n# nnx_timed.py\n")[1].split("```")[0]
    entry = text.split("```toml\n")[1].split("```")[0]
    section, line = entry.strip().splitlines()[-2:]
    assert section == '[project.entry-points."nnx.backends"]'
    name, module, target = line.replace('"', "").replace(" = ", ":").split(":")
    assert module == "nnx_timed"
    installed(tmp_path, monkeypatch, module, name, code, target)
    assert "timed" in registry.names()
    trainer = nnx.Trainer(nnx.mlp([3, 4, 1]), backend="timed")
    trainer.fit(np.ones((3, 8)), np.zeros(8), epochs=5)
    program = sys.modules["nnx_timed"].TimedProgram
    assert program.steps == 5
    assert program.seconds > 0
    assert any(row.name == "timed" and row.usable for row in registry.survey())
    with pytest.raises(nnx.DivergenceError):  # and no warning of NumPy's, which would be an error here
        nnx.Trainer(nnx.mlp([3, 1], output="identity"), nnx.GradientDescent(1e30), backend="timed").fit(
            np.ones((3, 8)), np.ones(8), epochs=5, batch_size=4
        )


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import there_is_no_such_module", "ModuleNotFoundError: .*there_is_no_such_module"),
        ("def Adapter(): pass", "TypeError: .*takes 0 positional arguments"),
        ("def Adapter(device): raise OSError('libfoo.so is missing')", "OSError: libfoo.so is missing"),
        ("class Adapter:\n    def __init__(self, device): pass", "lacks name, device, xp"),
    ],
)
def test_an_adapter_that_fails_says_so_and_hides_no_other(tmp_path, monkeypatch, code, message):
    installed(tmp_path, monkeypatch, "nnx_broken", "broken", code)
    with pytest.raises(nnx.BackendError, match=f"backend 'broken' .*{message}"):
        nnx.backend("broken")
    rows = {row.name: row.usable for row in registry.survey()}
    assert rows["numpy"]
    assert not rows["broken"]


def test_no_package_takes_the_place_of_a_backend_of_nnx(tmp_path, monkeypatch):
    installed(tmp_path, monkeypatch, "another", "numpy", "def Adapter(device): return None")
    assert type(nnx.backend("numpy")).__module__ == "nnx.backends.numpy.adapter"
    assert registry.names().count("numpy") == 1
    assert [row.usable for row in registry.survey() if row.name == "numpy"] == [True]


def test_two_packages_with_one_backend(tmp_path, monkeypatch):
    for package in ("one_package", "another"):
        installed(tmp_path, monkeypatch, package, "twice", "def Adapter(device): return None")
    with pytest.raises(nnx.BackendError, match="several packages have a backend 'twice'") as error:
        nnx.backend("twice")
    for package in ("one_package", "another"):
        assert f"{package} ({package}:Adapter)" in str(error.value)
    (row,) = [row for row in registry.survey() if row.name == "twice"]
    assert not row.usable
    assert "several packages" in row.reason


def test_a_backend_has_its_device_already():
    with pytest.raises(nnx.InputError, match="has its device already"):
        nnx.Trainer(nnx.mlp([2, 1]), backend=nnx.backend("numpy"), device="cuda:3")


def test_autograd_is_off_in_a_program():
    torch = pytest.importorskip("torch")
    assert nnx.backend("torch").compile(lambda: torch.is_grad_enabled())() is False


def test_arrays_that_torch_cannot_share(backend):
    """Read-only, reversed, big-endian, long and strided memory: whatever NumPy has goes to every library."""
    whole = np.arange(6.0)
    readonly = whole.copy()
    readonly.flags.writeable = False
    fields = np.zeros(3, [("a", "f8"), ("b", "i1")])["a"]
    trainer = nnx.Trainer(nnx.mlp([1, 1], output="identity"), backend=backend, dtype="float64")
    for x in (readonly, whole[::-1], whole.astype(">f8"), whole.astype("longdouble"), whole[::2], fields):
        expected = nnx.Trainer(trainer.network, backend="numpy", dtype="float64").predict(x[None, :])
        np.testing.assert_allclose(trainer.predict(x[None, :]), expected, rtol=1e-12)


LATER = """
import numpy as np, nnx
from threadpoolctl import threadpool_info
from nnx.backends.numba import threads
X, Y = np.zeros((2, 20)), np.arange(20) % 2
nnx.Trainer(nnx.mlp([2, 3, 2]), backend="numpy").fit(X, Y, 1, 10)  # SciPy's BLAS is not loaded yet
nnx.backend("numba")
with threads.FEWER():
    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
print(len(pools), sorted({pool["num_threads"] for pool in pools}))
"""


@pytest.mark.needs("numba")
def test_a_blas_that_is_loaded_later_has_one_thread_in_compiled_steps_too():
    done = subprocess.run([sys.executable, "-c", LATER], capture_output=True, text=True, check=True)
    count, threads = done.stdout.split(maxsplit=1)
    assert int(count) >= 1
    assert threads.strip() == "[1]"
