"""The figures as pictures (PNG), legible on a light page and on a dark one: middle tones on no background."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from nnx.bench.contestant import split_backend
from nnx.bench.contestants import OURS, SINGLES, TF32, backend_of
from nnx.bench.result import Figure, Group, Result
from nnx.errors import count
from nnx.io.atomic_write import written_aside

INK = "#7d8590"
"""Of axes and text."""

COLOURS = {
    "floor": INK,
    "numpy": "#3b82f6",
    "numba": "#ec4899",
    "torch": "#ea580c",
    "jax": "#16a34a",
    "cupy": "#0d9488",
    "sklearn": "#a855f7",
    "other": "#a16207",
}
"""By library. Each has a contrast of 3 or more on white and on near black (a test holds them to it)."""

LIBRARY = {"typed": "numpy", "cupy-typed": "cupy"}


def style(contestant: str) -> tuple[str, str]:
    """Return the colour, of the library, and the line.

    It is whole for nnx, dashed and dotted for its runs one after the other, dashed for a peer, dotted for a compiled
    one.

    Examples
    --------
    >>> style("nnx:torch"), style("nnx-single:torch"), style("torch-compiled")
    (('#ea580c', '-'), ('#ea580c', '-.'), ('#ea580c', ':'))
    """
    ours = backend_of(contestant)
    library = LIBRARY.get(contestant) or split_backend(ours or contestant).name.partition("-")[0]
    line = ":" if "compiled" in contestant else "--"
    if ours is not None:
        line = "-." if contestant.startswith(SINGLES) else "-"
    return COLOURS.get(library, COLOURS["other"]), "-" if library == "floor" else line


MARKERS = {"-": "o", "-.": "P", "--": "D", ":": "x"}
"""By line: with a single point there is none."""

OF_PRECISION = {"tf32": "s", "bfloat16": "^"}
OF_OTHER_DEVICE = "v"
"""Of nnx where the CPU is named, and of all else on a GPU."""


def marker(contestant: str) -> str:
    """Return the marker, as Matplotlib has it: of the precision, else of the device, else of the line.

    Examples
    --------
    >>> [
    ...     marker(name)
    ...     for name in ("nnx:torch", "nnx:torch/tf32", "nnx:torch/bfloat16", "nnx:torch@cpu", "jax-cuda")
    ... ]
    ['o', 's', '^', 'v', 's']
    """
    ours = backend_of(contestant)
    _, device, precision = split_backend(ours or contestant)
    if contestant in TF32:
        precision = "tf32"
    is_elsewhere = device == "cpu" if ours is not None else "-cuda" in contestant
    otherwise = OF_OTHER_DEVICE if is_elsewhere else MARKERS[style(contestant)[1]]
    return OF_PRECISION.get(precision or "", otherwise)


def _drawn(contestant: str) -> dict[str, Any]:
    colour, line = style(contestant)
    look = {
        "ms": 3.5,
        "mfc": colour if line == "-" else "none",
        "lw": 2.2 if contestant.startswith(OURS) else 1.3,
    }
    return {"color": colour, "ls": line, "marker": marker(contestant), **look}


class Panel(NamedTuple):
    """One plot over m, or over the members.

    Attributes
    ----------
    title : str
    value : function of a figure
        What is drawn; None leaves it out.
    low, high : functions of a figure
        Its spread.
    """

    title: str
    value: Callable[[Figure], float | None]
    low: Callable[[Figure], float | None]
    high: Callable[[Figure], float | None]


def _quartile(i: int, of: Callable[[Figure, float], float]) -> Callable[[Figure], float]:
    return lambda figure: of(figure, figure.quartiles[i])


def _over(i: int) -> Callable[[Figure], float | None]:
    return lambda figure: figure.over_floor_quartiles and figure.over_floor_quartiles[i]


def _memory(figure: Figure) -> float | None:
    return figure.peak_bytes / 1e6 if figure.peak_bytes and figure.kind != "floor" else None


PANELS = [
    Panel(
        "samples per second",
        lambda f: f.samples_per_second,
        _quartile(1, lambda f, s: f.samples_per_second * f.seconds / s),
        _quartile(0, lambda f, s: f.samples_per_second * f.seconds / s),
    ),
    Panel("time over the GEMM floor", lambda f: f.over_floor, _over(0), _over(1)),
    Panel(
        "GFLOP/s of the products",
        lambda f: f.flops_per_second / 1e9,
        _quartile(1, lambda f, s: f.flops_per_second * f.seconds / s / 1e9),
        _quartile(0, lambda f, s: f.flops_per_second * f.seconds / s / 1e9),
    ),
    Panel("peak memory of a fit, MB", _memory, _memory, _memory),
]


def series(figures: list[Figure], panel: Panel) -> dict[str, list[tuple[int, float, float, float]]]:
    """Return (m or K, value, low, high) by contestant, those that have any."""
    found: dict[str, list[tuple[int, float, float, float]]] = {}
    for figure in figures:
        value, low, high = panel.value(figure), panel.low(figure), panel.high(figure)
        if value is not None and low is not None and high is not None:
            found.setdefault(figure.contestant, []).append((figure.key.x, value, low, high))
    return found


def slug(group: Group) -> str:
    """Return a group's name for a file.

    Examples
    --------
    >>> slug(Group((64, 64, 10), "adam", "float32", "in order"))
    '64-64-10-adam-float32-in-order'
    """
    return str(group).replace(", ", "-").replace(" = ", "-").replace(" ", "-")


AXES = {"m": "m, samples in a step", "K": "K, members"}
"""The labels of the horizontal axis."""


def draw(result: Result, group: Group, path: Path) -> None:
    """Draw the four plots of a group into one PNG."""
    import matplotlib as mpl
    from matplotlib.figure import Figure as Canvas
    from matplotlib.ticker import FuncFormatter, LogLocator

    figures = result.of(group)
    labels = {figure.contestant: figure.label for figure in figures}
    places = sorted({figure.key.x for figure in figures})
    colours: Any = dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color"),
        INK,
    )
    with mpl.rc_context({**colours, "font.size": 9, "legend.labelcolor": INK}):
        canvas = Canvas(figsize=(11, 8), layout="constrained")
        canvas.suptitle(f"{group}\n{_where(result)}", fontsize=10, color=INK)
        for axes, panel in zip(canvas.subplots(2, 2).flat, PANELS, strict=True):
            for contestant, points in series(figures, panel).items():
                x, value, low, high = zip(*points, strict=True)
                axes.plot(x, value, **_drawn(contestant))
                axes.fill_between(x, low, high, color=style(contestant)[0], alpha=0.15, lw=0)
            _extras(axes, panel, result, figures)
            axes.set(title=panel.title, xlabel=AXES[group.axis], xscale="log", yscale="log")
            axes.set_xticks(places, [f"{x:,}" for x in places])
            axes.minorticks_off()
            low, high = axes.get_ylim()
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 300 * low else (1,)))
            axes.yaxis.set_major_formatter(FuncFormatter(_number))
            axes.grid(alpha=0.25, color=INK)
            axes.patch.set_alpha(0)
        handles = [_handle(contestant, label) for contestant, label in labels.items()]
        canvas.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False)
        with written_aside(path) as aside:
            canvas.savefig(aside, format="png", dpi=120, transparent=True)


def _extras(axes: Any, panel: Panel, result: Result, figures: list[Figure]) -> None:
    """Draw what a plot is to be read against: the peak of a large product, and what memory theory asks."""
    if panel is PANELS[2]:
        peak = result.peaks[figures[0].dtype] / 1e9
        axes.axhline(peak, color=INK, lw=1, ls=(0, (1, 3)))
        where: Any = ("axes fraction", "data")
        axes.annotate("a large product", (0.02, peak), (0, -2), where, "offset points", va="top")
    if panel is PANELS[3]:
        theory = sorted({(figure.key.x, sum(figure.theory_bytes.values()) / 1e6) for figure in figures})
        axes.plot(*zip(*theory, strict=True), color=INK, lw=1, ls=(0, (1, 3)), marker=".", ms=3)
        axes.annotate("theory", theory[0], (0, 4), textcoords="offset points", va="bottom")


def _handle(contestant: str, label: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], label=label, **_drawn(contestant))


def _where(result: Result) -> str:
    return f"{result.machine['processor']}, {count(result.machine['cores'], 'core')}, {result.date[:10]}"


def _number(value: float, position: int) -> str:
    """Return a tick's label: 0.5, 20, 3k, 2M."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:g}{name}"
    return f"{value:g}"
