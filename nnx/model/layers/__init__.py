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
from nnx.model.layers.dense import Affine, Dense
from nnx.model.layers.dropout import Dropout, GaussianNoise
from nnx.model.layers.norms import BatchNorm, LayerNorm
from nnx.model.layers.periodic import Periodic
from nnx.model.layers.piecewise_linear import PiecewiseLinear
from nnx.model.layers.residual import Residual
from nnx.model.layers.scaled import FeatureScale, NTKDense

__all__ = [
    "LAYERS",
    "Activate",
    "Affine",
    "BatchNorm",
    "Context",
    "Dense",
    "Dropout",
    "FeatureScale",
    "GaussianNoise",
    "Layer",
    "LayerNorm",
    "NTKDense",
    "PReLU",
    "Params",
    "Periodic",
    "PiecewiseLinear",
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

for _kind in (
    Dense, Activate, PReLU, Dropout, GaussianNoise, LayerNorm, BatchNorm, Residual, FeatureScale, NTKDense,
    PiecewiseLinear, Periodic,
):  # fmt: skip
    LAYERS[_kind.__name__] = _kind
