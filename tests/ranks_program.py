"""What the ranks of the tests do: as threads, or started by mpiexec, python ranks_program.py NAME ARGUMENTS.

Each function takes the communicator first.
"""

import os
import signal
import sys
import time
from copy import copy
from functools import cache
from pathlib import Path
from threading import Lock

import numpy as np

import nnx
from nnx.array.gather import mini_batch
from nnx.batches.shares import RankBatches
from nnx.model.network import Network
from nnx.port import rank_device
from nnx.train.share import Share
from nnx.train.step import PLAIN, cost_and_gradient, initial_state

M = 53
X = np.random.default_rng(0).standard_normal((4, M))
Y = np.random.default_rng(1).integers(0, 3, M)
W = np.random.default_rng(2).random(M) * (np.arange(M) % 7 > 0)
REGULARIZATION = nnx.Regularization(l2=0.01, clip_norm=0.3, per_sample=True, label_smoothing=0.1)


def network():
    return Network(4, [nnx.Dense(7, "tanh"), nnx.Dropout(0.3), nnx.Dense(3)], "softmax")


def trainer(communicator=None, backend="numpy", **options):
    options = {"dtype": "float64", "seed": 3, "regularization": REGULARIZATION} | options
    return nnx.Trainer(network(), nnx.Adam(0.01), backend, communicator=communicator, **options)


@cache
def gradient_of_one(backend, m, weighted):
    """J, dtheta, and the state that they are of."""
    net, made = network(), nnx.backend(backend)
    state = initial_state(net, nnx.Adam(), made.asarray(net.init(0, "float64")), REGULARIZATION)
    whole = made.asarray(X[:, :m]), made.asarray(Y[:m]), made.asarray(W[:m]) if weighted else None
    return *made.compile(cost_and_gradient(net, REGULARIZATION))(state, whole), state


BATCHES = (M, True), (1, False), (M, False), (5, False), (3, True)
"""Samples, and whether they have weights."""


def gradient(communicator, backend="numpy", batches=BATCHES):
    """The gradient of all ranks is that of one."""
    net, made = network(), nnx.backend(backend)
    for m, weighted in batches:
        J, dtheta, state = gradient_of_one(backend, m, weighted)
        w = W[:m] if weighted else None
        own = RankBatches(made, X[:, :m], Y[:m], w, None, None, None, communicator)
        program = made.compile(cost_and_gradient(net, REGULARIZATION, Share(communicator, own.start)))
        its_J, its_dtheta = program(state, mini_batch(*own.taken(None, 0, m)))
        assert abs(float(J) - float(its_J)) < 1e-12, (m, J, its_J)
        found, expected = made.to_numpy(its_dtheta), made.to_numpy(dtheta)
        assert np.abs(found - expected).max() < 1e-12, (m, found - expected)
    assert PLAIN != REGULARIZATION


KINDS = "whole", "weighted", "micro", "small", "early stopping", "metrics"


def options(kind):
    """The options of a fit, with callbacks of its own."""
    return {"epochs": 3} | {
        "whole": {"batch_size": 10},
        "weighted": {"batch_size": 10, "sample_weight": W},
        "micro": {"batch_size": 10, "micro_batch": 2, "shuffle": False},
        "small": {"batch_size": 3, "epochs": 1},
        "early stopping": {
            "batch_size": 16,
            "validation": (X, Y),
            "callbacks": nnx.EarlyStopping(patience=1),
        },
        "metrics": {
            "batch_size": 10,
            "callbacks": lambda progress: None,
            "training_metrics": 20,
            "metrics": ["accuracy", "confusion_matrix", "f1(none)", "roc_auc"],
            "validation": (X[:, :5], Y[:5], W[:5]),
        },
    }[kind]


@cache
def fit_of_one(backend, kind):
    alone = trainer(None, backend)
    return alone, alone.fit(X, Y, **options(kind))


ONE_THREAD = Lock()


def fit(communicator, backend="numpy", kinds=KINDS, times=2):
    """Fits of all kinds are those of one rank, each time the same bits, and the same on all ranks."""
    for kind in kinds:
        with ONE_THREAD:  # of those that are ranks
            alone, expected = fit_of_one(backend, kind)
        thetas = []
        for _ in range(times):
            together = trainer(communicator, backend)
            history = together.fit(X, Y, **options(kind))
            thetas.append(together.theta)
        assert [*history] == [*expected]
        for name, numbers in expected.items():
            np.testing.assert_allclose(history[name], numbers, rtol=1e-10)
        assert np.abs(thetas[0] - alone.theta).max() < 1e-10
        assert np.array_equal(thetas[0], thetas[-1])
        assert (together.steps, together.stopped) == (alone.steps, alone.stopped)
        its = together.theta
        communicator.broadcast(its)
        assert np.array_equal(its, together.theta)


def of_the_first(communicator, size, function, *arguments):
    """Call a function with the communicator of the first ranks. The others sleep until then."""
    its = copy(communicator)
    its._world = its._local = communicator._world.Split(communicator.rank < size)
    if communicator.rank < size:
        its.rank, its.size, its._polls = its._world.rank, size, size > its._cores
        function(its, *arguments)
    assert communicator.meet(60)


def one_to_four(communicator):
    """Gradients of 1, 2, 3 and 4 ranks, and a fit of 2, in one call of mpiexec; the ranks share the machine's cores."""
    assert communicator.threads == max(1, communicator._cores // 4)
    assert os.environ["NUMBA_NUM_THREADS"] == str(communicator.threads)
    for size in (1, 2, 3, 4):
        of_the_first(communicator, size, gradient, "numpy", BATCHES[:2])
    of_the_first(communicator, 2, fit, "numpy", ["weighted"], 1)


def checkpoints(communicator, folder, epochs, resume):
    """A fit with checkpoints; rank 0 writes the parameters at its end."""
    together = trainer(communicator)
    told = []
    together.fit(
        X, Y, int(epochs), 10, resume=folder if resume == "resume" else None,
        callbacks=[nnx.Checkpoints(folder), nnx.CSVLog(f"{folder}/log.csv"), lambda now: told.append(now.epoch)],
    )  # fmt: skip
    assert told  # a function is called on all ranks
    if communicator.rank == 0:
        together.save(f"{folder}/of-{communicator.size}.safetensors")


def loaded(communicator, path):
    """A trainer of one process goes on as that of all ranks, and then alone again."""
    alone, together = (nnx.Trainer.load(path, "numpy", communicator=ranks) for ranks in (None, communicator))
    for one in (alone, together):
        one.fit(X, Y, 2, 10)
    together.communicator = None
    for one in (alone, together):
        one.fit(X, Y, 2, 10)
    np.testing.assert_allclose(alone.theta, together.theta, rtol=1e-10)


def stops(communicator, rank):
    """A callback of one rank ends the fit of all."""
    together = trainer(communicator)

    def stop(progress):
        if progress.done == 8 and communicator.rank == int(rank):
            together.stop("that is enough")

    together.fit(X, Y, 5, 10, callbacks=stop)
    assert (together.steps, together.stopped) == (8, "that is enough")


def differs(communicator, what):
    """One rank has something else: all must say so."""
    rank = communicator.rank
    odd, options, fit, samples = rank == 1, {}, {}, (X, Y)
    batch_size = None if what == "lbfgs" else 10
    net, optimizer = network(), nnx.Adam(0.01)
    if what == "seed":
        options = {"seed": 3 + odd}
    elif what == "network":
        net = nnx.mlp([4, 7 + odd, 3])
    elif what == "optimizer":
        optimizer = nnx.Adam(0.02 if odd else 0.01)
    elif what == "width" and odd:
        net, samples = nnx.mlp([5, 7, 3]), (np.ones((5, M)), Y)
    elif what == "samples" and odd:
        samples = X[:, :-1], Y[:-1]
    elif what == "other samples" and odd:
        samples = X, Y[::-1]
    elif what == "parameters":
        options = {"theta": net.init(rank)}
    elif what == "validation":
        fit = {"validation": (X + odd, Y)}
    elif what == "training_metrics":
        fit = {"training_metrics": 20 - odd, "metrics": ["accuracy"]}
    elif what == "iterable" and odd:
        samples, batch_size = ([(X, Y)],), None
    elif what == "callbacks":
        options = {}
    elif what == "lbfgs":
        net, optimizer = nnx.mlp([4, 7, 3]), nnx.LBFGS()
    elif what == "batch norm":
        net = Network(4, [nnx.Dense(7), nnx.BatchNorm(), nnx.Dense(3)], "softmax")
    elif what == "members":
        options = {"members": 2}
    together = nnx.Trainer(net, optimizer, "numpy", communicator=communicator, **options)
    callbacks = [print] if what == "callbacks" and odd else []
    together.fit(*samples, epochs=2, batch_size=batch_size, callbacks=callbacks, **fit)


def changes(communicator, what):
    """A callback changes one rank only: the ranks find it at the end of the epoch."""
    together = trainer(communicator)

    def change(progress):
        if communicator.rank == 1 and progress.done == 2:
            if what == "theta":
                together.theta = together.theta + 1e-15
            else:
                together.learning_rate = 0.1

    together.fit(X, Y, 3, 10, callbacks=change)


def fails(communicator, how, rank):
    """A rank fails in the midst of a fit."""
    together = trainer(communicator)

    def fail(progress):
        if progress.done == 9 and communicator.rank == int(rank):
            print("fails at", time.time(), flush=True)
            if how == "raise":
                raise ValueError("a mistake of one rank")
            if how == "interrupt":
                raise KeyboardInterrupt
            os.kill(os.getpid(), getattr(signal, how))

    if how == "sys.exit":
        together.fit(X, Y, 1, 10)
        if communicator.rank == int(rank):
            print("fails at", time.time(), flush=True)
            sys.exit(3)
    if how == "outside":
        together.fit(X, Y, 1, 10)
        if communicator.rank == int(rank):
            print("fails at", time.time(), flush=True)
            raise ValueError("a mistake of one rank")
    together.fit(X, Y, 1_000_000, 10, callbacks=fail)


def alone(communicator):
    """Without mpiexec there is one rank, with the bits of no communicator."""
    assert (communicator.rank, communicator.size) == (0, 1)
    assert communicator.threads is None
    assert nnx.communicator(communicator) is nnx.communicator("mpi") is communicator
    assert repr(communicator).startswith("<nnx communicator mpi: rank 0 of 1, ")
    found = [trainer(None), trainer("mpi")]
    for one in found:
        one.fit(X, Y, 2, 10)
    assert np.array_equal(found[0].theta, found[1].theta)


def killed(communicator, folder):
    """A fit that goes on from its last checkpoint, if there is one; each rank says its process."""
    together = trainer(communicator)
    Path(folder).mkdir(exist_ok=True)
    print(f"rank {communicator.rank} is {os.getpid()}.", flush=True)
    together.fit(X, Y, 400, 10, callbacks=nnx.Checkpoints(folder, steps=11), resume=folder)
    if communicator.rank == 0:
        np.save(f"{folder}/theta.npy", together.theta)


def nccl_on_host(communicator):
    """The same on a stand-in for CuPy and NCCL, whose sums MPI does."""
    from cupy_on_host import install
    from test_cuda_ranks import nccl

    cupy, _ = install()
    cupy.cuda.nccl = nccl(cupy, communicator)
    rank_device.gpus = lambda: [b"0", b"1"]
    cupy.cuda.runtime.getDeviceCount = lambda: communicator.size
    fit(nnx.communicator("nccl"), "cupy")
    assert cupy.launches > 100


def diverges(communicator):
    net, optimizer = nnx.mlp([4, 7, 3], output="identity"), nnx.GradientDescent(1e30)
    nnx.Trainer(net, optimizer, "numpy", communicator=communicator).fit(X, np.ones((3, M)), 50, 10)


if __name__ == "__main__":
    globals()[sys.argv[1]](nnx.communicator("mpi"), *sys.argv[2:])
    print("done", flush=True)
