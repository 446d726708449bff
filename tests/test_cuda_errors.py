"""What CuPy's backend says where it cannot compute: no driver, too little memory, a GPU that is lost. On a stand-in."""

import logging

import numpy as np
import pytest
from cuda_kernels_on_host import needs_compiler
from cupy_on_host import CUDARuntimeError, OutOfMemoryError, installed
from program_cases import loaded, made, on_host, one_by_one, same

import nnx
from nnx.backends.cupy.adapter import CuPy
from nnx.backends.cupy.rendering import render_step
from nnx.backends.cupy.resident import step_bytes
from nnx.support import processes
from nnx.train.step import initial_state, training_step

pytestmark = needs_compiler


@pytest.fixture
def gpu(monkeypatch):
    """The backend and the module of CuPy."""
    backend, cupy, _ = installed(monkeypatch)
    return backend, cupy


@pytest.mark.long
def test_too_little_memory_names_the_bytes_and_a_batch_that_fits(monkeypatch):
    backend, cupy, _ = installed(monkeypatch)
    backend.gpu.lt.workspace = 1024
    network, optimizer = nnx.mlp([20, 300, 5]), nnx.Adam()
    step = training_step(network, optimizer)
    state = initial_state(network, optimizer, backend.asarray(network.init(0)))
    data = backend.asarray(np.ones((20, 4000), "float32")), backend.asarray(np.zeros(4000, "int64")), None
    program = loaded(backend, step, state)
    asked = step_bytes(render_step(step, state, data, 4000))
    cupy.limit = cupy.used + asked // 2
    before = on_host(backend, program.read())
    with pytest.raises(
        MemoryError, match=r"a step on 4000 samples needs 1[0-9.]* MB .* are free; a batch_size of \d+ fits"
    ) as raised:
        program.run(data, None, 0, 4000, 1)
    same(on_host(backend, program.read()), before)
    most = int(str(raised.value).partition("batch_size of ")[2].split()[0])
    assert 1500 < most < 2000
    cupy.pool_limit, cupy.limit = cupy.limit, 1 << 30
    assert backend.gpu.free_bytes == cupy.pool_limit - cupy.held
    program.run(data, None, 0, most, 1)
    assert int(program.read()["t"]) == 1


@pytest.mark.parametrize("where", ["RawModule", "cuda.Stream"])
def test_too_little_memory_beside_the_pools(gpu, monkeypatch, where):
    """CUDA needs some for a module, a stream and a graph; CuPy's pool knows nothing of it."""
    backend, cupy = gpu
    step, state, data = made("softmax", backend)
    program = loaded(backend, step, state)

    def none_left(*_, **__):
        raise CUDARuntimeError("cudaErrorMemoryAllocation: out of memory", 2)

    with monkeypatch.context() as changed:
        changed.setattr(cupy if where == "RawModule" else cupy.cuda, where.rpartition(".")[2], none_left)
        with pytest.raises(
            MemoryError, match=r"of which .* are free, but not in the pieces .*cudaErrorMemoryAllocation"
        ):
            program.run(data, None, 0, 10, 3)
    program.run(data, None, 0, 10, 3)
    assert int(program.read()["t"]) == 3


def test_a_step_that_cannot_be_rendered_runs_as_it_is_and_the_log_says_why(gpu, caplog):
    backend, cupy = gpu

    def step(state, batch):
        xp = nnx.array_namespace(batch[0])
        return {"x": state["x"] + xp.sum(xp.sort(batch[0]))}, xp.sum(state["x"])

    program = loaded(backend, step, {"x": backend.asarray(np.ones(3, "float32"))})
    data = backend.asarray(np.ones((1, 8), "float32")), backend.asarray(np.ones(8, "float32")), None
    with caplog.at_level(logging.INFO, logger="nnx"):
        Js = program.run(data, None, 0, 4, 2)
    assert [float(J) for J in Js] == [3, 15]
    assert cupy.launches == 0
    (text,) = caplog.messages
    assert "runs as single operations" in text
    assert "sort" in text


def test_a_gpu_that_is_lost_is_told(gpu, monkeypatch):
    backend, cupy = gpu
    step, state, data = made("softmax", backend)
    program = loaded(backend, step, state)
    program.run(data, None, 0, 10, 3)

    def lost(ready):
        raise CUDARuntimeError("cudaErrorIllegalAddress: an illegal memory access was encountered")

    cupy.choose = lost
    with pytest.raises(
        nnx.BackendError, match=r"the GPU failed .*IllegalAddress.*checkpoint, which is whole"
    ):
        program.run(data, None, 0, 10, 3)

    def asnumpy(x):
        lost([])

    monkeypatch.setattr(cupy, "asnumpy", asnumpy)
    with pytest.raises(nnx.BackendError, match=r"the GPU failed .*IllegalAddress"):
        backend.to_numpy(program.read("t")["t"])


def test_a_capture_that_is_refused_leaves_calls(gpu, monkeypatch, caplog):
    backend, cupy = gpu
    step, state, data = made("softmax", backend)
    program = loaded(backend, step, state)

    def refused(self):
        raise CUDARuntimeError("cudaErrorStreamCaptureUnsupported: operation not permitted")

    monkeypatch.setattr("cupy_on_host.Stream.begin_capture", refused)
    with caplog.at_level(logging.INFO, logger="nnx"):
        Js = program.run(data, None, 0, 10, 5)
    expected, costs = one_by_one(step, state, data, None, 0, 10, 5)
    np.testing.assert_allclose(Js, np.array(costs), rtol=1e-5)
    np.testing.assert_allclose(program.read()["theta"], expected["theta"], rtol=1e-4, atol=1e-6)
    assert cupy.launches == 0
    (text,) = caplog.messages
    assert "no CUDA graph, and runs call by call: cudaErrorStreamCaptureUnsupported" in text


def test_a_fork_is_refused(gpu, monkeypatch):
    backend, _ = gpu
    step, state, data = made("softmax", backend)
    program = loaded(backend, step, state)
    monkeypatch.setattr(processes, "_generation", processes.generation() + 1)
    for call in (
        lambda: program.load(state),
        lambda: program.read(),
        lambda: program.run(data, None, 0, 10, 1),
        lambda: program.snapshot(),
        lambda: program.finite,
        lambda: program(state, data),
        lambda: backend.asarray(np.ones(2)),
        lambda: backend.to_numpy(state["t"]),
        lambda: backend.compile(step),
    ):
        with pytest.raises(nnx.BackendError, match="CUDA was used before this process was forked"):
            call()


def broken(cupy, error):
    """A CuPy that cannot compute."""

    def ones(shape):
        raise error

    cupy.ones = ones


def test_a_driver_that_is_missing_or_too_old(monkeypatch):
    _, cupy, _ = installed(monkeypatch)
    broken(cupy, CUDARuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient"))
    cupy.cuda.runtime.driverGetVersion = lambda: 0
    with pytest.raises(
        nnx.BackendError, match=r"cannot compute on cuda \(there is no NVIDIA driver\); install one"
    ):
        CuPy()
    cupy.cuda.runtime.driverGetVersion = lambda: 12040
    with pytest.raises(
        nnx.BackendError, match=r"driver is for CUDA 12.4, and CuPy for CUDA 13.2\); update .*cuda12"
    ):
        CuPy()
    cupy.cuda.runtime.driverGetVersion = lambda: 13000
    with pytest.raises(nnx.BackendError, match=r"cuda:0 \(cudaErrorInsufficientDriver"):
        CuPy("cuda:0")


def test_a_gpu_that_is_not_there(monkeypatch):
    _, cupy, _ = installed(monkeypatch)
    broken(cupy, CUDARuntimeError("cudaErrorInvalidDevice: invalid device ordinal"))
    with pytest.raises(
        nnx.BackendError, match=r"on cuda:3 \(CUDA finds cuda:0 only here\); ask for one of these"
    ):
        CuPy("cuda:3")
    cupy.cuda.runtime.getDeviceCount = lambda: 3
    with pytest.raises(nnx.BackendError, match=r"CUDA finds cuda:0 to cuda:2 here"):
        CuPy("cuda:3")


def test_nvrtc_is_missing(monkeypatch):
    _, cupy, _ = installed(monkeypatch)
    broken(cupy, RuntimeError("something about libnvrtc"))

    def version():
        raise RuntimeError('Failure finding "libnvrtc.so.13": No such file\nand more')

    cupy.cuda.nvrtc.getVersion = version
    with pytest.raises(
        nnx.BackendError, match=r"NVRTC, CUDA's compiler, cannot be loaded: Failure .*; install it: .*cuda13"
    ):
        CuPy()


def test_cublaslt_is_missing(monkeypatch):
    installed(monkeypatch)

    def library():
        raise nnx.BackendError("cuBLASLt cannot be loaded")

    monkeypatch.setattr("nnx.backends.cupy.adapter.library", library)
    with pytest.raises(nnx.BackendError, match="cuBLASLt cannot be loaded"):
        CuPy()


def test_all_backends_on_a_gpu_share_one_handle(gpu):
    backend, _ = gpu
    lts = backend.gpu.lt, CuPy().gpu.lt, CuPy(precision="tf32").gpu.lt
    assert len(set(map(id, lts))) == 1


def test_a_gpu_that_is_too_old(monkeypatch):
    _, cupy, _ = installed(monkeypatch)
    cupy.cuda.Device.compute_capability = "61"
    with pytest.raises(
        nnx.BackendError, match=r"a GPU of NumPy has compute capability 6.1\); nnx needs 7.0 or newer"
    ):
        CuPy()


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
def test_a_gpu_without_a_precision(gpu, precision):
    _, cupy = gpu
    cupy.cuda.Device.compute_capability = "75"
    with pytest.raises(nnx.BackendError, match=rf"CuPy on cuda:0 has no products in {precision}.* 8.0 or n"):
        CuPy(precision=precision)
    assert CuPy(precision="float32").precision == "float32"
    cupy.cuda.Device.compute_capability = "80"
    assert CuPy(precision=precision).precision == precision


def test_a_gpu_that_is_too_old_for_cuda_13(gpu):
    _, cupy = gpu
    cupy.cuda.Device.compute_capability = "70"
    with pytest.raises(
        nnx.BackendError, match=r"compute capability 7.0, and CUDA 13 needs 7.5 .*install .*\[cuda12\]"
    ):
        CuPy()
    cupy.cuda.runtime.runtimeGetVersion = lambda: 12090
    assert CuPy().device == "cuda:0"


def test_a_library_of_cuda_is_missing(gpu):
    _, cupy = gpu
    broken(cupy, ImportError('Failure finding "libcublas.so.13": No such file\nand more'))
    said = r"a library of CUDA cannot be loaded: Failure .*libcublas.*\); install it: .*\[cuda13\]"
    with pytest.raises(nnx.BackendError, match=said):
        CuPy()


@pytest.mark.parametrize(
    "error",
    [
        OutOfMemoryError("Out of memory allocating 512 bytes"),
        CUDARuntimeError("cudaErrorMemoryAllocation: out of memory", 2),
    ],
)
def test_a_gpu_whose_memory_others_use(gpu, error):
    _, cupy = gpu
    broken(cupy, error)
    with pytest.raises(nnx.BackendError, match=r"(?i:out of memory).*\); other programs use its memory"):
        CuPy()


@pytest.mark.long
def test_memory_for_all_but_steps_says_what_is_asked_for_and_what_is_free(monkeypatch, rng):
    backend, cupy, _ = installed(monkeypatch)
    X, Y = rng.standard_normal((20, 4000)), np.zeros(4000, int)
    trainer = nnx.Trainer(nnx.mlp([20, 300, 5]), backend=backend)
    said = (
        r"the GPU has too little memory, .* free \(Out of memory allocating \d+ bytes\). A smaller batch_size"
    )
    for room, call in (
        (300_000, lambda: trainer.fit(X, Y, 1, 10)),  # X
        (1_000_000, lambda: trainer.predict(X, batch_size=4000)),  # A[1]
        (1_000, lambda: trainer.save("model.safetensors")),  # a copy of theta
    ):
        cupy.limit = cupy.used + room
        with pytest.raises(MemoryError, match=said):
            call()
    cupy.limit = 1 << 30
    trainer.fit(X, Y, 1, 1000)
    assert trainer.steps == 4


@pytest.mark.parametrize(("precision", "bits"), [("tf32", 10), ("bfloat16", 7)])
def test_products_have_the_precision_that_is_asked_for(gpu, precision, bits):
    """1 + 2^-k is 1 where k is above the bits of the fraction, and itself where it is not."""
    backend = CuPy(precision=precision)
    assert backend.describe().endswith(precision) or precision in backend.describe()
    product = backend.compile(lambda a, b: a @ b)
    for k, kept in ((bits, True), (bits + 2, False)):
        a = backend.asarray(np.full((4, 4), 1 + 2.0**-k, "float32"))
        found = backend.to_numpy(product(a, backend.asarray(np.eye(4, dtype="float32"))))
        assert (found.max() > 1) == kept
