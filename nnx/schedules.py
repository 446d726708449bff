"""Schedules: the learning rate as a function of the number of steps done, in place of a number.

`nnx.Adam(nnx.schedules.Cosine(0.01, steps=1000))`. `Cosine.in_epochs` and the like count epochs. After its last step
a schedule stays as it is. (The code is in `nnx.optimizers.schedules`.)
"""

from nnx.optimizers.schedules import (
    SCHEDULES,
    Constant,
    Cosine,
    CosLog,
    Custom,
    Exponential,
    InverseScaling,
    OneCycle,
    Polynomial,
    Schedule,
    StepDecay,
    describe,
    has_end,
    parameters,
    register,
    schedule,
)

__all__ = [
    "SCHEDULES",
    "Constant",
    "CosLog",
    "Cosine",
    "Custom",
    "Exponential",
    "InverseScaling",
    "OneCycle",
    "Polynomial",
    "Schedule",
    "StepDecay",
    "describe",
    "has_end",
    "parameters",
    "register",
    "schedule",
]
