"""Callbacks: early stopping, checkpoints, logs, averages, progress."""

from nnx.callbacks.base import Callback, Callbacks
from nnx.callbacks.checkpoints import Checkpoints
from nnx.callbacks.csv_log import CSVLog
from nnx.callbacks.early_stopping import EarlyStopping
from nnx.callbacks.json_lines import JSONLines
from nnx.callbacks.moving_average import MovingAverage
from nnx.callbacks.progress_bar import ProgressBar
from nnx.callbacks.reduce_on_plateau import ReduceOnPlateau
from nnx.callbacks.snapshots import Snapshots
from nnx.callbacks.tensorboard import TensorBoard

__all__ = [
    "CSVLog",
    "Callback",
    "Callbacks",
    "Checkpoints",
    "EarlyStopping",
    "JSONLines",
    "MovingAverage",
    "ProgressBar",
    "ReduceOnPlateau",
    "Snapshots",
    "TensorBoard",
]
