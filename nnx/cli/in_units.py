"""The progress bar, the event files and the trackers of a training, with errors in the target's own unit."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from nnx.callbacks import Callback, MLflow, ProgressBar, TensorBoard, WandB
from nnx.callbacks.fit import Fit
from nnx.callbacks.mlflow_uri import place
from nnx.callbacks.progress import Progress
from nnx.cli.inputs import typed
from nnx.data.prepare import Preparation


class _InUnits:
    """A callback that shows errors in the target's unit."""

    _preparation: Preparation

    def on_epoch(self, trainer: Fit, progress: Progress) -> None:
        """Show the epoch's numbers."""
        measured = self._preparation.in_units(progress.measured or {})
        super().on_epoch(trainer, replace(progress, measured=measured))  # type: ignore[misc]


class Bar(_InUnits, ProgressBar):
    """The progress bar, with errors in the target's unit.

    Parameters
    ----------
    console : rich.console.Console
    preparation : Preparation
    """

    def __init__(self, console: Console, preparation: Preparation) -> None:
        super().__init__(console)
        self._preparation = preparation

    def _why(self, trainer: Fit) -> str:
        return ""  # the report says it, with the epoch that is kept


class Board(_InUnits, TensorBoard):
    """Event files for TensorBoard, with errors in the target's unit.

    Parameters
    ----------
    folder : path
    preparation : Preparation
    """

    def __init__(self, folder: Path, preparation: Preparation) -> None:
        super().__init__(folder)
        self._preparation = preparation


AUTO = "auto"
"""The tracker as its own settings say, in place of a server or a project."""


def tracker(mlflow: str) -> str:
    """Return where MLflow records: a folder as it is found from any folder, a URI and "auto" as they are.

    Raises
    ------
    UsageError
        When MLflow knows no such URI.
    """
    if mlflow == AUTO:
        return mlflow
    with typed():
        folder, _ = place(mlflow, "mlflow")
    return mlflow if folder is None else str(folder.resolve())


class _Run(_InUnits):
    """A tracker's run with the name of the run's folder, with errors in the target's unit.

    Parameters
    ----------
    where : str
        MLflow's server or folder, or the project of Weights & Biases; "auto": as the tracker's own settings say.
    name : str or None
    data : str
    preparation : Preparation
    """

    def __init__(self, where: str, name: str | None, data: str, preparation: Preparation) -> None:
        super().__init__(None if where == AUTO else where, name=name, params={"data": data})  # type: ignore[call-arg]
        self._preparation = preparation


class MLflowRun(_Run, MLflow):
    """A run of MLflow."""


class WandBRun(_Run, WandB):
    """A run of Weights & Biases."""


class Watch(Callback):
    """Shows the run and its epoch in a line."""

    def __init__(self, status: Any, what: str) -> None:
        self._status, self._what = status, what

    def on_epoch(self, trainer: Any, progress: Progress) -> None:
        """Show the epoch."""
        self._status.update(f"{escape(self._what)}: epoch {progress.epoch}/{progress.epochs}")
