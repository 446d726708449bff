"""Which classes are taken for which."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from nnx.errors import INSTALL, InputError, items
from nnx.host import class_indices
from nnx.plots.style import SEQUENTIAL, class_names, drawing, figure, short
from nnx.port import require

WRITTEN = 20
"""Classes up to which every cell has its number and every row its name."""


def confusion_matrix(Y: Any, predicted: Any, labels: Sequence[object] | None = None, title: str = "") -> Any:
    """Draw how many samples of each class are predicted as which.

    Parameters
    ----------
    Y : array-like (m,)
        The class of each sample, an index.
    predicted : array-like (m,)
        What was predicted: `trainer.classify(X)`.
    labels : sequence or None
        The classes' names in the order of their indices; None: the indices.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
        A row for each true class, whose cells have the colour of their share of the row: a root of it, so that few
        errors among many samples are seen. Up to 20 classes have their numbers in the cells.

    Raises
    ------
    InputError
        When the lengths differ, there is no sample, or an index has no label.

    Examples
    --------
    >>> import nnx
    >>> figure = nnx.plots.confusion_matrix([0, 1, 1, 1], [0, 1, 1, 0], ["cat", "dog"])
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['1', '1', '2']
    """
    Y, predicted = class_indices("Y", Y), class_indices("predicted", predicted)
    labels = None if labels is None else items("labels", labels, "a list of the classes' names")
    if Y.ndim != 1 or Y.shape != predicted.shape or not Y.size:
        raise InputError(
            f"Y and predicted must be class indices (m,) of the same samples; given {Y.shape} and {predicted.shape}"
        )
    names = class_names(labels, len(labels) if labels is not None else 1 + int(max(Y.max(), predicted.max())))
    K = len(names)
    if max(Y.max(), predicted.max()) >= K or min(Y.min(), predicted.min()) < 0:
        raise InputError(f"class indices must be 0 to {K - 1}, one for each label")
    metrics = require("sklearn.metrics", INSTALL)
    counts = metrics.confusion_matrix(Y, predicted, labels=range(K))
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = 3.2 + 0.33 * min(K, WRITTEN)
    with drawing():
        from matplotlib.colors import PowerNorm

        made = figure(size + 0.9, size)
        axes = made.subplots()
        share = np.ma.masked_equal(share, 0)  # what never happens is left blank
        shown = axes.imshow(share, cmap=SEQUENTIAL, norm=PowerNorm(0.5, 0, 1), interpolation="nearest")
        bar = made.colorbar(shown, ax=axes, shrink=0.8, ticks=[0.01, 0.1, 0.25, 0.5, 1])
        bar.ax.set_yticklabels(["1%", "10%", "25%", "50%", "100%"])
        bar.ax.minorticks_off()
        bar.set_label("share of the true class")
        bar.outline.set_visible(False)
        axes.spines[:].set_alpha(0.3)
        right = int(np.trace(counts))
        axes.set(
            xlabel="predicted", ylabel="true", title=f"{right:,} of {len(Y):,} right ({right / len(Y):.1%})"
        )
        made.suptitle(short(title, int(12 * size)))
        _ticks(axes, names)
        if K <= WRITTEN:
            for i, k in zip(*np.nonzero(counts), strict=True):
                dark = share[i, k] ** 0.5 < 0.55
                text, small = f"{counts[i, k]:,}", 8 if counts.max() < 1000 else 6.5
                axes.text(
                    k, i, text, ha="center", va="center", size=small, color="#f0f0f0" if dark else "#202020"
                )
    return made


def _ticks(axes: Any, names: Sequence[str]) -> None:
    """Write the classes' names; of many, so many that they can be read."""
    every = -(-len(names) // WRITTEN)
    places = range(0, len(names), every)
    shown = [names[k] for k in places]
    upright = max(map(len, shown)) > 3
    axes.set_xticks(places, shown, rotation=90 if upright else 0)
    axes.set_yticks(places, shown)
    axes.tick_params(length=0 if every == 1 else 3)
    if every == 1:
        edges = np.arange(len(names) - 1) + 0.5
        axes.set_xticks(edges, minor=True)
        axes.set_yticks(edges, minor=True)
        axes.grid(which="minor", lw=0.6)
        axes.tick_params(which="minor", length=0)
