"""The network of the estimators of tables: its layers, its training, and its predictions after it."""

from dataclasses import dataclass, field
from math import ceil, floor
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from nnx.array import host
from nnx.batches.split import split_places
from nnx.callbacks.base import Callback
from nnx.callbacks.early_stopping import EarlyStopping
from nnx.callbacks.progress import Progress
from nnx.errors import BackendError, DivergenceError, InputError
from nnx.model.layers import FeatureScale, Layer, NTKDense
from nnx.model.network import Network
from nnx.model.regularization import Regularization
from nnx.optimizers.adam import Adam
from nnx.optimizers.schedules import CosLog
from nnx.port import registry
from nnx.sklearn import samples
from nnx.sklearn.table_inputs import TableInputs
from nnx.support.warned import warn
from nnx.train.trainer import Trainer

MAX_NUMBERS = 2**22
"""Numbers of the widest layer of all members that a prediction computes at once."""


@dataclass(frozen=True)
class Recipe:
    """The numbers of RealMLP-TD-S (Holzmueller et al., 2024, https://arxiv.org/abs/2407.04491) that are fixed."""

    activation: str
    output: str
    monitor: str
    scale_rate: float = 6.0
    bias_rate: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95

    def network(self, n_inputs: int, hidden: list[int], n_outputs: int, first: list[Layer]) -> Network:
        """Return the network: a factor for each unit of the first layers, hidden ones, and one that begins at zero."""
        made: list[Layer] = [*first, FeatureScale(self.scale_rate)]
        made += [NTKDense(n, self.activation, bias_rate=self.bias_rate) for n in hidden]
        last = NTKDense(n_outputs, init="zeros", bias_rate=self.bias_rate)
        return Network(n_inputs, [*made, last], self.output)


@dataclass
class Asked:
    """What the user has chosen of a training, checked.

    `validation` is a `validation_set` as `Trainer.fit` takes it, with samples as rows. With it the share is 0.
    """

    rate: float
    epochs: int
    batch_size: int
    share: float
    seeds: list[int]
    smoothing: float
    backend: str | None
    device: str | None
    dtype: str
    progress: bool
    callbacks: list[Callback]
    validation: tuple[Any, ...] | None


class BestEpoch(EarlyStopping):
    """Keeps the parameters of the best epoch, of equally good ones the last, and never ends the fit."""

    def improved(self, progress: Progress) -> bool:
        """Return whether an epoch is as good as the best so far, or better."""
        if self.best is not None and self._value(progress.measured or {}) == self.best:
            self.best_epoch = progress.epoch
            return True
        return super().improved(progress)


@dataclass
class TabularModel:
    """Everything that a prediction needs: the preparation of a table, and members of one network.

    Attributes
    ----------
    inputs : TableInputs
    network : Network
    theta : NumPy array (K, P)
    backend, device, dtype : str
        Where the fit was.
    """

    inputs: TableInputs
    network: Network
    theta: Any
    backend: str
    device: str
    dtype: str
    _ready: Any = field(default=None, repr=False)

    def outputs(self, X: Any) -> Any:
        """Return the mean of the members' A[L] as a NumPy array (m, n[L]), float64."""
        if self._ready is None:
            self._ready = self._compiled()
        backend, forward, theta = self._ready
        rows, found = self.inputs(X), []
        step = max(1, MAX_NUMBERS // (len(self.theta) * self.network.widest))
        for start in range(0, len(rows), step):
            A = backend.to_numpy(forward(theta, backend.asarray(rows[start : start + step].T, "float64")))
            found.append(np.asarray(A, np.float64).mean(axis=0).T)
        return np.concatenate(found)

    def _compiled(self) -> Any:
        try:
            backend = samples.backend(self.backend, self.device)
        except BackendError:  # the model was fitted on another machine
            backend = samples.backend("numpy", None)
        # In float32 the rounding of a product depends on the samples beside it, and so would predictions.
        return backend, backend.compile(self.network.forward), backend.asarray(self.theta, "float64")

    def __getstate__(self) -> dict[str, Any]:
        """Return NumPy arrays and descriptions, which any machine can load."""
        return {**vars(self), "network": self.network.describe(), "_ready": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make the network again."""
        vars(self).update(state, network=Network.from_description(state["network"]))


def train(
    network: Network, recipe: Recipe, asked: Asked, X: Any, Y: Any, weights: Any
) -> tuple[Trainer, list[int | None], Any]:
    """Train members of a network; return their trainer, the epoch that each has kept, and their parameters (K, P).

    Parameters
    ----------
    network : Network
    recipe : Recipe
    asked : Asked
    X : NumPy array (m, n[0])
    Y : NumPy array (m, n[L]), or class numbers (m,)
    weights : NumPy array (m,) or None

    Raises
    ------
    ValueError
        When no sample would be held out or trained on, or none that weighs, or a single step done; when all members
        diverge before an epoch is kept.
    KeyboardInterrupt
        After Ctrl-C before an epoch is kept.
    """
    m, K = len(X), len(asked.seeds)
    validates, batch_size = _sizes(m, asked)
    if validates and asked.validation is None and weights is not None and not weights.all():
        _check_both_weigh(network, asked, Y, weights)
    work = registry.work(network.P, m * asked.epochs, 0, K)
    trainer = Trainer(
        network,
        Adam(CosLog.in_epochs(asked.rate), recipe.beta1, recipe.beta2),
        samples.backend_for(X, asked.backend, asked.device, None, work),
        dtype=asked.dtype,
        seed=asked.seeds if K > 1 else asked.seeds[0],
        regularization=Regularization(label_smoothing=asked.smoothing),
        members=K if K > 1 else None,
    )
    keeper = BestEpoch(recipe.monitor if validates else "loss", patience=asked.epochs)
    try:
        trainer.fit(
            X,
            Y,
            epochs=asked.epochs,
            batch_size=batch_size,
            callbacks=[keeper, *asked.callbacks] if validates else asked.callbacks,
            sample_weight=weights,
            progress=asked.progress,
            rows=True,
            validation=asked.validation,
            validation_split=asked.share if validates and asked.validation is None else None,
        )
    except KeyboardInterrupt as interrupt:
        if not all(one.kept if validates else one.records for one in _members(trainer)):
            raise KeyboardInterrupt(
                "the first epoch has not ended: there are no parameters to keep, and the estimator is as before fit"
            ) from interrupt
        kept = (
            f"best parameters so far are kept, of {_said(trainer)}"
            if validates
            else "last parameters are kept"
        )
        warn(f"Training interrupted by user. The {kept}.")
    except DivergenceError as error:
        if K == 1 and keeper.theta is not None:  # of members, the fit itself takes back each one's best epoch
            trainer.theta, trainer.kept = keeper.theta, keeper.best_epoch
        if not any(one.kept for one in _members(trainer)):
            raise ValueError(f"{error}. Give a smaller learning_rate_init") from error
        warn(ConvergenceWarning(f"{error}. The parameters of {_said(trainer)} are kept."))
    theta = np.asarray(trainer.theta).reshape(K, network.P)
    if K > 1:
        theta = theta[np.asarray(trainer.ensemble.weights) > 0]
    return trainer, [one.kept for one in _members(trainer)], host.copy(theta)


def _sizes(m: int, asked: Asked) -> tuple[bool, int]:
    """Return whether an epoch is validated, and the samples of a step: the same in all, but for one."""
    held = floor(m * asked.share + 0.5)
    if asked.share and not 0 < held < m:
        raise ValueError(
            f"With n_samples={m} and validation_fraction={asked.share:g}, the resulting "
            f"{'train' if held else 'validation'} set will be empty. Adjust any of the aforementioned parameters."
        )
    steps = ceil((m - held) / asked.batch_size)
    if steps * asked.epochs < 2:
        raise ValueError(
            f"max_iter=1 with a single batch of {m - held} samples is one step, and the first step has the rate 0. "
            "Increase max_iter or decrease batch_size."
        )
    return held > 0 or asked.validation is not None, ceil((m - held) / steps)


def _check_both_weigh(network: Network, asked: Asked, Y: Any, weights: Any) -> None:
    """Raise an InputError if a member's samples on one side all have the weight 0, as only `class_weight` gives it."""
    for seed in asked.seeds:
        train, held = split_places(asked.share, network.output, Y, seed)
        if not weights[held].any():
            raise InputError(
                f"class_weight is 0 for all of the {len(held)} samples that validation_fraction holds out: they have "
                "no score. Raise validation_fraction, or leave out the samples without weight"
            )
        if not weights[train].any():
            raise InputError(
                f"class_weight is 0 for all of the {len(train)} samples that validation_fraction leaves to train on. "
                "Lower validation_fraction, or leave out the samples without weight"
            )


def _said(trainer: Trainer) -> str:
    """Return the epochs that are kept, for a message."""
    kept = [one.kept for one in _members(trainer)]
    return f"epoch {kept[0]}" if len(kept) == 1 else f"epochs {kept}"


def _members(trainer: Trainer) -> list[Trainer]:
    return [*trainer.each] or [trainer]
