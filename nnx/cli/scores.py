"""The scores of the training part after every epoch, beside those of the samples held out."""

from collections.abc import Callable, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

from nnx.callbacks import Callback
from nnx.host import generator
from nnx.plots.run import TRAINING_SAMPLE
from nnx.progress import Progress

if TYPE_CHECKING:
    from nnx.trainer import Trainer

SHARE, FEWEST = 1 / 20, 128
"""Of the training samples so many are measured, a share or at least a number: it costs a few percent of an epoch."""


class TrainingScores(Callback):
    """Measures some of the training samples after every epoch, as the samples held out are measured.

    The scores stand in the epoch's record under the metrics' own names. The cost is the epoch's, of all samples.

    Parameters
    ----------
    X, Y : array (n[0], m), and (m,) or (n[L], m)
        The training part.
    held_out : int
        How many samples are held out: no more are measured.
    metrics : list of str or None
        As in `Trainer.fit`.
    seed : int
        Draws the samples.
    weights : array (m,) or None
        Of the samples.
    """

    def __init__(
        self,
        X: Any,
        Y: Any,
        held_out: int,
        metrics: Sequence[str] | None,
        seed: int,
        weights: Any = None,
    ) -> None:
        m = X.shape[1]
        size = sample_size(m, held_out)
        places = sorted(generator(seed).choice(m, size, replace=False).tolist())
        self._X, self._Y, self._metrics = X[:, places], Y[..., places], metrics
        self._weights = None if weights is None else weights[places]
        self._measure: Callable[[], dict[str, Any]] = dict

    def on_fit_start(self, trainer: "Trainer", epochs: int) -> None:
        """Bring the samples to the device, and note how many they are."""
        self._measure = trainer.scorer(self._X, self._Y, self._metrics, self._weights)
        trainer.metadata[TRAINING_SAMPLE] = self._X.shape[1]

    def on_epoch(self, trainer: "Trainer", progress: Progress) -> None:
        """Measure; of a metric that has a number for each class there is no curve."""
        found = self._measure()
        trainer.records[-1] |= {
            name: float(value) for name, value in found.items() if name != "loss" and isinstance(value, Real)
        }


def sample_size(m: int, held_out: int) -> int:
    """Return how many of m training samples are measured.

    Examples
    --------
    >>> sample_size(1437, 360), sample_size(120, 30), sample_size(50_000, 10_000)
    (128, 30, 2500)
    """
    return min(m, held_out, max(FEWEST, int(m * SHARE)))
