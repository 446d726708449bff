"""Tables, curves and progress bars as HTML for notebooks, complete in itself, in the colours of the page around it."""

import math
from collections.abc import Collection, Mapping, Sequence
from html import escape
from numbers import Real
from typing import Any

from nnx.display.curves import COLOURS, or_gap
from nnx.display.names import called
from nnx.display.rounding import significant

WIDTH, HEIGHT, LEFT, BELOW = 300, 120, 46, 16
"""Of a curve, in pixels, and the room for the numbers at its axes."""

POINTS = 200
"""Of a line; of longer ones, so many that lie equally far apart, and the last."""

TABLE = "color:inherit;border-collapse:collapse;margin:4px 0"
CELL = "white-space:pre;padding:1px 8px"


def table(rows: Sequence[Mapping[str, str]], numbers: Collection[str], total: str) -> str:
    """Return a table with a sentence below it.

    Parameters
    ----------
    rows : sequence of dict
        The text of each cell by the column's name. A column without any text is left out.
    numbers : collection of str
        The columns of numbers, which are aligned to the right.
    total : str
    """
    columns = [name for name in rows[0] if any(row[name] for row in rows)]

    def line(kind: str, texts: Sequence[str]) -> str:
        cells = (
            f'<{kind} style="text-align:{"right" if name in numbers else "left"};{CELL}">{escape(text)}</{kind}>'
            for name, text in zip(columns, texts, strict=True)
        )
        return f"<tr>{''.join(cells)}</tr>"

    lines = line("th", columns) + "".join(line("td", [row[name] for name in columns]) for row in rows)
    return f'<div><table style="{TABLE}">{lines}</table><div>{escape(total)}</div></div>'


def history(shown: Mapping[str, Sequence[Any]]) -> str:
    """Return a history as curves, one for the cost and one for each score, with the last values."""
    lines = {name: _numbers(values) for name, values in shown.items()}
    lines = {name: values for name, values in lines.items() if values}
    panels = dict.fromkeys(name.removeprefix("validation_") for name in lines)
    kept = getattr(shown, "kept", None)
    drawn = "".join(_panel(name, lines, kept) for name in sorted(panels, key=lambda name: name != "loss"))
    return (
        f'<div style="display:flex;flex-wrap:wrap;gap:4px 16px;margin:4px 0">{drawn or "no epoch yet"}</div>'
    )


def progress(share: float | None, text: str, curves: str) -> str:
    """Return a bar, filled by a share (None: unknown), with a text and the part below it."""
    percent = "" if share is None else f"{share:.0%}"
    return (
        '<div><div style="display:flex;align-items:center;gap:8px">'
        '<div role="progressbar" style="flex:0 0 200px;height:10px;border:1px solid #7d8590;border-radius:5px">'
        f'<div style="width:{percent or "0%"};height:100%;border-radius:4px;background:{COLOURS[0]}"></div></div>'
        f"<span>{percent}</span><span>{escape(text)}</span></div>{curves}</div>"
    )


def _numbers(values: Sequence[Any]) -> list[float]:
    """Return the values of a curve, NaN for those that are missing; none if they are no single numbers."""
    if not all(value is None or isinstance(value, Real) for value in values):
        return []
    return [or_gap(value) for value in values]


def _panel(name: str, lines: Mapping[str, list[float]], kept: int | None) -> str:
    """Return the curves of one quantity, on training samples and on held-out ones, with the epoch that was kept."""
    both = {
        label: (colour, lines[key])
        for key, label, colour in (
            (name, "training", COLOURS[0]),
            (f"validation_{name}", "held out", COLOURS[1]),
        )
        if key in lines
    }
    values = [y for _, line in both.values() for y in line if math.isfinite(y)]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    logarithmic = "loss" in name and low > 0 and high > 3 * low
    epochs = max(len(line) for _, line in both.values())

    def x(epoch: int) -> float:
        return LEFT + (WIDTH - LEFT - 6) * ((epoch - 1) / (epochs - 1) if epochs > 1 else 0.5)

    def y(value: float) -> float:
        a, b, c = (math.log(v) for v in (low, value, high)) if logarithmic else (low, value, high)
        return 6 + (HEIGHT - BELOW - 10) * ((c - b) / (c - a) if c > a else 0.5)

    title = f"{called(name)}{', logarithmic' if logarithmic else ''}"
    last = " ".join(
        f'<span style="color:{colour}">&#9632;</span> {label} {significant(line[-1], 4)}'
        for label, (colour, line) in both.items()
    )
    if kept and kept <= epochs:
        last += f" <span>&#9478; kept: epoch {kept:,}</span>"
    drawn = "".join(_line(line, colour, x, y) for colour, line in both.values())
    frame = f'<path d="M{LEFT} 4V{HEIGHT - BELOW}H{WIDTH - 4}" fill="none" stroke="currentColor" stroke-opacity="0.5"/>'
    numbers = (
        f'<text x="{LEFT - 4}" y="12" text-anchor="end">{high:.3g}</text>'
        f'<text x="{LEFT - 4}" y="{HEIGHT - BELOW}" text-anchor="end">{low:.3g}</text>'
        f'<text x="{x(1):.0f}" y="{HEIGHT - 3}" text-anchor="middle">1</text>'
    )
    if epochs > 1:
        numbers += f'<text x="{WIDTH - 4}" y="{HEIGHT - 3}" text-anchor="end">epoch {epochs:,}</text>'
    if kept and kept <= epochs:
        at = f'd="M{x(kept):.1f} 4V{HEIGHT - BELOW}"'
        numbers += f'<path {at} stroke="currentColor" stroke-dasharray="4 2" fill="none"/>'
    return (
        f"<div><div><b>{escape(title)}</b> {last}</div>"
        f'<svg width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'style="font-size:10px;fill:currentColor"><title>{escape(title)}</title>{frame}{numbers}{drawn}</svg></div>'
    )


def _line(values: list[float], colour: str, x: Any, y: Any) -> str:
    """Return a curve, interrupted where a value is missing."""
    every = -(-len(values) // POINTS)
    kept = sorted({*range(0, len(values), every), len(values) - 1})
    pieces: list[list[str]] = [[]]
    for k in kept:
        if math.isfinite(values[k]):
            pieces[-1].append(f"{x(k + 1):.1f},{y(values[k]):.1f}")
        elif pieces[-1]:
            pieces.append([])
    return "".join(
        f'<polyline points="{" ".join(piece)}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
        if len(piece) > 1
        else f'<circle cx="{piece[0].split(",")[0]}" cy="{piece[0].split(",")[1]}" r="2" fill="{colour}"/>'
        for piece in pieces
        if piece
    )
