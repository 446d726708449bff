"""Several runs beside each other."""

import math
from collections.abc import Mapping
from typing import Any

from nnx.errors import InputError
from nnx.plots.curves import LONG, check_histories, quantity, rises, series
from nnx.plots.style import INK, colour, drawing, figure, short
from nnx.progress import called

MANY = 40
"""Runs that are drawn, the best of them."""


def comparison(histories: Mapping[str, Any], title: str = "") -> Any:
    """Draw where runs ended and how good they had been at best, the best run on top.

    Parameters
    ----------
    histories : dict
        The runs' histories by their names, as for `learning_curves`.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
        A panel for each number that was measured on samples held out, or for the cost if none was: a dot for the last
        epoch, a ring for the best one. Of more than forty runs the best forty.

    Raises
    ------
    InputError
        When there is nothing to compare.

    Examples
    --------
    >>> import nnx
    >>> runs = {"wide": {"validation_accuracy": [0.8, 0.9]}, "narrow": {"validation_accuracy": [0.8, 0.7]}}
    >>> figure = nnx.plots.comparison(runs)
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['wide', 'narrow']
    """
    check_histories(histories)
    runs = {name: series(one) for name, one in histories.items() if isinstance(one, Mapping)}
    names = list(dict.fromkeys(name for run in runs.values() for name in run))
    panels = [name for name in names if name.startswith("validation_")] or [n for n in names if n == "loss"]
    panels.sort(key=lambda name: not rises(name))  # by the first the runs are sorted
    panels = panels[:3]
    if not panels:
        raise InputError("there is nothing to compare: no run has measured anything")

    def at_end(name: str, panel: str) -> float:
        values = [x for x in runs[name].get(panel, []) if math.isfinite(x)]
        return values[-1] if values else math.nan

    def badness(name: str) -> float:
        last = at_end(name, panels[0])
        return math.inf if math.isnan(last) else -last if rises(panels[0]) else last

    order = sorted(runs, key=badness)[:MANY]
    with drawing():
        made = figure(2.2 + 3.0 * len(panels), 1.3 + 0.26 * len(order))
        many = f"the best {MANY} of {len(runs):,} runs" if len(runs) > MANY else ""
        made.suptitle(": ".join(part for part in (short(title, 60), many) if part))
        for k, (axes, panel) in enumerate(
            zip(made.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels, strict=True)
        ):
            for row, name in enumerate(order):
                values = [x for x in runs[name].get(panel, []) if math.isfinite(x)]
                if not values:
                    continue
                best = max(values) if rises(panel) else min(values)
                axes.plot([best, values[-1]], [row, row], color=INK, lw=0.8)
                axes.plot(
                    best, row, "o", mfc="none", color=colour(1), label="best epoch" if row == 0 else None
                )
                axes.plot(
                    values[-1], row, "o", ms=4, color=colour(0), label="last epoch" if row == 0 else None
                )
            shown = called(quantity(panel))
            axes.set_xlabel(f"{shown}, held out" if panel != "loss" else f"{shown}, training")
            axes.set_yticks(range(len(order)), [short(name, LONG) for name in order])
            axes.grid(axis="x")
            if k == 0:
                axes.set_ylim(len(order) - 0.4, -0.6)  # the best on top
                made.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return made
