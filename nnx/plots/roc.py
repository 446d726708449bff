"""How well each class can be told from the others."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from nnx.errors import INSTALL, InputError
from nnx.host import class_indices, numbers
from nnx.plots.style import INK, class_names, colour, dashes, drawing, figure, short
from nnx.port import require

MANY = 12
"""Classes that have a colour and a line in the legend; of more, the six that are told worst have."""


def roc(Y: Any, A: Any, labels: Sequence[object] | None = None, title: str = "") -> Any:
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
    Y, A = class_indices("Y", Y), numbers("A", A, "float64")
    n = A.shape[0] if A.ndim == 2 else 0
    if n == 0 or Y.shape not in ((A.shape[1],), A.shape) or not Y.size:
        raise InputError(
            f"Y must be class indices (m,) and A the outputs (n[L], m); given shapes {Y.shape} and {A.shape}"
        )
    if n == 1 and Y.ndim == 1:
        positive, names = (Y == 1)[None], class_names(labels, 2)[1:]
    else:
        positive = Y == 1 if Y.ndim == 2 else Y == np.arange(n)[:, None]
        names = class_names(labels, n)
    metrics = require("sklearn.metrics", INSTALL)
    curves = []
    for name, yes, scores in zip(names, positive, A, strict=True):
        if yes.any() and not yes.all():
            false, true, _ = metrics.roc_curve(yes, scores)
            curves.append((name, float(metrics.auc(false, true)), false, true))
    if not curves:
        raise InputError("there is no ROC: no class has samples of it and samples of others")
    drawn, rest = curves, []
    if len(curves) > MANY:
        curves.sort(key=lambda curve: curve[1])
        drawn, rest = curves[:6], curves[6:]
    longest = max(len(f"{name}, AUC 0.000") for name, *_ in drawn)
    if rest:
        longest = max(longest, 34)
    with drawing():
        made = figure(4.6 + 0.075 * longest, 4.2)
        axes = made.subplots()
        views = [axes]
        if min(auc for _, auc, *_ in curves) > 0.95:  # all that differs is in the corner
            views.append(axes.inset_axes((0.36, 0.1, 0.58, 0.58), xlim=(-0.002, 0.1), ylim=(0.9, 1.002)))
            views[1].tick_params(labelsize=7)
            views[1].set_title("the upper left corner", size=7, pad=3)
            views[1].grid()
        else:
            axes.plot([0, 1], [0, 1], color=INK, lw=0.8, ls=":")
        for view in views:
            for k, (_, _, false, true) in enumerate(rest):
                label = f"{len(rest)} others, AUC {rest[0][1]:.3f} to {rest[-1][1]:.3f}" if k == 0 else None
                view.plot(false, true, color=INK, lw=0.6, alpha=0.4, label=label)
            for k, (name, auc, false, true) in enumerate(drawn):
                view.plot(false, true, color=colour(k), ls=dashes(k), label=f"{name}, AUC {auc:.3f}")
        axes.set(xlabel="false positive rate", ylabel="true positive rate", aspect="equal")
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axes.grid()
        handles, texts = axes.get_legend_handles_labels()
        made.legend(handles, texts, loc="outside right center")
        absent = len(names) - len(curves)
        if absent:
            axes.set_title(
                f"{absent} of {len(names)} classes have no curve: no sample is of them, or all are"
            )
        made.suptitle(short(title, 70))
    return made
