"""What lies between a file and a network: scaling, label names, the split. Kept in the model file."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nnx.data.source import Samples
from nnx.errors import InputError, count, unknown
from nnx.host import generator, quiet
from nnx.metrics import decide

TASKS = ("auto", "classification", "regression")
EACH_CLASS = 10
"""Whole numbers are taken as classes when there are two, or when each occurs this often on average."""


@dataclass(frozen=True)
class Preparation:
    """How samples become X and Y, and outputs become predictions.

    Attributes
    ----------
    features : list of str
        The columns, in X's order.
    named : bool
        Whether a file's columns are found by these names.
    mean, scale : list of float
        X = (column - mean) / scale, one of each a feature.
    target : str
    labels : list or None
        The classes' names in the order of their indices; None for numbers.
    y_mean, y_scale : float
        Y = (target - y_mean) / y_scale for numbers.
    """

    features: list[str]
    named: bool
    mean: list[float]
    scale: list[float]
    target: str
    labels: list[Any] | None
    y_mean: float = 0.0
    y_scale: float = 1.0

    @classmethod
    def learn(cls, samples: Samples, task: str, train: Any) -> "Preparation":
        """Learn it from the samples of the training set alone; train holds their row numbers."""
        X = np.asarray(samples.X[train], dtype=float)
        with quiet():
            mean = X.mean(axis=0)
            std = np.full(len(mean), X.std()) if samples.one_unit else X.std(axis=0)
        scale = _scale(mean, std)
        for name, ok in zip(samples.features, np.isfinite(mean + scale), strict=True):
            if not ok:
                raise InputError(f"the feature {name!r} has numbers too large to compute their deviation")
        kept = (samples.features, samples.named, mean.tolist(), scale.tolist(), samples.target)
        if task == "classification":
            return cls(*kept, np.unique(samples.y).tolist())
        y = samples.y[train].astype(float)
        return cls(*kept, None, float(y.mean()), float(_scale(y.mean(), y.std())))

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> "Preparation":
        """Return the preparation that a model file holds."""
        if "preparation" not in metadata:
            raise InputError(
                "the model holds no description of its data, since nnx.Trainer saved it, not `nnx train`; "
                "load it with nnx.Trainer.load and call its predict"
            )
        try:
            return cls(**metadata["preparation"])
        except TypeError as error:
            raise InputError(f"the model's description of its data cannot be read: {error}") from error

    def describe(self) -> dict[str, Any]:
        """Return a description of types that JSON has."""
        return asdict(self)

    @property
    def output(self) -> str:
        """The output that suits the target: identity for numbers, sigmoid for two classes, else softmax."""
        return "identity" if self.labels is None else "sigmoid" if len(self.labels) == 2 else "softmax"

    @property
    def n_outputs(self) -> int:
        """n[L]: one for numbers and for two classes, else one a class."""
        return len(self.labels) if self.labels and len(self.labels) > 2 else 1

    def X(self, values: Any) -> Any:
        """Return X (n[0], m) from the features' values (m, n[0])."""
        return ((values - np.asarray(self.mean)) / np.asarray(self.scale)).T

    def Y(self, y: Any) -> Any:
        """Return class indices (m,), or scaled numbers (1, m)."""
        if self.labels is None:
            return (y.astype(float)[None, :] - self.y_mean) / self.y_scale
        return np.searchsorted(np.asarray(self.labels), y)

    def y(self, A: Any) -> list[Any]:
        """Return what the outputs A (n[L], m) predict: a label, or a number in the target's unit, a sample."""
        A = np.asarray(A, dtype=float)  # float32 would lose the last digits of y_mean
        if self.labels is None:
            return (A[0] * self.y_scale + self.y_mean).tolist()  # type: ignore[no-any-return]
        return [self.labels[k] for k in decide(A)]


def _scale(mean: Any, std: Any) -> Any:
    """Return what to divide by: the deviation, or 1 for what is constant (but for rounding)."""
    return np.where(std > 1e-12 * np.abs(mean), std, 1.0)


def find_task(samples: Samples, task: str) -> str:
    """Return "classification" or "regression", checking that the target allows it."""
    if task not in TASKS:
        raise unknown("task", task, TASKS)
    y, kind = samples.y, samples.y.dtype.kind
    where = f"the target {samples.target!r}"
    if kind not in "biufU":
        raise InputError(f"{where} holds {y.dtype}; expected text or numbers")
    bad = int((~np.isfinite(y)).sum()) if kind == "f" else 0
    if bad:
        raise InputError(f"{where} is NaN or infinite in {count(bad, 'row')}; remove these rows")
    different = len(np.unique(y))
    whole = kind != "f" or bool((y == np.floor(y)).all())
    if task == "auto":
        repeat = different <= 2 or len(y) >= EACH_CLASS * different
        task = "classification" if kind in "Ub" or (whole and repeat) else "regression"
    if task == "regression" and kind not in "biuf":
        raise InputError(f"{where} holds text such as {str(y[0])!r}; expected numbers for regression")
    if task == "classification":
        if not whole:
            raise InputError(
                f"{where} holds fractions such as {y[y != np.floor(y)][0]}; expected class labels"
            )
        if different < 2:
            raise InputError(f"{where} has one class only, {str(y[0])!r}; expected two or more")
        if different > max(2, len(y) // 2):
            raise InputError(
                f"{where} has {different} different values in {len(y)} rows; expected classes that repeat"
            )
    return task


def split(samples: Samples, task: str, held_out: float, seed: int) -> tuple[Any, Any]:
    """Return the row numbers to train on and those held out, a share of each class of its own size.

    Raises
    ------
    InputError
        When held_out is not between 0 and 1, or leaves either side empty.
    """
    m = len(samples.X)
    if not 0 < held_out < 1:
        raise InputError(f"held-out must be between 0 and 1, the share of the samples; given {held_out}")
    order = generator(seed).permutation(m)
    if task == "classification":  # along the classes, every 1/held_out-th sample
        order = order[np.argsort(samples.y[order], kind="stable")]
    held = np.diff(np.floor(np.arange(m + 1) * held_out + 0.5)) > 0
    if held.all() or not held.any():
        raise InputError(
            f"{m} samples are too few to hold out {held_out:g} of them; expected some on each side"
        )
    return order[~held], order[held]
