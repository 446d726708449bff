"""Several runs beside each other."""

import math
from collections.abc import Mapping
from typing import Any

from nnx.display.names import called
from nnx.errors import InputError, shown
from nnx.plots.curves import LONG, epoch_kept, quantity, rises, series
from nnx.plots.figure import figure
from nnx.plots.style import INK, colour, drawing
from nnx.plots.texts import EMPTY, names, short

MANY = 40
"""Runs that are drawn, the best of them."""

BEST: dict[str, Any] = {"marker": "o", "mfc": "none", "color": colour(1)}
LAST: dict[str, Any] = {"marker": "o", "ms": 4, "color": colour(0)}
KEPT: dict[str, Any] = {"marker": "|", "ms": 11, "mew": 1.6, "color": colour(2)}


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
        epoch, a ring for the best one, a bar for the one that early stopping kept. Of more than forty runs the best
        forty.

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
    if not isinstance(histories, Mapping):
        raise InputError(f"histories must be a dict of histories, not {shown(histories)}")
    runs = {name: series(one) for name, one in histories.items()}
    measured = list(dict.fromkeys(name for run in runs.values() for name in run))
    panels = [name for name in measured if name.startswith("validation_")] or [
        n for n in measured if n == "loss"
    ]
    panels.sort(key=lambda name: not rises(name))  # by the first the runs are sorted
    panels = panels[:3]
    if not panels:
        raise InputError("there is nothing to compare: no run has measured anything")

    def badness(name: str) -> float:
        values = _finite(runs[name], panels[0])
        return math.inf if not values else -values[-1] if rises(panels[0]) else values[-1]

    order = sorted(runs, key=badness)[:MANY]
    kept = {name: epoch_kept(histories[name], runs[name]) for name in order}
    with drawing():
        from matplotlib.lines import Line2D
        from matplotlib.ticker import MaxNLocator

        made = figure(2.2 + 3.0 * len(panels), 1.3 + 0.26 * len(order))
        many = f"the best {MANY} of {len(runs):,} runs" if len(runs) > MANY else ""
        made.suptitle(": ".join(part for part in (short(title, 60), many) if part))
        for k, (axes, panel) in enumerate(
            zip(made.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels, strict=True)
        ):
            for row, name in enumerate(order):
                values = _finite(runs[name], panel)
                if not values:
                    continue
                best = max(values) if rises(panel) else min(values)
                axes.plot([best, values[-1]], [row, row], color=INK, lw=0.8)
                axes.plot(best, row, **BEST)
                axes.plot(values[-1], row, **LAST)
                if at := kept[name]:
                    axes.plot(runs[name][panel][at - 1 : at] or [math.nan], [row], **KEPT)
            what = short(called(quantity(panel)), LONG) or EMPTY
            axes.set_xlabel(f"{what}, held out" if panel != "loss" else f"{what}, training")
            axes.set_yticks(range(len(order)), names(order, LONG))
            axes.xaxis.set_major_locator(MaxNLocator(5))
            axes.grid(axis="x")
            if k == 0:
                axes.set_ylim(len(order) - 0.4, -0.6)  # the best on top
        marks = {
            "best epoch": BEST,
            "last epoch": LAST,
            **({"epoch kept": KEPT} if any(kept.values()) else {}),
        }
        handles = [Line2D([], [], ls="", **look) for look in marks.values()]
        made.legend(handles, list(marks), loc="outside lower center", ncols=len(marks))
    return made


def _finite(run: Mapping[str, list[float]], panel: str) -> list[float]:
    return [x for x in run.get(panel, []) if math.isfinite(x)]
