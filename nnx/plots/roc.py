"""The ROC curves of a classifier."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from nnx.array.host import as_host, as_numbers
from nnx.display.rounding import decimals
from nnx.errors import InputError
from nnx.plots.figure import figure
from nnx.plots.given import drawable, indices
from nnx.plots.style import INK, colour, dashes, drawing, legend
from nnx.plots.texts import class_names, sampled, short
from nnx.port.base import require

MANY = 12
"""The most classes with a colour and a line in the legend; with more classes only the six of the lowest area."""


def roc(
    Y: Any, A: Any, labels: Sequence[object] | None = None, title: str = "", total: int | None = None
) -> Any:
    """Draw the receiver operating characteristic: hits over false alarms, of all thresholds.

    Parameters
    ----------
    Y : array-like (m,) or (n[L], m)
        The class of each sample, an index; of several labels at once 0 or 1 for each.
    A : array-like (n[L], m)
        What the network gives: `trainer.predict(X)`. One output is of the class 1 of two; of several, each is of one
        class against the rest.
    labels : sequence or None
        The classes' names in the order of their indices; None: the indices.
    title : str
    total : int or None
        How many samples there are, where Y and A are of some of them.

    Returns
    -------
    matplotlib.figure.Figure
        A curve for each class that has samples, and samples beside it, with the area under it (AUC) in the legend.
        Of more than twelve classes the six of the lowest AUC have a colour.

    Raises
    ------
    InputError
        When shapes do not fit, or no class has samples on either side.

    Examples
    --------
    >>> import nnx
    >>> figure = nnx.plots.roc([0, 0, 1, 1], [[0.1, 0.4, 0.35, 0.8]], ["cat", "dog"])
    >>> figure.axes[0].get_legend_handles_labels()[1]
    ['dog, AUC 0.750']
    """
    positive, A, classes = _sides(Y, A, labels)
    curves = _curves(classes, positive, A)
    if not curves:
        raise InputError("there is no ROC: no class has samples of it and samples of others")
    drawn, rest = curves, []
    if len(curves) > MANY:
        curves.sort(key=lambda curve: curve[1])
        drawn, rest = curves[:6], curves[6:]
    texts = [f"{name}, AUC {decimals(auc, 3)}" for name, auc, *_ in drawn]
    if rest:
        low, high = (decimals(auc, 3) for auc in (rest[0][1], rest[-1][1]))
        texts.append(f"{len(rest):,} others, AUC {low} to {high}")
    with drawing():
        made = figure(5.0 + 0.075 * max(map(len, texts)), 4.2)
        axes = made.subplots()
        views = [axes]
        if min(auc for _, auc, *_ in curves) > 0.95:  # all that differs is in the corner
            views.append(axes.inset_axes((0.36, 0.1, 0.58, 0.58), xlim=(-0.002, 0.1), ylim=(0.9, 1.002)))
            views[1].tick_params(labelsize=7)
            views[1].set_title("the upper left corner", size=7, pad=3)
        else:
            axes.plot([0, 1], [0, 1], color=INK, lw=0.8, ls=":")
        for view in views:
            others = [view.plot(false, true, color=INK, lw=0.5)[0] for _, _, false, true in rest]
            handles = [
                view.plot(false, true, color=colour(k), ls=dashes(k), label=text)[0]
                for k, ((_, _, false, true), text) in enumerate(zip(drawn, texts, strict=False))
            ]
        axes.set(xlabel="false positive rate", ylabel="true positive rate", aspect="equal")
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        views[-1].grid()  # one grid: that of the axes would shine through the view of the corner
        order = [-1, *range(len(drawn))] if rest else range(len(drawn))
        handles += others[:1]
        legend(made, [handles[k] for k in order], [texts[k] for k in order], loc="outside right center")
        notes = [sampled(A.shape[1], total)]
        if absent := len(classes) - len(curves):
            notes.append(
                f"{absent:,} of {len(classes):,} classes have no curve:\nno sample is of them, or all are"
            )
        axes.set_title("\n".join(filter(None, notes)))
        made.suptitle(short(title, 70))
    return made


def _sides(Y: Any, A: Any, labels: Sequence[object] | None) -> tuple[Any, Any, list[str]]:
    """Return whether each sample is of each class (K, m), the outputs for the classes (K, m), and their names."""
    Y, A = as_host(as_numbers("Y", Y)), drawable("A", A)
    n = A.shape[0] if A.ndim == 2 else 0
    if n == 0 or Y.shape not in ((A.shape[1],), A.shape) or not Y.size:
        raise InputError(
            f"Y must be class indices (m,) and A the outputs (n[L], m); given shapes {Y.shape} and {A.shape}"
        )
    if n == 1:
        return (indices("Y", Y, 2) == 1).reshape(1, -1), A, class_names(labels, 2)[1:]
    if Y.ndim == 2:
        return indices("Y", Y, 2) == 1, A, class_names(labels, n)
    return indices("Y", Y, n) == np.arange(n)[:, None], A, class_names(labels, n)


def _curves(classes: Sequence[str], positive: Any, A: Any) -> list[tuple[str, float, Any, Any]]:
    """Return the name, the area and both rates of each class that has samples, and samples beside it."""
    metrics = require("sklearn.metrics", "cli")
    curves = []
    for name, yes, scores in zip(classes, positive, A, strict=True):
        if yes.any() and not yes.all():
            false, true, _ = metrics.roc_curve(yes, scores)
            curves.append((name, float(metrics.auc(false, true)), false, true))
    return curves
