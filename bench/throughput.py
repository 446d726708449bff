"""Samples per second of the captured training step, beside the GEMM floor: the step's matrix products alone.

Everything that is compared runs in one process, in turns (round by round), so that whatever else the machine
does falls on all alike; the medians of the rounds are compared.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from nnx.choice import backend as find_backend
from nnx.network import Network
from nnx.optimizers import Optimizer
from nnx.port import Backend
from nnx.step import initial_state, training_step

FLOOR = "GEMM floor"


@dataclass(frozen=True)
class Figure:
    """What one contestant reached at one batch size.

    Attributes
    ----------
    contestant : str
        A backend's name and device, or "GEMM floor".
    m : int
        Samples in a step.
    seconds : float
        Of one step: the median of the rounds.
    fastest, slowest : float
        The rounds' range.
    first : float
        Seconds of the first step, which compiles where there is something to compile.
    """

    contestant: str
    m: int
    seconds: float
    fastest: float
    slowest: float
    first: float

    @property
    def samples_per_second(self) -> float:
        """M / seconds."""
        return self.m / self.seconds


def measure(
    backends: Sequence[str],
    network: Network,
    batch_sizes: Sequence[int],
    optimizer: Optimizer,
    dtype: str = "float32",
    rounds: int = 7,
    seconds: float = 0.1,
) -> list[Figure]:
    """Return the figures of all backends and of NumPy's GEMM floor at all batch sizes.

    Parameters
    ----------
    backends : sequence of str
        Names, as `nnx.backend` takes them.
    network, optimizer, dtype
        What is trained, on random data.
    batch_sizes : sequence of int
        The m of each step.
    rounds : int
        How many turns each contestant gets.
    seconds : float
        How long a turn lasts, about.
    """
    found = [find_backend(name) for name in backends]
    figures = []
    for m in batch_sizes:
        contestants = {FLOOR: floor(network, m, dtype)}
        contestants |= {f"{b.name} ({b.device})": steps(b, network, optimizer, m, dtype) for b in found}
        first = {name: run(1) for name, run in contestants.items()}
        count = {name: max(1, round(seconds / max(run(3) / 3, 1e-7))) for name, run in contestants.items()}
        times: dict[str, list[float]] = {name: [] for name in contestants}
        for _ in range(rounds):
            for name, run in contestants.items():
                times[name].append(run(count[name]) / count[name])
        figures += [
            Figure(name, m, median(times[name]), min(times[name]), max(times[name]), first[name])
            for name in contestants
        ]
    return figures


Run = Callable[[int], float]
"""run(k) -> the seconds that k steps took."""


def steps(backend: Backend, network: Network, optimizer: Optimizer, m: int, dtype: str) -> Run:
    """Return a function that runs steps of one batch as `Trainer.fit` does, and waits for the last."""
    rng = np.random.default_rng(0)
    X = backend.asarray(rng.standard_normal((m, network.n[0])).T, dtype)  # samples in rows, as gathered
    Y = backend.asarray(_targets(rng, network, m, dtype))
    step = backend.capture(training_step(network, optimizer))
    state = initial_state(network, optimizer, backend.asarray(network.init(0, dtype), dtype))

    def run(k: int) -> float:
        nonlocal state
        start = time.perf_counter()
        for _ in range(k):
            state, J = step(state, (X, Y))
        backend.to_numpy(J)  # waits for all that J depends on
        backend.synchronize()
        return time.perf_counter() - start

    return run


def _targets(rng: np.random.Generator, network: Network, m: int, dtype: str) -> Any:
    if network.output.classes and network.n[-1] > 1:
        return rng.integers(0, network.n[-1], m, dtype=np.int32)
    return rng.integers(0, 2, (network.n[-1], m)).astype(dtype)


def floor(network: Network, m: int, dtype: str) -> Run:
    """Return a function that computes a step's matrix products with NumPy, into arrays allocated before."""
    rng = np.random.default_rng(0)

    def random(*shape: int) -> Any:
        return rng.standard_normal(shape).astype(dtype)

    products = []
    for l, (n_prev, n) in enumerate(zip(network.n, network.n[1:], strict=False), 1):
        W, A_prev, dZ = random(n, n_prev), random(n_prev, m), random(n, m)
        products.append((W, A_prev, random(n, m)))  # Z[l] = W[l] A[l-1]
        products.append((dZ, A_prev.T, random(n, n_prev)))  # dW[l] = dZ[l] A[l-1]^T
        if l > 1:
            products.append((W.T, dZ, random(n_prev, m)))  # dA[l-1] = W[l]^T dZ[l]

    def run(k: int) -> float:
        start = time.perf_counter()
        for _ in range(k):
            for a, b, out in products:
                np.matmul(a, b, out=out)
        return time.perf_counter() - start

    return run
