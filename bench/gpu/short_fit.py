"""A short fit for compute-sanitizer: `python -m nnx.bench.gpu.short_fit graph` or `... calls`."""

import logging
import sys
from contextlib import nullcontext
from typing import Any
from unittest.mock import patch

import numpy as np

import nnx
from nnx.backends.cupy.gpu import Gpu

STEPS = 3
"""The first one runs call by call, the second one captures a graph."""


def main(how: str) -> None:
    """Train 64-64-10, alone and as two members, for some steps, as a graph or call by call; say how far it came."""
    import cupy

    logging.basicConfig(stream=sys.stdout, level=logging.DEBUG)  # nnx says how the steps run
    cupy.cuda.set_allocator(None)  # each array has memory of its own, so that what is beyond its end is found
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((64, STEPS * 32), np.float32), rng.integers(0, 10, STEPS * 32)
    trainer = nnx.Trainer(nnx.mlp([64, 64, 10]), nnx.Adam(), "cupy")
    with patch.object(Gpu, "captured", _refused) if how == "calls" else nullcontext():
        history = trainer.fit(X, y, epochs=1, batch_size=32, progress=False)
        nnx.Trainer(nnx.mlp([64, 64, 10]), nnx.Adam(), "cupy", members=2).fit(
            X, y, epochs=1, batch_size=32, progress=False
        )
    print(f"{trainer.steps} steps, J = {history['loss'][-1]:.6f}")


def _refused(*_: Any) -> Any:
    raise RuntimeError("calls were asked for")


if __name__ == "__main__":
    main(*sys.argv[1:])
