"""nnx as a contestant: `Trainer.fit` as a user calls it."""

import time
from importlib import import_module
from typing import Any
from unittest.mock import patch

from nnx.bench.case import Case, Data
from nnx.bench.clocks import wall
from nnx.bench.contestant import Contestant, split_backend
from nnx.bench.memory import cupy_peak, torch_peak
from nnx.callbacks import Callback
from nnx.port.base import Backend
from nnx.port.precision import FLOAT32
from nnx.port.registry import backend as find_backend
from nnx.port.registry import described
from nnx.train.trainer import Trainer


class FitClock(Callback):
    """Takes the time from before the first epoch to after the last. At the end the fit has read all costs."""

    each_epoch = False  # many epochs may be done at once
    seconds = 0.0

    def on_fit_start(self, trainer: Any, epochs: int) -> None:
        """Begin."""
        self._start = time.perf_counter()

    def on_fit_end(self, trainer: Any) -> None:
        """End."""
        self.seconds = time.perf_counter() - self._start


def fit(backend: str, case: Case, data: Data) -> Contestant:
    """Return `Trainer.fit`, with the time of its epochs and of all that it does in them.

    Before the epochs `fit` checks X and moves it to the device: that belongs to no step and is not timed. A second
    clock is read before and after each call of the program's steps: the rest of the time is the Trainer's own.
    """
    found = find_backend(*split_backend(backend))
    network, optimizer = case.network(), case.make_optimizer()
    trainer = Trainer(network, optimizer, backend=found, dtype=case.dtype, seed=case.seed)
    trainer.parameters = case.start()
    library, detail = described(found)
    program, clock, now = trainer.session.program, FitClock(), time.perf_counter
    run, inside = program.run, 0.0

    def timed_run(data: Any, order: Any, at: int, m: int, count: int) -> Any:
        nonlocal inside
        start = now()
        Js = run(data, order, at, m, count)
        found.to_numpy(Js[count - 1])  # waits for the device
        inside += now() - start
        return Js

    def seconds(epochs: int) -> float:
        nonlocal inside
        inside = 0.0
        with patch.object(program, "run", timed_run):
            trainer.fit(
                data.X.T,
                data.y,
                epochs=epochs,
                batch_size=case.m,
                shuffle=case.shuffled,
                callbacks=clock,
                progress=False,
            )
        return clock.seconds

    def parameters() -> dict[str, Any]:
        return trainer.parameters

    return Contestant(
        lambda: seconds(1),
        wall(),
        parameters,
        library,
        found.device,
        detail,
        _peak(found),
        outside=lambda: max(0.0, clock.seconds - inside),
        time=seconds,
        precision=None if found.precision == FLOAT32 else found.precision,
    )


def _peak(backend: Backend) -> Any:
    """Return a function that returns the peak of a GPU's memory since its last call; on a CPU None."""
    if not backend.device.startswith("cuda"):
        return None
    if backend.name == "cupy":
        return lambda: cupy_peak(import_module("cupy"))
    if backend.name == "torch":
        return lambda: torch_peak(import_module("torch"), backend.device)
    return lambda: backend.memory().peak or 0
