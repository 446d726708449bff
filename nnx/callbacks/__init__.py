"""Callbacks: early stopping, checkpoints, logs, trackers, averages, progress."""

from nnx.callbacks.base import Callback, Callbacks
from nnx.callbacks.checkpoints import Checkpoints
from nnx.callbacks.csv_log import CSVLog
from nnx.callbacks.early_stopping import EarlyStopping
from nnx.callbacks.json_lines import JSONLines
from nnx.callbacks.mlflow import MLflow
from nnx.callbacks.moving_average import MovingAverage
from nnx.callbacks.optuna_pruning import OptunaPruning
from nnx.callbacks.progress_bar import ProgressBar
from nnx.callbacks.reduce_on_plateau import ReduceOnPlateau
from nnx.callbacks.snapshots import Snapshots
from nnx.callbacks.tensorboard import TensorBoard
from nnx.callbacks.wandb import WandB

__all__ = [
    "CSVLog",
    "Callback",
    "Callbacks",
    "Checkpoints",
    "EarlyStopping",
    "JSONLines",
    "MLflow",
    "MovingAverage",
    "OptunaPruning",
    "ProgressBar",
    "ReduceOnPlateau",
    "Snapshots",
    "TensorBoard",
    "WandB",
]
