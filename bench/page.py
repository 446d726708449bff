"""The figures as one HTML page: everything is in it, so it needs no network; without JavaScript the table is left."""

import json
from dataclasses import asdict
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from nnx.bench.contestants import OURS
from nnx.bench.plots import AXES, PANELS, marker, series, style
from nnx.bench.result import Figure, Group, Result
from nnx.errors import count
from nnx.io.atomic_write import written_aside

DASHES = {"-": "", "--": "7 4", ":": "2 3", "-.": "8 3 2 3"}

CORNERS = {
    "s": ((-1, -1), (1, -1), (1, 1), (-1, 1)),
    "^": ((0, -1.3), (1.2, 1), (-1.2, 1)),
    "v": ((0, 1.3), (1.2, -1), (-1.2, -1)),
}
"""Of a marker, about its middle. The others are circles, which the dashes of their lines tell apart."""


def write(result: Result, path: Path) -> None:
    """Write the page."""
    template = Template(files("nnx.bench").joinpath("page.html").read_text(encoding="utf-8"))
    shown = {"result": asdict(result), "groups": [_group(result, group) for group in result.groups]}
    data = json.dumps(shown).replace("<", "\\u003c")  # no text in it ends the script
    text = template.substitute(facts=_facts(result), table=_table(result), data=data)
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def _facts(result: Result) -> str:
    machine = result.machine
    used = [one for one in result.contestants if one["library"]]
    blas = {
        f"{pool['library']} {pool['version'] or ''}".strip() + f" ({count(pool['threads'], 'thread')})"
        for one in used
        for pool in one["blas"]
    }
    facts = {
        "Date": result.date,
        "Processor": f"{machine['processor']}, {count(machine['cores'], 'core')}, {machine['system']}",
        "GPU": ", ".join(sorted({one["detail"] for one in used if one["device"].startswith("cuda")})),
        "Python": machine["python"],
        "Versions": ", ".join(f"{name} {version}" for name, version in result.versions.items()),
        "BLAS, threads": ", ".join(sorted(blas)),
        "Large product": ", ".join(
            f"{peak / 1e9:,.0f} GFLOP/s ({name})" for name, peak in result.peaks.items()
        ),
        "Rounds": f"{result.settings['rounds']} of about {result.settings['seconds']} s for each contestant",
        "Absent": "; ".join(f"{one['label']}: {one['absent']}" for one in result.absent),
        "Note": result.note,
    }
    rows = "".join(f"<dt>{escape(name)}<dd>{escape(text)}" for name, text in facts.items() if text)
    return f"<dl>{rows}</dl>"


def _line(contestant: str, label: str) -> dict[str, Any]:
    colour, line = style(contestant)
    width = 3 if contestant.startswith(OURS) else 1.6
    corners = CORNERS.get(marker(contestant), ())
    return {"label": label, "colour": colour, "dash": DASHES[line], "width": width, "corners": corners}


def _group(result: Result, group: Group) -> dict[str, Any]:
    figures = result.of(group)
    labels = {figure.contestant: figure.label for figure in figures}
    theory = sorted({(figure.key.x, sum(figure.theory_bytes.values()) / 1e6) for figure in figures})
    lines: dict[int, list[dict[str, Any]]] = {
        2: [{"label": "a large product", "points": [[1, result.peaks[group.dtype] / 1e9]]}],
        3: [{"label": "theory", "points": theory}],
    }
    return {
        "name": str(group),
        "axis": group.axis,
        "label": AXES[group.axis],
        "legend": [_line(contestant, label) for contestant, label in labels.items()],
        "panels": [
            {
                "title": panel.title,
                "x": sorted({figure.key.x for figure in figures}),
                "lines": lines.get(i, []),
                "series": [
                    {**_line(contestant, labels[contestant]), "points": points}
                    for contestant, points in series(figures, panel).items()
                ],
            }
            for i, panel in enumerate(PANELS)
        ],
    }


COLUMNS = (
    "what", "contestant", "m", "samples/s", "µs a step", "±", "over floor", "outside the steps", "GFLOP/s",
    "start-up, s", "peak MB", "theory MB",
)  # fmt: skip

OF_MEMBERS = "K", "times one by one"
"""The columns behind them, where there are members."""


def _table(result: Result) -> str:
    has_members = any(figure.members is not None for figure in result.figures)
    columns = (*COLUMNS, *OF_MEMBERS) if has_members else COLUMNS
    rows = []
    for i, group in enumerate(result.groups):
        for figure in result.of(group):
            cells = "".join(
                f'<td data-value="{value}">{escape(text)}'
                for value, text in _cells(result, group, figure)[: len(columns)]
            )
            label = escape(figure.label, quote=True)
            rows.append(f'<tr data-group="{i}" data-label="{label}" class="{figure.kind}">{cells}')
    head = "".join(f"<th>{escape(name)}" for name in columns)
    return f"<table><thead><tr>{head}<tbody>{''.join(rows)}</table>"


def _cells(result: Result, group: Group, figure: Figure) -> list[tuple[Any, str]]:
    """Return (the value to sort by, the text) of each column."""

    def number(value: float | None, form: str) -> tuple[Any, str]:
        return (-1, "") if value is None else (value, format(value, form))

    return [
        (escape(str(group), quote=True), str(group)),
        (escape(figure.label, quote=True), figure.label),
        number(figure.m, ",d"),
        number(figure.samples_per_second, ",.0f"),
        number(figure.each * 1e6, ",.1f"),
        number((figure.quartiles[1] - figure.quartiles[0]) / 2 / figure.seconds, ".0%"),
        number(figure.over_floor, ".2f"),
        number(figure.own, ".1%"),
        number(figure.flops_per_second / 1e9, ",.2f"),
        number(figure.startup, ".2f"),
        number(None if figure.peak_bytes is None else figure.peak_bytes / 1e6, ",.1f"),
        number(sum(figure.theory_bytes.values()) / 1e6, ",.1f"),
        number(figure.members, ",d"),
        number(result.over_singles(figure), ".2f"),
    ]
