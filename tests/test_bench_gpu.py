"""The floor of a GPU, the kernels of a step and the memory of a fit, on a stand-in for CuPy with a clock of its own."""

import re
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import long_but_for
from cublaslt_on_host import tf32
from cuda_kernels_on_host import needs_compiler
from cupy_on_host import SECONDS, installed

import nnx
from nnx.bench import contestants, kernels
from nnx.bench.case import Case
from nnx.bench.child import Built
from nnx.bench.contestant import Absent
from nnx.bench.contestants import make
from nnx.bench.floor_cuda import StepProducts
from nnx.bench.kernels import step_profile
from nnx.bench.suite import _figure
from nnx.compiler.schedule import Memory
from nnx.errors import first_line
from nnx.port.registry import survey

CASE = Case((6, 5, 4, 3), m=7, steps=2)


@pytest.fixture
def stand_in(monkeypatch):
    """The backend, CuPy and cuBLASLt on the host, where large copies and products are small."""
    monkeypatch.setattr(kernels, "COPIED", 1000)
    monkeypatch.setattr(kernels, "LARGE", 8)
    kernels.speeds.cache_clear()
    yield installed(monkeypatch, order="any")
    kernels.speeds.cache_clear()


# The floor


@pytest.mark.parametrize(
    ("dtype", "precision", "rounded"),
    [
        ("float32", "float32", lambda x: x),
        ("float64", "float32", lambda x: x),
        ("float32", "tf32", tf32),
        ("float32", "bfloat16", lambda x: (x.astype("uint32") << 16).view("float32")),
    ],
)
def test_the_floor_is_the_products_of_a_step(stand_in, dtype, precision, rounded):
    backend, _, _ = stand_in
    case = Case(CASE.sizes, CASE.m, dtype=dtype)
    step = StepProducts(backend.gpu.again(), case, precision)

    def matrix(name, l, rows, columns):
        return np.asarray(step.memory[Memory(name, l)]).reshape(columns, rows).T  # by columns

    n, m = case.sizes, case.m
    results = {memory: x for memory, x in step.memory.items() if memory.kind in ("Z", "dW", "dA")}
    assert len(results) == 3 + 3 + 2
    for x in results.values():
        assert x.dtype == dtype
        x[...] = np.nan
    step.launch(1)
    W = {l: rounded(matrix("W", l, n[l - 1], n[l]).T.copy()) for l in (1, 2, 3)}
    A = {l: rounded(matrix("A", l, n[l], m).copy()) for l in (0, 1, 2)}
    dZ = {l: rounded(matrix("dZ", l, n[l], m).copy()) for l in (1, 2, 3)}
    close = {"rtol": 1e-5, "atol": 1e-5}
    for l in (1, 2, 3):
        np.testing.assert_allclose(matrix("Z", l, n[l], m), W[l] @ A[l - 1], **close)
        np.testing.assert_allclose(matrix("dW", l, n[l - 1], n[l]).T, dZ[l] @ A[l - 1].T, **close)
    for l in (1, 2):
        np.testing.assert_allclose(matrix("dA", l, n[l], m), W[l + 1].T @ dZ[l + 1], **close)


def test_the_floor_is_one_graph_for_each_step(stand_in):
    _, cupy, library = stand_in
    floor = make("floor-cuda", CASE, CASE.data())
    launches, products = cupy.launches, library.products
    assert floor.seconds(3) == pytest.approx(3 * CASE.steps * 8 * 1e-6)
    assert cupy.launches - launches == 3 * CASE.steps
    assert library.products - products == 3 * CASE.steps * 8
    assert (floor.device, floor.precision) == ("cuda:0", None)
    assert "GPU of NumPy" in floor.detail


def test_the_floor_takes_the_fastest_algorithm(stand_in):
    """The third of those that can run, and not the first; one is refused when it is called."""
    _, _, library = stand_in
    library.algorithms = (5e-6, None, 3e-6, 2e-6, 4e-6)
    assert make("floor-cuda", CASE, CASE.data()).seconds(1) == pytest.approx(CASE.steps * 8 * 2e-6)


def test_products_that_no_algorithm_can_do_are_an_error(stand_in):
    stand_in[2].algorithms = (None, None)
    with pytest.raises(nnx.BackendError, match="can run none of them"):
        make("floor-cuda", CASE, CASE.data())


def test_a_floor_of_another_precision(stand_in):
    floor = make("floor-cuda/tf32", CASE, CASE.data())
    assert floor.precision == "tf32"
    with pytest.raises(nnx.InputError, match="takes arrays of float32; the model's are float64"):
        make("floor-cuda/tf32", Case(CASE.sizes, CASE.m, dtype="float64"), CASE.data())


@pytest.mark.skipif(any(row.name == "cupy" and row.usable for row in survey()), reason="there is a GPU")
def test_without_a_gpu_the_floor_says_why_there_is_none():
    with pytest.raises(nnx.BackendError, match="cupy"):
        make("floor-cuda", CASE, CASE.data())


def figure(contestant, device, precision, rounds):
    """A figure of the suite beside all floors, of which each has a time of its own."""
    built = {contestant: Built(1.0, 1.0, None, "library", device, "", precision, [])}
    rounds = {"floor": [1.0], "floor-cuda": [2.0], "floor-cuda/tf32": [4.0], contestant: rounds}
    return _figure(CASE, contestant, built, rounds, [], 1)


@pytest.mark.parametrize(
    ("contestant", "device", "precision", "floor", "over"),
    [
        ("nnx:numpy", "cpu", "float32", "floor", 8.0),
        ("nnx:torch@cpu/bfloat16", "cpu", "bfloat16", "floor", 8.0),
        ("nnx:cupy", "cuda:0", "float32", "floor-cuda", 4.0),
        ("nnx:cupy/tf32", "cuda:0", "tf32", "floor-cuda/tf32", 2.0),
        ("jax-cuda", "cuda", "tf32", "floor-cuda/tf32", 2.0),
        ("nnx:cupy/bfloat16", "cuda:0", "bfloat16", None, None),  # that floor is absent
    ],
)
def test_a_figure_has_the_floor_of_its_precision(contestant, device, precision, floor, over):
    found = figure(contestant, device, precision, [8.0])
    assert (found.floor, found.over_floor) == (floor, over)
    if floor is not None:
        assert floor in contestants.floors([contestant], "float32")


def test_floors_take_part_for_the_precisions_that_do():
    names = ["nnx:cupy", "nnx:cupy/bfloat16", "torch-cuda", "nnx:numpy"]
    assert contestants.floors(names, "float32") == ["floor", "floor-cuda", "floor-cuda/bfloat16"]
    assert contestants.floors(["jax-cuda"], "float64") == ["floor", "floor-cuda"]
    assert contestants.floors(["nnx:numpy", "jax"], "float32") == ["floor"]


# The kernels


def test_the_kernels_of_a_step_with_adam():
    """The step of the documentation: 9 kernels and 8 products, and the two kernels around them."""
    case = Case((784, 512, 512, 10), m=128)
    found = step_profile(case)
    names = [row.name for row in found.rows]
    assert [name for name in names if " = " in name] == [
        "Z1 = W1 X",
        "Z2 = W2 A1",
        "Z3 = W3 A2",
        "dW3 = dZ3 A2ᵀ",
        "dA2 = W3ᵀ dZ3",
        "dW2 = dZ2 A1ᵀ",
        "dA1 = W2ᵀ dZ2",
        "dW1 = dZ1 Xᵀ",
    ]
    assert names[0] == "X, Y of the mini-batch"
    assert {"A1 from Z1, b1", "dZ2, db2 from A2, dA2", "db3 from dZ3", "J from one number per sample"} < {
        *names
    }
    assert names[-2:] == ["m, v, theta from m, dtheta, v, one number, theta", "J stored, step counted"]
    assert (found.kernels, found.products) == (11, 8)
    assert found.flops == case.flops
    adam = next(row for row in found.rows if row.name.startswith("m, v, theta"))
    assert adam.bytes == pytest.approx(7 * 4 * case.network().P, rel=1e-4)  # four vectors read, three written
    assert found.rows[0].bytes == 2 * 4 * (784 + 1) * 128
    assert all(row.seconds is row.least_seconds is None for row in found.rows) or found.device is not None


@needs_compiler
@pytest.mark.parametrize("backend", long_but_for(["cupy", "cupy/tf32"], "cupy"))
def test_the_times_of_a_step(stand_in, backend):
    """Kernels and products take what the stand-in's clock says, and the graph is their sum there."""
    stand_in[2].algorithms = (3e-6,)
    found = step_profile(CASE, backend)
    assert found.device.startswith("a GPU of NumPy")
    assert found.precision == (backend.partition("/")[2] or "float32")
    for row in found.rows:
        assert row.seconds == pytest.approx(3e-6 if row.is_product else SECONDS)
    assert found.graph_seconds == pytest.approx(found.seconds)
    assert found.bytes_per_second == pytest.approx(2 * 1000 / SECONDS)
    assert found.flops_per_second == pytest.approx(2 * 8**3 / 3e-6)
    for row in found.rows:
        by_bytes = row.bytes / found.bytes_per_second
        assert row.least_seconds == pytest.approx(max(by_bytes, row.flops / found.flops_per_second))
    assert str(found).splitlines()[-1].split()[-1] == f"{found.graph_seconds * 1e6:.2f}"


def test_kernels_are_those_of_cupy():
    with pytest.raises(nnx.InputError, match="kernels are those of the backend cupy"):
        step_profile(CASE, "numpy")
    with pytest.raises(nnx.InputError, match="takes arrays of float32"):
        step_profile(Case((3, 2), m=1, dtype="float64"), "cupy/tf32")
    with pytest.raises(nnx.InputError, match="on a CUDA GPU; given 'cupy@cpu'"):
        step_profile(CASE, "cupy@cpu")


@pytest.mark.parametrize("sizes", [(6, 5, 3), (6, 4, 1)])
@pytest.mark.parametrize("optimizer", ["adam", "momentum", "gradient_descent"])
def test_the_table_has_every_call(sizes, optimizer):
    found = step_profile(Case(sizes, 4, optimizer))
    title, head, *lines = str(found).splitlines()
    assert title == f"{'-'.join(map(str, sizes))}, {optimizer}, float32, m = 4"
    assert head.split()[:4] == ["computes", "call", "kB", "MFLOP"]
    for row, line in zip(found.rows, lines, strict=False):
        assert line.startswith(f"{row.name} ")
        assert f" {row.call} " in line
    sums = [line.split() for line in lines[len(found.rows) :]]
    assert sums[0][:4] == ["all", "kernels", str(found.kernels), "calls"]
    assert sums[1][:4] == ["all", "products", str(found.products), "calls"]
    assert float(sums[0][4].replace(",", "")) >= float(sums[2][-1].replace(",", "")) > 0  # the least bytes
    assert "numbers" not in "".join(row.name for row in found.rows), "a value has no name"


@pytest.mark.long
@needs_compiler
def test_the_command_prints_kernels(stand_in):
    pytest.importorskip("typer")
    from typer.testing import CliRunner

    from nnx.cli.app import app

    done = CliRunner().invoke(
        app, ["bench", "--kernels", "--sizes", "6-5-3", "--batch-sizes", "4,8", "--backends", "cupy/tf32"]
    )
    assert done.exit_code == 0, first_line(done.exception)
    for m in (4, 8):
        assert f"6-5-3, adam, float32, m = {m}, products in tf32" in done.output
    assert len(re.findall(r"all kernels +9 calls", done.output)) == 2
    assert len(re.findall(r"all products +5 calls", done.output)) == 2
    assert done.output.count("the step as one CUDA graph") == 2
    assert "a large copy: 1 GB/s" in done.output
    assert "At least µs: " in done.output
    for option in (["--out", "a.json"], ["--peers", "none"], ["--order", "both"], ["--rounds", "9"]):
        refused = CliRunner().invoke(app, ["bench", "--kernels", *option])
        assert f"leave out {option[0]}" in str(refused.exception)


def test_without_a_gpu_the_command_says_so_once_and_explains_no_times(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    pytest.importorskip("typer")
    from typer.testing import CliRunner

    from nnx.cli.app import app

    done = CliRunner().invoke(app, ["bench", "--kernels", "--sizes", "6-5-3", "--batch-sizes", "4,8"])
    assert done.exit_code == 0, first_line(done.exception)
    assert done.output.count("all products") == 2
    assert done.output.count("none, and so no times") == 1
    assert "µs" not in done.output


# Memory


@pytest.mark.long
@needs_compiler
def test_the_peak_of_a_fit_is_that_of_its_own_memory(stand_in):
    """It holds all that theory asks, the workspaces of products, too, and nothing that an earlier case took."""
    from nnx.bench import ours

    backend, _, library = stand_in
    backend.gpu.empty(10**7)
    library.workspace = 200_000
    case = Case((40, 300, 5), m=64, steps=2)
    contestant = ours.fit("cupy", case, case.data())
    contestant.seconds(1)
    assert contestant.peak() >= 10**7
    contestant.seconds(1)
    found = contestant.peak() - case.data().X.nbytes
    state = case.theory["theta"] + case.theory["optimizer"]
    least = sum(case.theory.values()) + 2 * state + 2 * library.workspace  # three copies of the state
    assert least < found < 1.5 * least


# JAX's precision


@pytest.mark.parametrize(
    ("name", "precision", "setting"), [("jax-cuda", "tf32", None), ("jax-cuda-float32", None, "highest")]
)
def test_jax_names_its_precision(monkeypatch, name, precision, setting):
    """On a GPU, here the CPU, its products are those of TF32 if nobody asks for others."""
    jax = pytest.importorskip("jax")
    pytest.importorskip("optax")
    cpus = jax.devices("cpu")
    monkeypatch.setattr(jax, "devices", lambda platform: cpus)
    asked = {}
    monkeypatch.setattr(jax.config, "update", asked.__setitem__)
    monkeypatch.setattr(
        type(jax.config),
        "jax_default_matmul_precision",
        property(lambda config: asked.get("jax_default_matmul_precision")),
    )
    made = make(name, CASE, CASE.data())
    assert (made.precision, asked.get("jax_default_matmul_precision")) == (precision, setting)
    with pytest.raises(Absent, match="see jax-cuda"):
        make("jax-cuda-float32", Case(CASE.sizes, 7, dtype="float64"), CASE.data())


def test_pytorch_on_a_gpu_multiplies_in_float32(monkeypatch):
    """The environment may have allowed TF32, as in NVIDIA's containers; its figures would be called float32."""
    torch = pytest.importorskip("torch")
    from nnx.bench.peers import torch as peer

    found = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        peer, "module", lambda *given: found.append(torch.get_float32_matmul_precision()) or given[9]
    )
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        for contestant in (peer.eager_on_gpu, peer.compiled_on_gpu):
            with pytest.raises(IndexError):  # the model is as far as it comes without a GPU
                contestant(CASE, CASE.data())
    finally:
        torch.set_float32_matmul_precision(before)
    assert found == ["highest", "highest"]


# PyTorch's step as one graph


@pytest.fixture
def torch_graphs(monkeypatch):
    """PyTorch with CUDA graphs on the CPU: a graph does the recorded operations again, into the same memory."""
    torch = pytest.importorskip("torch")
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_flatten

    class Graph(TorchDispatchMode):
        launches = 0

        def __init__(self):
            super().__init__()
            self.calls, self.is_new = [], True

        def __torch_dispatch__(self, function, types, arguments=(), options=None):
            made = function(*arguments, **(options or {}))
            self.calls.append((function, arguments, options or {}, made))
            return made

        @torch.no_grad()
        def replay(self):
            Graph.launches += 1
            calls, self.is_new = () if self.is_new else self.calls, False  # the capture has done them
            for function, arguments, options, made in calls:
                again = function(*arguments, **options)
                for old, new in zip(*(tree_flatten(x)[0] for x in (made, again)), strict=True):
                    if isinstance(old, torch.Tensor) and old is not new:
                        old.copy_(new)

    stream = SimpleNamespace(wait_stream=lambda other: None)
    monkeypatch.setattr(torch, "compile", lambda function: function)
    for name, made in {
        "Stream": lambda: stream,
        "current_stream": lambda: stream,
        "stream": lambda stream: nullcontext(),
        "CUDAGraph": Graph,
        "graph": lambda graph, stream: graph,
    }.items():
        monkeypatch.setattr(torch.cuda, name, made)
    return torch, Graph


@pytest.mark.parametrize("optimizer", ["adam", "gradient_descent"])
@pytest.mark.parametrize("sizes", [(5, 7, 4, 3), (6, 4, 1)])
@pytest.mark.parametrize("shuffled", [False, True])
def test_pytorch_as_a_graph_trains_as_eager(torch_graphs, sizes, optimizer, shuffled):
    from nnx.bench.peers import torch as peer

    torch, Graph = torch_graphs
    case = Case(sizes, 4, optimizer, "float64", shuffled, steps=5, learning_rate=0.05)
    data, trained = case.data(), []
    X, y = torch.from_numpy(data.X), torch.from_numpy(data.y)
    Y = y.long() if sizes[-1] > 1 else y[:, None].to(X.dtype)
    for is_graph in (False, True):
        torch.manual_seed(0)
        model = peer.module(torch, case, "cpu", case.start())
        epoch = peer._training(torch, case, model, X, Y, is_graph, is_graph)
        costs = [epoch() for _ in range(3)]
        trained.append([*costs, *(x.detach().numpy() for x in model.parameters())])
    assert Graph.launches == 3 * case.steps - peer.WARM_UP
    for eager, graph in zip(*trained, strict=True):
        np.testing.assert_allclose(graph, eager, rtol=1e-9)
    assert trained[0][2] < trained[0][0] - 1e-3


def test_the_rounding_of_the_stand_in():
    x = np.float32([1 + 2**-12, 1 + 2**-10])
    assert list(tf32(x)) == [1, 1 + 2**-10]
