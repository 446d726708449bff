"""Fully connected networks, written once against the Python Array API, on whatever array library is present.

>>> import nnx
>>> net = nnx.mlp([2, 8, 1], hidden="tanh", output="sigmoid")
>>> trainer = nnx.Trainer(net, optimizer=nnx.GradientDescent(0.5), backend="numpy")

The notation is that of the course notes: X (n[0], m) holds samples as columns, W[l] is (n[l], n[l-1]).
"""

from pathlib import Path as _Path

from nnx.activations import ACTIVATIONS, Activation, leaky_relu
from nnx.activations import register as register_activation
from nnx.arrays import array_namespace
from nnx.choice import backend
from nnx.errors import BackendError, DivergenceError, Error, InputError, ModelFileError
from nnx.initializers import INITIALIZERS
from nnx.layers import Dense
from nnx.network import Network, mlp
from nnx.optimizers import OPTIMIZERS, Adam, GradientDescent
from nnx.outputs import OUTPUTS
from nnx.port import Backend, Memory
from nnx.progress import Progress
from nnx.trainer import Trainer
from nnx.version import __version__

__all__ = [
    "ACTIVATIONS",
    "INITIALIZERS",
    "OPTIMIZERS",
    "OUTPUTS",
    "Activation",
    "Adam",
    "Backend",
    "BackendError",
    "Dense",
    "DivergenceError",
    "Error",
    "GradientDescent",
    "InputError",
    "Memory",
    "ModelFileError",
    "Network",
    "Progress",
    "Trainer",
    "__version__",
    "array_namespace",
    "backend",
    "leaky_relu",
    "mlp",
    "register_activation",
]

# In a checkout backends/ and bench/ stand beside nnx/ (an installed nnx has them inside): Python started there
# finds this folder first, and must find them, too.
_checkout = _Path(__file__).parent.parent
if (_checkout / "pyproject.toml").is_file() and (_checkout / "backends").is_dir():
    __path__.append(str(_checkout))
