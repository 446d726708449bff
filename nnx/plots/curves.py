"""The learning curves of one run or several."""

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from statistics import quantiles
from typing import Any

from nnx.callbacks.monitor import best_is
from nnx.display.curves import LARGEST, or_gap
from nnx.display.names import called
from nnx.errors import InputError, integer, shown
from nnx.metrics.history import is_of_members, medians
from nnx.plots.figure import figure
from nnx.plots.style import INK, colour, dashes, drawing, legend
from nnx.plots.texts import EMPTY, names, short

MANY = 12
"""Runs that have a colour and a place in the legend; of more, the best have."""

LONG = 40
"""Characters of a run's name, or a number's."""

ACROSS = 3
"""Panels beside each other."""

FAR = 5
"""Distances of the quartiles of the members' numbers, beyond them, up to which an axis shows a number.

As far it shows any within a factor of ten; on an axis that is not logarithmic, within the median's size.
"""

POINTS = 5000
"""The most points for which a legend looks for a place that hides none."""

APART = ("epoch", "step", "seconds", "learning_rate", "kept")
"""The entries of a log that are no measured numbers."""


def learning_curves(histories: Mapping[str, Any], title: str = "", training_sample: int | None = None) -> Any:
    """Draw the cost and the scores over the epochs.

    Parameters
    ----------
    histories : dict
        One run's history, as `Trainer.fit` returns it and `trainer.history` has it; or several by the runs' names.
        Of a trainer with members the curves are thin, and their median is thick; beside other runs it is the median.
        Of more than twelve runs the twelve that end best have a colour each, the others are grey. The epoch that
        early stopping kept (`History.kept`) is marked.
    title : str
    training_sample : int or None
        How many of the training samples the training's scores are of, where they are not of all.

    Returns
    -------
    matplotlib.figure.Figure
        A panel for the cost, on a logarithmic scale where all of it is positive, and one for each score. Numbers that
        are not finite, or beyond 1e100, are gaps.

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
    if not isinstance(histories, Mapping):
        raise InputError(f"histories must be a history, or a dict of them, not {shown(histories)}")
    if training_sample is not None:
        training_sample = integer("training_sample", training_sample)
    several = bool(histories) and all(isinstance(one, Mapping) for one in histories.values())
    given = dict(histories) if several else {"": histories}
    members = [] if several else each_member(histories)
    runs = {name: series(one) for name, one in given.items()}
    kept = {name: epoch_kept(given[name], run) for name, run in runs.items()}
    panels = list(dict.fromkeys(quantity(name) for run in runs.values() for name in run))
    if not panels:
        raise InputError(
            'there is nothing to draw; expected a history such as {"loss": [...], "validation_loss": [...]}'
        )
    panels.sort(key=lambda name: name != "loss")
    best = ranked(runs)[:MANY]
    said = dict(zip(runs, names(list(runs), LONG), strict=True))
    beside = 1.0 + 0.07 * max(16, *(len(said[name]) for name in best)) if several else 0.0
    columns = min(ACROSS, len(panels))
    rows = -(-len(panels) // columns)
    width = max(4.6, 3.9 * columns) + beside
    with drawing():
        made = figure(width, 0.6 + (3.0 + 0.7 * bool(members)) * rows)
        made.suptitle(short(title, int(13 * width)))
        places = made.subplots(rows, columns, squeeze=False).ravel()
        for axes in places[len(panels) :]:
            axes.remove()
        for axes, panel in zip(places, panels, strict=False):
            for own in members:
                _draw_member(axes, panel, own)
            for name in sorted(runs, key=lambda name: name in best):  # those with a colour lie above
                k = best.index(name) if name in best else None
                _draw(axes, panel, runs[name], k, said[name] if several else "")
                if several:
                    _ring(axes, panel, runs[name], k, kept[name])
            if not several and kept[""]:
                axes.axvline(kept[""], color=INK, lw=1.2, ls="--", label=f"kept: epoch {kept['']:,}")
            beyond = _finish(axes, panel, [*runs.values()], members)
            if not several:
                _legend_of_one(axes, panel, training_sample, members, beyond)
        if several:
            _legend(made, [said[name] for name in best], panels, runs, kept)
    return made


def each_member(history: Mapping[str, Any]) -> list[dict[str, list[float]]]:
    """Return the series of each member, if the history is that of a trainer with members; else none.

    Examples
    --------
    >>> each_member({"loss": [[2.0, 3.0], [1.0, 2.5]]}), each_member({"loss": [2.0, 1.0]})
    ([{'loss': [2.0, 1.0]}, {'loss': [3.0, 2.5]}], [])
    """
    if not is_of_members(history):
        return []
    return [
        series({name: [epoch[k] for epoch in values] for name, values in history.items()})
        for k in range(len(history["loss"][0]))
    ]


def series(history: Mapping[str, Any]) -> dict[str, list[float]]:
    """Return the numbers of a history that can be drawn: one an epoch, NaN for others; of members the medians.

    Raises
    ------
    InputError
        When it is no dict of lists.
    """
    if not isinstance(history, Mapping):
        raise InputError(f"a history must be a dict of lists, not {shown(history)}")
    found = {}
    for name, values in (medians(history) if is_of_members(history) else history).items():
        if not hasattr(values, "__len__") or not hasattr(values, "__iter__"):
            raise InputError(
                f"a history has a list of numbers under each name; {shown(name)} is {shown(values)}"
            )
        values = [] if isinstance(values, str | bytes | Mapping) else list(values)
        numbers = all(value is None or isinstance(value, Real) for value in values)
        if name not in APART and values and numbers:
            found[str(name)] = [or_gap(value) for value in values]
    return found


def epoch_kept(history: Mapping[str, Any], run: Mapping[str, list[float]]) -> int | None:
    """Return the epoch that was kept, if the history says so."""
    kept, epochs = getattr(history, "kept", None), max(map(len, run.values()), default=0)
    return kept if isinstance(kept, int) and 1 <= kept <= epochs else None


def quantity(name: str) -> str:
    """Return the quantity of a number, without the samples.

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
    """Draw a run's curves of one quantity: of many runs solid lines are the held-out samples, else colours differ."""
    for key in (panel, f"validation_{panel}"):
        if key not in run:
            continue
        values, held_out = run[key], key != panel
        alone = "o" if sum(map(math.isfinite, values)) == 1 else None
        epochs = range(1, len(values) + 1)
        if not name:  # one run
            label = "held out" if held_out else "training"
            axes.plot(epochs, values, color=colour(int(held_out)), label=label, marker=alone)
        elif k is None:
            axes.plot(epochs, values, color=INK, lw=0.5, marker=alone, label=f"_{name}")
        else:
            thin = not held_out and f"validation_{panel}" in run
            label = f"{name}, {'held out' if held_out else 'training'}"
            axes.plot(
                epochs,
                values,
                color=colour(k),
                ls=dashes(k),
                marker=alone,
                label=label,
                lw=0.8 if thin else 1.6,
            )


def _draw_member(axes: Any, panel: str, run: Mapping[str, list[float]]) -> None:
    """Draw the curves of one member, thin."""
    for held_out, key in enumerate((panel, f"validation_{panel}")):
        if key in run:
            axes.plot(range(1, len(run[key]) + 1), run[key], color=colour(held_out), lw=0.5, alpha=0.5)


def _ring(axes: Any, panel: str, run: Mapping[str, list[float]], k: int | None, kept: int | None) -> None:
    """Mark the epoch that was kept on a run's curve."""
    values = run.get(f"validation_{panel}", run.get(panel, []))
    if kept and kept <= len(values) and math.isfinite(values[kept - 1]):
        shade = INK if k is None else colour(k)
        axes.plot(kept, values[kept - 1], "o", mfc="none", ms=7, color=shade, label="_kept")


def _finish(
    axes: Any, panel: str, runs: Sequence[Mapping[str, Any]], members: Sequence[Mapping[str, Any]]
) -> bool:
    """Set the axes; return whether members have numbers so far from most that they lie beyond."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    last = max(len(run[key]) for run in runs for key in (panel, f"validation_{panel}") if key in run)
    axes.set_xlim((0.5, 1.5) if last == 1 else (1, last))
    axes.xaxis.set_major_locator(
        FixedLocator([1]) if last == 1 else MaxNLocator(6, integer=True, steps=[1, 2, 5, 10])
    )
    axes.set(xlabel="epoch", ylabel=short(called(panel), LONG) or EMPTY)
    axes.grid()
    of_runs, of_members = _finite(panel, runs), _finite(panel, members)
    values = of_runs + of_members
    if not values:
        axes.text(0.5, 0.5, "no finite number", ha="center", va="center", transform=axes.transAxes)
    log = "loss" in panel and bool(values) and min(values) > 1 / LARGEST
    shares = rises(panel) and bool(values) and 0 <= min(values) and max(values) <= 1
    near = values if shares else of_runs + _near(of_members, log)
    if log:
        axes.set_yscale("log")
        if max(near) < 30 * min(near):  # else there would hardly be a number at the axis
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    beyond = len(near) < len(values)
    if beyond:
        margin = 0.05 * (max(near) - min(near))
        axes.set_ylim(
            *(min(near) / 1.1, max(near) * 1.1) if log else (min(near) - margin, max(near) + margin)
        )
    return beyond


def _finite(panel: str, runs: Sequence[Mapping[str, Any]]) -> list[float]:
    """Return the finite numbers of a quantity."""
    keys = panel, f"validation_{panel}"
    return [y for run in runs for key in keys for y in run.get(key, ()) if math.isfinite(y)]


def _near(values: Sequence[float], log: bool) -> list[float]:
    """Return the numbers that are near the quartiles of all; all of them where those near are equal.

    Examples
    --------
    >>> _near([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 1e9], log=True), _near([1.0, 1.0, 1.0, 1e9], log=True)
    ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1.0, 1.0, 1.0, 1000000000.0])
    """
    if len(values) < 2:
        return [*values]
    places = [math.log(y) if log else y for y in values]
    low, middle, high = quantiles(places, n=4)
    far = max(FAR * (high - low), math.log(10) if log else abs(middle))
    near = [y for y, place in zip(values, places, strict=True) if low - far <= place <= high + far]
    return near if min(near) < max(near) else [*values]


def _legend_of_one(
    axes: Any,
    panel: str,
    training_sample: int | None,
    members: Sequence[Mapping[str, list[float]]],
    beyond: bool,
) -> None:
    """Name the curves, the samples of the training's scores, and the members, whose curves leave no place: below."""
    from matplotlib.lines import Line2D

    handles, texts = axes.get_legend_handles_labels()
    if training_sample is not None and panel != "loss":
        texts = [
            f"training ({training_sample:,} of its samples)" if text == "training" else text for text in texts
        ]
    if members:
        handles = [*handles, Line2D([], [], color=INK, lw=0.5)]
        drawn = sum(bool(_finite(panel, [own])) for own in members)
        each = f"thin: {'each of ' if drawn == len(members) else f'{drawn:,} of '}{len(members):,} members"
        texts = [*(f"{text}, median" for text in texts), each + ", some beyond the axis" * beyond]
        legend(axes, handles, texts, loc="upper center", bbox_to_anchor=(0.5, -0.15))
        return
    few = sum(len(line.get_xdata()) for line in axes.get_lines()) <= POINTS
    legend(axes, handles, texts, loc="best" if few else "lower right" if rises(panel) else "upper right")


def _legend(
    figure: Any,
    best: Sequence[str],
    panels: Sequence[str],
    runs: Mapping[str, Mapping[str, Any]],
    kept: Mapping[str, int | None],
) -> None:
    """Name the runs that have a colour, and explain thin and thick lines, and rings."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=colour(k), ls=dashes(k), lw=1.6) for k in range(len(best))]
    texts = list(best)

    def add(text: str, **look: Any) -> None:
        handles.append(Line2D([], [], color=INK, **look))
        texts.append(text)

    if len(runs) > len(best):
        add(f"{len(runs) - len(best):,} others", lw=0.5)
    if any(panel in run and f"validation_{panel}" in run for run in runs.values() for panel in panels):
        add("thick: held out", lw=1.6)
        add("thin: training", lw=0.8)
    if any(kept.values()):
        add("ring: the epoch kept", ls="", marker="o", mfc="none", ms=7)
    legend(figure, handles, texts, loc="outside right upper")
