"""Which classes are taken for which."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from nnx.display.rounding import percent
from nnx.errors import InputError
from nnx.plots.figure import figure
from nnx.plots.given import indices
from nnx.plots.style import drawing, readable_map
from nnx.plots.texts import label_list, names, sampled, short

WRITTEN = 20
"""Classes up to which every cell has its number and every row its name."""

DRAWN = 300
"""Classes that are drawn at most: of more, a cell would be less than a pixel or two."""


def confusion_matrix(
    Y: Any, predicted: Any, labels: Sequence[object] | None = None, title: str = "", total: int | None = None
) -> Any:
    """Draw how many samples of each class are predicted as which.

    Parameters
    ----------
    Y : array-like (m,)
        The class of each sample, an index.
    predicted : array-like (m,)
        The predicted classes: `trainer.classify(X)`.
    labels : sequence or None
        The classes' names in the order of their indices; None: the indices.
    title : str
    total : int or None
        How many samples there are, where these are some of them.

    Returns
    -------
    matplotlib.figure.Figure
        A row for each true class, whose cells have the colour of their share of the row: a root of it, so that few
        errors among many samples are seen. Up to 20 classes have their numbers in the cells. Of more than 300
        classes the 300 most frequent are drawn. The picture says what it leaves out.

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
    given = None if labels is None else label_list(labels)
    K = None if given is None else len(given)
    Y, predicted = indices("Y", Y, K), indices("predicted", predicted, K)
    if Y.ndim != 1 or Y.shape != predicted.shape or not Y.size:
        raise InputError(
            f"Y and predicted must be class indices (m,) of the same samples; given {Y.shape} and {predicted.shape}"
        )
    K = K or 1 + int(max(Y.max(), predicted.max()))
    classes = np.arange(K) if K <= DRAWN else _most_frequent(Y)
    called = names([int(k) if given is None else given[k] for k in classes], 18)
    counts = _counts(Y, predicted, classes)
    of_class = np.searchsorted(np.sort(Y), [classes, classes + 1])
    share = counts / np.maximum(of_class[1] - of_class[0], 1)[:, None]
    digits = len(f"{counts.max():,}")
    cell = max(0.33, 0.07 + 0.066 * digits)
    size = 3.2 + cell * min(len(classes), WRITTEN)
    with drawing():
        from matplotlib.colors import PowerNorm

        made = figure(size + 0.9, size)
        axes = made.subplots()
        share = np.ma.masked_equal(share, 0)  # a count of 0 is left blank
        shown = axes.imshow(share, cmap=readable_map(), norm=PowerNorm(0.5, 0, 1), interpolation="nearest")
        bar = made.colorbar(shown, ax=axes, shrink=0.8, ticks=[0.01, 0.1, 0.25, 0.5, 1])
        bar.ax.set_yticklabels(["1%", "10%", "25%", "50%", "100%"])
        bar.ax.minorticks_off()
        bar.set_label("share of the true class")
        bar.outline.set_visible(False)
        axes.spines[:].set_alpha(0.3)
        right = int((Y == predicted).sum())
        said = [f"{right:,} of {len(Y):,} right ({percent(right / len(Y), 1)})", sampled(len(Y), total)]
        if len(classes) < K:
            said.append(f"the {len(classes):,} most frequent of {K:,} classes")
        named = _ticks(axes, called)
        if named < len(classes):
            said.append(f"{named} of {len(classes):,} classes are named")
        axes.set(xlabel="predicted", ylabel="true", title="\n".join(filter(None, said)))
        made.suptitle(short(title, int(12 * size)))
        if len(classes) <= WRITTEN:
            for i, k in zip(*np.nonzero(counts), strict=True):
                text = axes.text(
                    k, i, f"{counts[i, k]:,}", ha="center", va="center", size=8 if digits < 4 else 7
                )
                text.set_color(_readable(shown.to_rgba(share[i, k])))
    return made


def _counts(Y: Any, predicted: Any, classes: Any) -> Any:
    """Return how many samples of each of some classes, in order, are predicted as which of them."""
    inside = np.isin(Y, classes) & np.isin(predicted, classes)
    i, k = (np.searchsorted(classes, x[inside]) for x in (Y, predicted))
    n = len(classes)
    return np.bincount(i * n + k, minlength=n * n).reshape(n, n)


def _most_frequent(Y: Any) -> Any:
    """Return the indices of the classes that occur most often, in their order."""
    classes, counts = np.unique(Y, return_counts=True)
    return np.sort(classes[np.argsort(-counts, kind="stable")[:DRAWN]])


def _readable(rgba: Any) -> str:
    """Return black or white, whichever has more contrast."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgba[:3]]
    return "black" if np.dot(linear, (0.2126, 0.7152, 0.0722)) > 0.179 else "white"


def _ticks(axes: Any, names: Sequence[str]) -> int:
    """Write the classes' names; of many, so many that they can be read. Return how many."""
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
    return len(shown)
