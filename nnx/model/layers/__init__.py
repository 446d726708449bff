"""The layers, each by its name."""

from nnx.model.layers.activate import Activate, PReLU
from nnx.model.layers.base import (
    LAYERS,
    Context,
    Layer,
    Params,
    as_text,
    backward,
    changed,
    describe,
    every,
    forward,
    from_any,
    from_description,
    register,
)
from nnx.model.layers.dense import Dense
from nnx.model.layers.dropout import Dropout, GaussianNoise
from nnx.model.layers.norms import BatchNorm, LayerNorm
from nnx.model.layers.residual import Residual

__all__ = [
    "LAYERS",
    "Activate",
    "BatchNorm",
    "Context",
    "Dense",
    "Dropout",
    "GaussianNoise",
    "Layer",
    "LayerNorm",
    "PReLU",
    "Params",
    "Residual",
    "as_text",
    "backward",
    "changed",
    "describe",
    "every",
    "forward",
    "from_any",
    "from_description",
    "register",
]

for _kind in (Dense, Activate, PReLU, Dropout, GaussianNoise, LayerNorm, BatchNorm, Residual):
    LAYERS[_kind.__name__] = _kind
