"""The state of an optimizer between two fits, as NumPy arrays."""

from typing import Any

from nnx.array import host
from nnx.train.trainer import Trainer


def optimizer_memory(trainer: Trainer) -> dict[str, Any]:
    """Return the optimizer's state, as NumPy arrays."""
    kept = {name: x for name, x in trainer.session.read().items() if name not in ("theta", "decays")}
    return {name: host.copy(trainer.backend.to_numpy(x)) for name, x in kept.items()}


def remember(trainer: Trainer, memory: dict[str, Any]) -> None:
    """Give a trainer the result of `optimizer_memory`, unless the network or the optimizer differs."""
    state, asarray = trainer.session.read(), trainer.backend.asarray
    known = {name: x for name, x in memory.items() if name in state}
    if all(x.shape == tuple(state[name].shape) for name, x in known.items()):
        trainer.session.load(
            {name: asarray(x, "int32" if x.dtype.kind == "i" else trainer.dtype) for name, x in known.items()}
        )
