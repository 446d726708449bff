"""Fully connected neural networks on tables and arrays, with NumPy, numba, CuPy, PyTorch or JAX.

>>> import nnx
>>> net = nnx.mlp([2, 8, 1], hidden="tanh", output="sigmoid")
>>> trainer = nnx.Trainer(net, optimizer=nnx.GradientDescent(0.5), backend="numpy")

The notation is that of the course notes: the columns of X (n[0], m) are samples, and W[l] is (n[l], n[l-1]).
"""

from nnx.support import starting as _starting

_starting.watch()  # before the imports below, which take most of the time to the command's own code

from pathlib import Path as _Path
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

from nnx import convert, plots, schedules
from nnx.array.namespace import array_namespace
from nnx.batches.source import Rows
from nnx.callbacks import (
    Callback,
    Checkpoints,
    CSVLog,
    EarlyStopping,
    JSONLines,
    MLflow,
    MovingAverage,
    OptunaPruning,
    ProgressBar,
    ReduceOnPlateau,
    Snapshots,
    TensorBoard,
    WandB,
)
from nnx.callbacks.progress import Progress
from nnx.errors import (
    BackendError,
    CallbackError,
    CommunicatorError,
    DivergenceError,
    Error,
    InputError,
    LeftOutWarning,
    ModelFileError,
)
from nnx.metrics import METRICS, Metric
from nnx.model.activations import ACTIVATIONS
from nnx.model.activations import register as register_activation
from nnx.model.activations.base import Activation
from nnx.model.activations.functions import elu, leaky_relu
from nnx.model.gradient_check import check_gradient
from nnx.model.initializers import INITIALIZERS
from nnx.model.layers import (
    LAYERS,
    Activate,
    BatchNorm,
    Context,
    Dense,
    Dropout,
    FeatureScale,
    GaussianNoise,
    Layer,
    LayerNorm,
    NTKDense,
    Periodic,
    PiecewiseLinear,
    PReLU,
    Residual,
)
from nnx.model.layers import register as register_layer
from nnx.model.mlp import mlp
from nnx.model.network import Network
from nnx.model.outputs import LOSSES, OUTPUTS, register_loss
from nnx.model.outputs.loss import Loss
from nnx.model.regularization import Regularization
from nnx.model.summary import Summary
from nnx.optimizers import (
    OPTIMIZERS,
    Adagrad,
    Adam,
    AdamW,
    GradientDescent,
    Lion,
    Momentum,
    NAdam,
    Nesterov,
    RMSprop,
)
from nnx.optimizers.lbfgs import LBFGS
from nnx.optimizers.schedules import register as register_schedule
from nnx.port.base import Backend, Memory
from nnx.port.communicator import Communicator
from nnx.port.communicators import communicator
from nnx.port.registry import backend
from nnx.train.lr_finder import RateSearch, find_learning_rate
from nnx.train.trainer import Trainer
from nnx.version import __version__

__all__ = [
    "ACTIVATIONS",
    "INITIALIZERS",
    "LAYERS",
    "LBFGS",
    "LOSSES",
    "METRICS",
    "OPTIMIZERS",
    "OUTPUTS",
    "Activate",
    "Activation",
    "Adagrad",
    "Adam",
    "AdamW",
    "Backend",
    "BackendError",
    "BatchNorm",
    "CSVLog",
    "Callback",
    "CallbackError",
    "Checkpoints",
    "Communicator",
    "CommunicatorError",
    "Context",
    "Dense",
    "DivergenceError",
    "Dropout",
    "EarlyStopping",
    "Error",
    "FeatureScale",
    "GaussianNoise",
    "GradientDescent",
    "InputError",
    "JSONLines",
    "Layer",
    "LayerNorm",
    "LeftOutWarning",
    "Lion",
    "Loss",
    "MLflow",
    "Memory",
    "Metric",
    "ModelFileError",
    "Momentum",
    "MovingAverage",
    "NAdam",
    "NTKDense",
    "Nesterov",
    "Network",
    "OptunaPruning",
    "PReLU",
    "Periodic",
    "PiecewiseLinear",
    "Progress",
    "ProgressBar",
    "RMSprop",
    "RateSearch",
    "ReduceOnPlateau",
    "Regularization",
    "Residual",
    "Rows",
    "Snapshots",
    "Summary",
    "Tabular",
    "TensorBoard",
    "Trainer",
    "WandB",
    "__version__",
    "array_namespace",
    "backend",
    "check_gradient",
    "communicator",
    "convert",
    "elu",
    "find_learning_rate",
    "leaky_relu",
    "mlp",
    "plots",
    "register_activation",
    "register_layer",
    "register_loss",
    "register_schedule",
    "schedules",
]

if _TYPE_CHECKING:
    from nnx.data.tabular import Tabular


def __getattr__(name: str) -> _Any:
    """Import `Tabular`, and what reads data, when somebody asks for it."""
    if name == "Tabular":
        from nnx.data.tabular import Tabular

        return Tabular
    raise AttributeError(f"module 'nnx' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


# In a checkout backends/ and bench/ stand beside nnx/ (an installed nnx has them inside): Python started there
# finds this folder first, and must find them, too.
_checkout = _Path(__file__).parent.parent
if (_checkout / "pyproject.toml").is_file() and (_checkout / "backends").is_dir():
    __path__.append(str(_checkout))
