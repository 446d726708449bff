"""nnx as a contestant: `Trainer.fit` as a user calls it."""

import time
from importlib import import_module
from typing import Any
from unittest.mock import patch

from nnx.bench.case import Case, Data
from nnx.bench.clocks import Clock, cupy_events, torch_events, wall
from nnx.bench.contestant import Absent, Contestant
from nnx.errors import BackendError
from nnx.port.base import Backend
from nnx.port.registry import backend as find_backend
from nnx.train.loop import FitLoop
from nnx.train.trainer import Trainer


def fit(backend: str, case: Case, data: Data) -> Contestant:
    """Return `Trainer.fit`, of which the epochs are timed with all that it does in them.

    What `fit` does once before them (checking X and putting it on the device) is not: it belongs to no step. What the
    epochs take outside the captured steps is known, too: a clock is read before and after each call of them.
    """
    found = _find(backend)
    network, optimizer = case.network(), case.make_optimizer()
    trainer = Trainer(network, optimizer, backend=found, dtype=case.dtype, seed=case.seed)
    trainer.parameters = case.start()
    clock = _clock(found)
    X, y, go = data.X.T, data.y, FitLoop.go
    repeated, wait, now = trainer.session.program.run, found.synchronize, time.perf_counter
    whole = inside = 0.0

    def steps(*arguments: Any) -> Any:
        nonlocal inside
        start = now()
        result = repeated(*arguments)
        wait()
        inside += now() - start
        return result

    def timed(run: FitLoop) -> Any:  # a callback would do, but keeps epochs from being done many at once
        nonlocal whole
        found: list[Any] = []
        whole = clock(lambda: found.append(go(run)))
        return found[0]

    def seconds(epochs: int) -> float:
        nonlocal inside
        inside = 0.0
        with patch.object(FitLoop, "go", timed), patch.object(trainer.session.program, "run", steps):
            trainer.fit(X, y, epochs=epochs, batch_size=case.m, shuffle=case.shuffled, progress=False)
        return whole

    def parameters() -> dict[str, Any]:
        return trainer.parameters

    made = _contestant(found, lambda: seconds(1), clock, parameters)
    return made._replace(time=seconds, outside=lambda: max(0.0, whole - inside))


def _find(backend: str) -> Backend:
    name, _, device = backend.partition("@")
    try:
        return find_backend(name, device=device or None)
    except BackendError as error:
        raise Absent(str(error)) from error


def _clock(backend: Backend) -> Clock:
    if backend.device.startswith("cuda") and backend.name == "torch":
        return torch_events(backend.device)
    if backend.device.startswith("cuda") and backend.name == "cupy":
        return cupy_events()
    return wall(backend.synchronize)


def _contestant(backend: Backend, epoch: Any, clock: Clock, parameters: Any) -> Contestant:
    library = f"{backend.name} {backend.version}"
    on_gpu = backend.device.startswith("cuda")

    def since_last() -> int:
        found = backend.memory().peak or 0
        if backend.name == "torch":
            import_module("torch").cuda.reset_peak_memory_stats(backend.device)
        return found

    peak = since_last if on_gpu else None
    return Contestant(epoch, clock, parameters, library, backend.device, backend.detail, peak)
