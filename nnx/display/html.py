"""Networks, histories and trainers as HTML for notebooks: whole in itself, in the colours of the page around it."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from numbers import Real
from typing import TYPE_CHECKING, Any

from nnx.display.rounding import significant
from nnx.errors import count
from nnx.plots.given import or_gap
from nnx.plots.style import COLOURS
from nnx.train.progress import called

if TYPE_CHECKING:
    from nnx.data.tabular import Tabular
    from nnx.model.summary import Summary
    from nnx.train.trainer import Trainer

WIDTH, HEIGHT, LEFT, BELOW = 300, 120, 46, 16
"""Of a curve, in pixels, and the room for the numbers at its axes."""

POINTS = 200
"""Of a line; of longer ones, so many that lie equally far apart, and the last."""

TABLE = "color:inherit;border-collapse:collapse;margin:4px 0"
CELL = "white-space:pre;padding:1px 8px"

RIGHT = {"l", "units", "parameters", "not learned", "kept"}
"""Columns of numbers."""


def summary(shown: "Summary") -> str:
    """Return a network's layers as a table, with the totals below."""
    cells = [row.cells for row in shown.rows]
    columns = [name for name in cells[0] if any(row[name] for row in cells)]

    def line(kind: str, texts: Sequence[str]) -> str:
        made = (
            f'<{kind} style="text-align:{"right" if name in RIGHT else "left"};{CELL}">{escape(text)}</{kind}>'
            for name, text in zip(columns, texts, strict=True)
        )
        return f"<tr>{''.join(made)}</tr>"

    rows = line("th", columns) + "".join(line("td", [row[name] for name in columns]) for row in cells)
    return f'<div><table style="{TABLE}">{rows}</table><div>{escape(shown.total)}</div></div>'


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


def trainer(shown: "Trainer") -> str:
    """Return what a trainer has, where it runs and how far it has come, with its network and history."""
    facts = (
        f"{count(shown.steps, 'step')} done by {shown.optimizer!r}, in {shown.dtype} on {shown.backend.name} "
        f"{shown.backend.version} ({shown.backend.device})"
    )
    curves = history(shown.history) if shown.records else ""
    return f"<div>{escape(facts)}{summary(shown.network.summary())}{curves}</div>"


def tabular(shown: "Tabular") -> str:
    """Return what a model of a table predicts from which columns, with its network and history."""
    lines = "".join(f"<div>{escape(line)}</div>" for line in (repr(shown)[1:-1], *shown.account()))
    curves = history(shown.history) if shown.trainer.records else ""
    return f"<div>{lines}{summary(shown.trainer.network.summary())}{curves}</div>"


def progress(share: float | None, text: str, curves: str) -> str:
    """Return a bar, filled by a share (None: nobody knows), with a text and what is below it."""
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
