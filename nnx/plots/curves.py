"""The learning curves of one run or several."""

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

from nnx.callbacks.monitor import best_is
from nnx.errors import InputError, shown
from nnx.plots.style import INK, colour, dashes, drawing, figure, short
from nnx.progress import called

MANY = 12
"""Runs that have a colour and a place in the legend; of more, the best have."""

LONG = 40
"""Characters of a run's name."""

APART = ("epoch", "step", "seconds", "learning_rate")
"""What a log has beside what was measured."""


def learning_curves(histories: Mapping[str, Any], title: str = "") -> Any:
    """Draw the cost and the scores over the epochs.

    Parameters
    ----------
    histories : dict
        One run's history, as `Trainer.fit` returns it and `trainer.history` has it; or several by the runs' names.
        Of more than twelve runs the twelve that end best have a colour each, the others are grey.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
        A panel for the cost, on a logarithmic scale where all of it is positive, and one for each score.

    Raises
    ------
    InputError
        When there is nothing to draw.

    Examples
    --------
    >>> import nnx
    >>> curve = {
    ...     "loss": [0.7, 0.4, 0.3],
    ...     "validation_loss": [0.7, 0.5, 0.5],
    ...     "validation_accuracy": [0.5, 0.8, 0.9],
    ... }
    >>> figure = nnx.plots.learning_curves(curve, "a run")
    >>> [axes.get_ylabel() for axes in figure.axes]
    ['cost J', 'accuracy']
    >>> _ = nnx.plots.learning_curves({"alpha = 0.1": curve, "alpha = 1": {"loss": [0.7, 0.8]}})
    """
    check_histories(histories)
    several = bool(histories) and all(isinstance(one, Mapping) for one in histories.values())
    runs = {name: series(one) for name, one in (histories if several else {"": histories}).items()}
    panels = list(dict.fromkeys(quantity(name) for run in runs.values() for name in run))
    if not panels:
        raise InputError(
            'there is nothing to draw; expected a history such as {"loss": [...], "validation_loss": [...]}'
        )
    panels.sort(key=lambda name: name != "loss")
    best = ranked(runs)[:MANY]
    beside = 1.0 + 0.07 * max(16, *(len(short(name, LONG)) for name in best)) if several else 0.0
    width = max(4.6, 3.9 * len(panels)) + beside
    with drawing():
        made = figure(width, 3.6)
        made.suptitle(short(title, int(13 * width)))
        for axes, panel in zip(made.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            for name in sorted(runs, key=lambda name: name in best):  # those with a colour lie above
                k = best.index(name) if name in best else None
                _draw(axes, panel, runs[name], k, short(name, LONG) if several else "")
            _finish(axes, panel)
            if not several:
                axes.legend()
        if several:
            made.legend(handles=_legend(best, len(runs), panels, runs), loc="outside right upper")
    return made


def check_histories(histories: Any) -> None:
    """Raise an InputError unless histories is a dict."""
    if not isinstance(histories, Mapping):
        raise InputError(
            f'histories must be a dict such as {{"loss": [...], "validation_loss": [...]}}, not {shown(histories)}'
        )


def series(history: Mapping[str, Any]) -> dict[str, list[float]]:
    """Return what can be drawn of a history: one number an epoch."""
    return {
        name: [math.nan if value is None else float(value) for value in values]
        for name, values in history.items()
        if name not in APART
        and isinstance(values, Sequence)
        and not isinstance(values, str)
        and len(values)
        and all(value is None or isinstance(value, Real) for value in values)
    }


def quantity(name: str) -> str:
    """Return what a number measures, on whatever samples.

    Examples
    --------
    >>> quantity("validation_accuracy")
    'accuracy'
    """
    return name.removeprefix("validation_")


def rises(panel: str) -> bool:
    """Whether more is better."""
    return best_is(panel, "max") == "max"


def ranked(runs: Mapping[str, Mapping[str, Sequence[float]]]) -> list[str]:
    """Return the names of the runs, those first that end best: by a score held out, else a cost."""
    names = [name for run in runs.values() for name in run]
    by = next(
        (n for n in names if n.startswith("validation_") and rises(n)),
        "validation_loss" if "validation_loss" in names else "loss",
    )

    def badness(name: str) -> float:
        values = runs[name].get(by, [])
        last = values[-1] if values else math.nan
        return math.inf if math.isnan(last) else -last if rises(by) else last

    return sorted(runs, key=badness) if len(runs) > MANY else list(runs)


def _draw(axes: Any, panel: str, run: Mapping[str, list[float]], k: int | None, name: str) -> None:
    """Draw what a run has of one quantity: whole for the held-out samples if runs are many, else by colour."""
    for key in (panel, f"validation_{panel}"):
        if key not in run:
            continue
        values, held_out = run[key], key != panel
        sparse = "o" if len(values) == 1 else None
        epochs = range(1, len(values) + 1)
        if not name:  # one run
            label = "held out" if held_out else "training"
            axes.plot(epochs, values, color=colour(int(held_out)), label=label, marker=sparse)
        elif k is None:
            axes.plot(epochs, values, color=INK, lw=0.6, alpha=0.35, marker=sparse, label=f"_{name}")
        else:
            faint = (
                {"lw": 0.8, "alpha": 0.55} if not held_out and f"validation_{panel}" in run else {"lw": 1.6}
            )
            label = f"{name}, {'held out' if held_out else 'training'}"
            axes.plot(epochs, values, color=colour(k), ls=dashes(k), marker=sparse, label=label, **faint)


def _finish(axes: Any, panel: str) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    lines = axes.get_lines()
    last = max(len(line.get_xdata()) for line in lines)
    axes.set_xlim((0.5, 1.5) if last == 1 else (1, last))
    axes.xaxis.set_major_locator(
        FixedLocator([1]) if last == 1 else MaxNLocator(integer=True, steps=[1, 2, 5, 10])
    )
    axes.set(xlabel="epoch", ylabel=called(panel))
    axes.grid()
    values = [y for line in lines for y in line.get_ydata() if math.isfinite(y)]
    if "loss" in panel and values and min(values) > 0:
        axes.set_yscale("log")
        if max(values) < 30 * min(values):  # else there would hardly be a number at the axis
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())


def _legend(
    best: Sequence[str], count: int, panels: Sequence[str], runs: Mapping[str, Mapping[str, Any]]
) -> list[Any]:
    """Return a line for each run that has a colour, and what thin and thick ones mean."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=colour(k), ls=dashes(k), lw=1.6, label=short(name, LONG))
        for k, name in enumerate(best)
    ]
    if count > len(best):
        handles.append(Line2D([], [], color=INK, lw=0.6, alpha=0.6, label=f"{count - len(best):,} others"))
    both = any(panel in run and f"validation_{panel}" in run for run in runs.values() for panel in panels)
    if both:
        handles += [
            Line2D([], [], color=INK, lw=1.6, label="thick: held out"),
            Line2D([], [], color=INK, lw=0.8, alpha=0.55, label="thin: training"),
        ]
    return handles
