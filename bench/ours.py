"""nnx as a contestant: `Trainer.fit` as a user calls it, and the captured step alone."""

from importlib import import_module
from typing import Any
from unittest.mock import patch

import numpy as np

from nnx.bench.case import Case, Data
from nnx.bench.clocks import Clock, cupy_events, torch_events, wall
from nnx.bench.contestants import Absent, Contestant
from nnx.choice import backend as find_backend
from nnx.errors import BackendError
from nnx.port import Backend
from nnx.run import Run
from nnx.step import initial_state, training_step
from nnx.trainer import Trainer


def fit(backend: str, case: Case, data: Data) -> Contestant:
    """Return `Trainer.fit`, of which the epochs are timed with all that it does in them.

    What `fit` does once before them (checking X and putting it on the device) is not: it belongs to no step.
    """
    found = _find(backend)
    network, optimizer = case.network(), case.make_optimizer()
    trainer = Trainer(network, optimizer, backend=found, dtype=case.dtype, seed=case.seed)
    trainer.parameters = case.start()
    clock = _clock(found)
    X, y, go = data.X.T, data.y, Run.go
    spent: list[float] = []

    def timed(run: Run) -> Any:  # a callback could time it, too, but costs a call a step
        found: list[Any] = []
        spent.append(clock(lambda: found.append(go(run))))
        return found[0]

    def time(epochs: int) -> float:
        with patch.object(Run, "go", timed):
            trainer.fit(X, y, epochs=epochs, batch_size=case.m, shuffle=case.shuffled)
        return spent.pop()

    def parameters() -> dict[str, Any]:
        return trainer.parameters

    return _contestant(found, lambda: time(1), clock, parameters)._replace(time=time)


def step_alone(backend: str, case: Case, data: Data) -> Contestant:
    """Return the steps on end, as the backend does them; what they take less than `fit` is the Trainer's share."""
    found = _find(backend)
    network, optimizer = case.network(), case.make_optimizer()
    X, y = found.asarray(data.X.T), found.asarray(data.y)
    rng = np.random.default_rng(case.seed)
    repeated = found.repeat(training_step(network, optimizer))
    state = initial_state(network, optimizer, found.asarray(network.flatten(case.start()), case.dtype))

    def epoch() -> None:
        nonlocal state
        order = found.asarray(rng.permutation(len(data.y))) if case.shuffled else None
        state, Js = repeated(state, (X, y, None), order, 0, case.m, case.steps)
        found.to_numpy(Js[-1])  # waits for it

    def parameters() -> dict[str, Any]:
        made: dict[str, Any] = network.unflatten(found.to_numpy(state["theta"]))
        return made

    return _contestant(found, epoch, _clock(found), parameters)


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
