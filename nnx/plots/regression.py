"""Predicted numbers against the true ones."""

from typing import Any

import numpy as np

from nnx.display.rounding import decimals, significant
from nnx.errors import InputError
from nnx.plots.figure import figure
from nnx.plots.given import drawable
from nnx.plots.style import INK, colour, drawing, readable_map
from nnx.plots.texts import EMPTY, sampled, short
from nnx.port.base import require

CROWD = 3000
"""Samples from which on a picture shows how many lie where, instead of each."""


def predicted_against_true(
    y: Any, predicted: Any, name: str = "target", title: str = "", total: int | None = None
) -> Any:
    """Draw predicted numbers against the true ones, both in the target's unit.

    Parameters
    ----------
    y, predicted : array-like (m,)
    name : str
        The name of the numbers, with the unit.
    title : str
    total : int or None
        How many samples there are, where these are some of them.

    Returns
    -------
    matplotlib.figure.Figure
        A point for each sample; from 3,000 on cells coloured by their number. On the line the prediction is right.

    Raises
    ------
    InputError
        When the lengths differ, or there is no sample.

    Examples
    --------
    >>> import nnx
    >>> figure = nnx.plots.predicted_against_true([1.0, 2.0, 3.0], [1.1, 1.9, 3.2], "weight (kg)")
    >>> figure.axes[0].get_xlabel()
    'true weight (kg)'
    """
    y, predicted = drawable("y", y), drawable("predicted", predicted)
    if y.ndim != 1 or y.shape != predicted.shape or not y.size:
        raise InputError(f"y and predicted must both be (m,); given {y.shape} and {predicted.shape}")
    error = float(np.sqrt(np.mean((predicted - y) ** 2)))
    said = f"root mean squared error {significant(error, 4)}"
    if len(y) > 1 and np.ptp(y) > 0:
        r2 = float(require("sklearn.metrics", "cli").r2_score(y, predicted))
        said = f"R2 {decimals(r2, 3)}, {said}"
    said = "\n".join(filter(None, (said, sampled(len(y), total))))
    low, high = float(min(y.min(), predicted.min())), float(max(y.max(), predicted.max()))
    room = 0.03 * (high - low) or 0.5 * abs(low) or 0.5
    limits = low - room, high + room
    with drawing():
        made = figure(5.2 if len(y) >= CROWD else 4.6, 4.6)
        axes = made.subplots()
        if len(y) >= CROWD:
            cells = axes.hexbin(y, predicted, gridsize=60, extent=(*limits, *limits), bins="log", mincnt=1,
                                cmap=readable_map(), linewidths=0.1)  # fmt: skip
            bar = made.colorbar(cells, ax=axes, shrink=0.7, label="samples")
            bar.outline.set_visible(False)
        else:
            size = 14 if len(y) < 500 else 6
            axes.scatter(y, predicted, s=size, color=colour(0), alpha=0.85, linewidths=0)
        axes.plot(limits, limits, color=colour(1) if len(y) >= CROWD else INK, lw=1, ls="--")
        name = short(name, 40) or EMPTY
        axes.set(xlabel=f"true {name}", ylabel=f"predicted {name}", title=said, aspect="equal")
        axes.set(xlim=limits, ylim=limits)
        axes.set_yticks(axes.get_xticks())
        axes.set(xlim=limits, ylim=limits)
        axes.grid()
        made.suptitle(short(title, 55))
    return made
