"""Trains steps for `against.py`, in the checkout whose Python runs this file: an older nnx must be able to, too.

It reads one question a line and answers each with one line, both in JSON:

{"network": sizes, "samples": M}                    draw the samples
{"backend": name, "m": m, "steps": k, "shuffle": b} make a trainer, train an epoch, return the seconds of another one
{"epochs": k}                                       train, return the seconds
"""

import inspect
import json
import os
import signal
import sys
import time
import warnings
from importlib.util import find_spec
from typing import Any
from unittest.mock import patch

import numpy as np

import nnx


class Clock(nnx.Callback):
    """Takes the time from the beginning of the first epoch to the end of the last. It needs no call in between."""

    each_epoch = False  # so that many may be done at once
    seconds = 0.0

    def on_fit_start(self, trainer: Any, epochs: int) -> None:
        """Begin."""
        self._start = time.perf_counter()

    def on_fit_end(self, trainer: Any) -> None:
        """End."""
        self.seconds = time.perf_counter() - self._start


def timed_fit(trainer: Any, X: Any, y: Any, **options: Any) -> float:
    """Fit; return the seconds of the epochs, without those in which X is checked and moved to the device."""
    if "progress" in inspect.signature(trainer.fit).parameters:
        options["progress"] = False
    if find_spec("nnx.run") is None:
        clock = Clock()
        trainer.fit(X, y, callbacks=clock, **options)
        return clock.seconds
    run: Any = __import__("nnx.run", fromlist=["Run"]).Run  # an old nnx, in which a callback sees each epoch
    go, seconds = run.go, 0.0

    def timed(*arguments: Any) -> Any:
        nonlocal seconds
        start = time.perf_counter()
        result = go(*arguments)
        seconds = time.perf_counter() - start
        return result

    with patch.object(run, "go", timed):
        trainer.fit(X, y, **options)
    return seconds


class Steps:
    """Answers the questions."""

    def __init__(self) -> None:
        self.sizes: tuple[int, ...] = ()
        self.X: Any = None
        self.y: Any = None
        self.trainer: Any = None
        self.options: dict[str, Any] = {}

    def draw(self, network: list[int], samples: int) -> None:
        """Draw X (M, n[0]) and classes (M,)."""
        self.trainer = self.X = None  # its memory is free before the next is taken
        self.sizes = tuple(network)
        rng = np.random.default_rng(0)
        self.X = rng.standard_normal((samples, network[0]), np.float32)
        self.y = rng.integers(0, max(2, network[-1]), samples, dtype=np.int32)

    def make(self, backend: str, m: int, steps: int, shuffle: bool) -> float:
        """Make a trainer that begins with epochs of so many steps; return the seconds of the second epoch."""
        self.trainer = None
        optimizer = nnx.Adam(1e-6)  # so small that all epochs are like the first
        self.trainer = nnx.Trainer(nnx.mlp(self.sizes), optimizer, backend=backend)
        self.options = {"m": m, "M": m * steps, "shuffle": shuffle}
        self.train(1)  # compiles
        return self.train(1)

    def train(self, epochs: int) -> float:
        """Train so many epochs; return the seconds."""
        m, M, shuffle = (self.options[name] for name in ("m", "M", "shuffle"))
        X, y = self.X[:M].T, self.y[:M]
        return timed_fit(self.trainer, X, y, epochs=epochs, batch_size=m, shuffle=shuffle)


def main() -> None:
    """Answer until the other end is closed."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # a library that prints does not disturb
    warnings.simplefilter("ignore")
    steps = Steps()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the other process's: it ends this one
    for line in sys.stdin:
        question = json.loads(line)
        verb = {"network": steps.draw, "backend": steps.make, "epochs": steps.train}[next(iter(question))]
        try:
            answer: Any = verb(**question)  # type: ignore[operator]
        except Exception as error:  # whatever a library raises where it cannot run
            answer = f"{type(error).__name__}: {error}"
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
