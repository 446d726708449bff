"""nnx as a contestant: `Trainer.fit` as a user calls it."""

import time
from dataclasses import replace
from importlib import import_module
from typing import Any
from unittest.mock import patch

from nnx.bench.case import Case, Data, stacked
from nnx.bench.clocks import wall
from nnx.bench.contestant import Contestant, split_backend
from nnx.bench.memory import cupy_peak, torch_peak
from nnx.callbacks import Callback
from nnx.port.base import Backend
from nnx.port.precision import FLOAT32
from nnx.port.registry import backend as find_backend
from nnx.port.registry import described
from nnx.train.stack import Stack
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


class TimedFit:
    """A trainer whose fits are timed.

    Before the epochs `fit` checks X and moves it to the device: that belongs to no step and is not timed. A second
    clock is read before and after each call of the program's steps: the rest of the time is the Trainer's own.

    Attributes
    ----------
    trainer : Trainer
        With the members of the case, if it has any.
    """

    def __init__(self, backend: str, case: Case, data: Data) -> None:
        self.case, self.data = case, data
        self.trainer = Trainer(
            case.network(),
            case.make_optimizer(),
            backend=find_backend(*split_backend(backend)),
            dtype=case.dtype,
            seed=case.seed,  # of members that of the first; the others have those behind it
            members=case.members,
        )
        self._clock, self._inside = FitClock(), 0.0
        self._where: Any = self.trainer.session.program if case.members is None else Stack
        self._run = self._where.run

    def seconds(self, epochs: int) -> float:
        """Train so many epochs and return the seconds they took."""
        self._inside = 0.0
        with patch.object(self._where, "run", lambda *given: self._timed_run(*given)):
            self.trainer.fit(
                self.data.X.T,
                self.data.y,
                epochs=epochs,
                batch_size=self.case.m,
                shuffle=self.case.shuffled,
                callbacks=self._clock,
                progress=False,
            )
        return self._clock.seconds

    def _timed_run(self, *given: Any) -> Any:
        start = time.perf_counter()
        Js = self._run(*given)
        self.trainer.backend.to_numpy(Js[given[-1] - 1])  # waits for the device
        self._inside += time.perf_counter() - start
        return Js

    def outside(self) -> float:
        """Return the seconds of the last fit outside its calls of the program."""
        return max(0.0, self._clock.seconds - self._inside)

    def contestant(self, seconds: Any, parameters: Any, outside: Any) -> Contestant:
        """Return the contestant whose fits these are."""
        found = self.trainer.backend
        library, detail = described(found)
        return Contestant(
            lambda: seconds(1),
            wall(),
            parameters,
            library,
            found.device,
            detail,
            _peak(found),
            outside=outside,
            time=seconds,
            precision=None if found.precision == FLOAT32 else found.precision,
        )


def fit(backend: str, case: Case, data: Data) -> Contestant:
    """Return `Trainer.fit`, of members all at once, with the time of its epochs and of all that it does in them."""
    timed = TimedFit(backend, case, data)
    return timed.contestant(timed.seconds, lambda: timed.trainer.parameters, timed.outside)


def one_by_one(backend: str, case: Case, data: Data) -> Contestant:
    """Return K fits of single networks, one after the other, with the sum of their times.

    One trainer takes the members' states in turns, so that it compiles once. That is not timed.
    """
    timed = TimedFit(backend, replace(case, members=None), data)
    trainer, session, states = timed.trainer, timed.trainer.session, []
    for start in case.starts():
        trainer.parameters = start
        states.append(session.read())
    orders, outside = case.orders(), 0.0

    def seconds(epochs: int) -> float:
        nonlocal outside
        total = outside = 0.0
        for k, rng in enumerate(orders):
            session.load(states[k])
            trainer.rng = rng
            total += timed.seconds(epochs)
            outside += timed.outside()
            states[k] = session.read()
        return total

    def parameters() -> dict[str, Any]:
        thetas = [trainer.backend.to_numpy(state["theta"]) for state in states]
        found: dict[str, Any] = stacked([trainer.network.unflatten(theta) for theta in thetas])
        return found

    return timed.contestant(seconds, parameters, lambda: outside)


def _peak(backend: Backend) -> Any:
    """Return a function that returns the peak of a GPU's memory since its last call; on a CPU None."""
    if not backend.device.startswith("cuda"):
        return None
    if backend.name == "cupy":
        return lambda: cupy_peak(import_module("cupy"))
    if backend.name == "torch":
        return lambda: torch_peak(import_module("torch"), backend.device)
    return lambda: backend.memory().peak or 0
