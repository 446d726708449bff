"""nnx's own schedules by their names."""

from collections.abc import Callable

from nnx.optimizers.schedules.base import Schedule
from nnx.optimizers.schedules.cosine import Cosine, CosLog, OneCycle
from nnx.optimizers.schedules.falling import Constant, Exponential, InverseScaling, Polynomial, StepDecay

SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "constant": Constant,
    "step_decay": StepDecay,
    "exponential": Exponential,
    "inverse_scaling": InverseScaling,
    "polynomial": Polynomial,
    "cosine": Cosine,
    "one_cycle": OneCycle,
    "coslog": CosLog,
}
"""Every schedule that the command line and a model file may name."""

OURS = frozenset(SCHEDULES)
