"""The sum over ranks in CuPy's steps, on a stand-in for CuPy: through the host, and by NCCL in the CUDA graph."""

import ctypes
import logging
from types import SimpleNamespace

import numpy as np
import pytest
from cuda_kernels_on_host import needs_compiler
from cupy_on_host import installed

import nnx
from nnx.port import communicators
from nnx.port.communicator import Alone
from nnx.train.share import Share
from nnx.train.step import initial_state, training_step

pytestmark = needs_compiler
ORDERS = ["as asked", "last first", "any"]


class Twice(Alone):
    """As of two ranks with the same samples."""

    name = "twice"

    def __init__(self, last=10**9):
        self.sums, self.last = 0, last

    def sum(self, vector):
        self.sums += 1
        if self.sums > self.last:
            raise nnx.CommunicatorError("the other rank is gone")
        vector += vector


def nccl(cupy, ranks):
    """The module cupy.cuda.nccl, as far as it is used: a sum is a call of a stream."""

    class NcclCommunicator:
        def __init__(self, size, name, rank):
            assert (len(name), size, rank) == (128, ranks.size, ranks.rank)

        def allReduce(self, source, target, count, dtype, op, stream):  # CuPy's name
            assert op == 0
            number = {7: ctypes.c_float, 8: ctypes.c_double}[dtype]

            def run():
                vector, total = (
                    np.frombuffer((number * count).from_address(x), number) for x in (source, target)
                )
                found = vector.copy()
                ranks.sum(found)
                total[:] = found

            cupy.streams[stream].do(run)

    return SimpleNamespace(
        available=True, NCCL_FLOAT32=7, NCCL_FLOAT64=8, NCCL_SUM=0, get_unique_id=lambda: bytes(range(128)),
        get_version=lambda: 22703, NcclCommunicator=NcclCommunicator,
    )  # fmt: skip


class OnStream(Twice):
    def __init__(self, cupy):
        super().__init__()
        self._gpus = nccl(cupy, self).NcclCommunicator(1, bytes(128), 0)

    def sum_on_stream(self, source, target, size, dtype, stream):
        kind = {"float32": 7, "float64": 8}[dtype]
        self._gpus.allReduce(source, target, size, kind, 0, stream)


NETWORK = nnx.Network(4, [nnx.Dense(5, "tanh"), nnx.Dropout(0.3), nnx.Dense(3)], "softmax")
REGULARIZATION = nnx.Regularization(l2=0.01, clip_norm=0.3)
X, Y = np.random.default_rng(0).standard_normal((4, 40)), np.arange(40, dtype=np.int32) % 3


def run(backend, communicator, dtype, weights, count=6):
    """Costs and parameters after some steps, and the program."""
    share = None if communicator is None else Share(communicator, 0)
    program = backend.compile(training_step(NETWORK, nnx.Adam(), REGULARIZATION, share=share))
    theta = backend.asarray(NETWORK.init(0, dtype))
    program.load(initial_state(NETWORK, nnx.Adam(), theta, REGULARIZATION, seed=3))
    w = backend.asarray(np.linspace(1, 2, 40), dtype) if weights else None
    order = backend.asarray(np.random.default_rng(1).permutation(40))
    Js = program.run((backend.asarray(X, dtype), backend.asarray(Y), w), order, 0, 6, count)
    return (
        [float(J) for J in backend.to_numpy(Js)[:count]],
        backend.to_numpy(program.read("theta")["theta"]),
        program,
    )


@pytest.mark.parametrize(
    ("dtype", "weights", "order"),
    [
        pytest.param("float32", False, "as asked", marks=pytest.mark.long),
        ("float64", True, "any"),
        *(
            pytest.param(dtype, weights, order, marks=pytest.mark.long)
            for dtype, weights in (("float32", True), ("float64", False))
            for order in ORDERS
        ),
    ],
)
def test_a_step_is_one_graph_with_nccl(monkeypatch, order, dtype, weights):
    backend, cupy, _ = installed(monkeypatch, order=order, seed=ORDERS.index(order))
    expected = run(nnx.backend("numpy"), None, dtype, weights)
    ranks = OnStream(cupy)
    found = run(backend, ranks, dtype, weights)
    for x, y in zip(found[:2], expected[:2], strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-10 if dtype == "float64" else 2e-4, atol=1e-6)
    assert cupy.launches == 5  # the first step runs call by call
    assert ranks.sums == 6  # and none while the stream captures


def test_without_nccl_the_sum_goes_through_the_host(monkeypatch, caplog):
    backend, cupy, _ = installed(monkeypatch)
    expected, ranks = run(nnx.backend("numpy"), None, "float64", True), Twice()
    with caplog.at_level(logging.INFO, logger="nnx"):
        found = run(backend, ranks, "float64", True)
    for x, y in zip(found[:2], expected[:2], strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-10)
    assert (cupy.launches, ranks.sums) == (0, 6)
    assert [text for text in caplog.messages if "a step is no CUDA graph, and runs call by call" in text]
    assert not [text for text in caplog.messages if "single operations" in text]


def test_a_sum_that_fails_is_not_done_again(monkeypatch):
    backend, _, _ = installed(monkeypatch)
    ranks = Twice()
    _, before, program = run(backend, ranks, "float32", False)
    ranks.last = ranks.sums + 2
    data = backend.asarray(X, "float32"), backend.asarray(Y), None
    with pytest.raises(nnx.CommunicatorError, match="is gone"):
        program.run(data, None, 0, 6, 4)
    assert ranks.sums == ranks.last + 1
    assert np.array_equal(backend.to_numpy(program.read("theta")["theta"]), before)


@pytest.fixture
def rank(monkeypatch):
    """The ranks of MPI, as `Nccl` sees them: this process is the second one on a machine with so many GPUs."""

    def of(gpus, available=True):
        class Ranks(Alone):
            name, rank, size, threads = "mpi", 3, 4, 2

            def sum(self, vector):
                if len(vector) == 4:  # what all ranks see: the first two are on another machine
                    vector[2] = vector[3]

        _, cupy, _ = installed(monkeypatch)
        ranks = Ranks()
        cupy.cuda.nccl = nccl(cupy, ranks)
        cupy.cuda.nccl.available = available
        cupy.cuda.runtime.getDeviceCount = lambda: gpus
        monkeypatch.setattr(communicators, "_made", {"mpi": ranks})
        monkeypatch.setattr(communicators, "watch", lambda made: None)
        monkeypatch.setattr(communicators, "limit_threads", lambda threads: None)
        return nnx.communicator("nccl")

    return of


def test_nccl_has_the_ranks_of_mpi(rank):
    found = rank(gpus=2)
    assert (found.rank, found.size, found.threads) == (3, 4, 2)
    assert repr(found) == "<nnx communicator nccl: rank 3 of 4, NCCL 22703; mpi: rank 3 of 4>"
    vector = np.ones(2)
    found.sum(vector)
    found.broadcast(vector)
    found.barrier()
    assert found.meet(1)


def test_nccl_that_cannot_be_had(rank):
    with pytest.raises(
        nnx.CommunicatorError, match="rank 3 shares its GPUs, 0 to 0, with 1 rank before it; start no more"
    ):
        rank(gpus=1)
    with pytest.raises(nnx.CommunicatorError, match="CuPy finds no NCCL here; install it"):
        rank(gpus=2, available=False)
