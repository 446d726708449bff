"""The layers, each by its name."""

from nnx.layers.activate import Activate, PReLU
from nnx.layers.base import (
    LAYERS,
    Context,
    Layer,
    Params,
    backward,
    describe,
    forward,
    from_any,
    from_description,
    register,
)
from nnx.layers.dense import Dense
from nnx.layers.dropout import Dropout, GaussianNoise
from nnx.layers.norms import BatchNorm, LayerNorm
from nnx.layers.residual import Residual

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
    "backward",
    "describe",
    "forward",
    "from_any",
    "from_description",
    "register",
]

for _kind in (Dense, Activate, PReLU, Dropout, GaussianNoise, LayerNorm, BatchNorm, Residual):
    LAYERS[_kind.__name__] = _kind
