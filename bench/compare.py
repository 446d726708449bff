"""What got faster or slower from one file to another, beyond the noise."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot, inf, sqrt
from statistics import median

from nnx.bench.machine import is_busy
from nnx.bench.result import Figure, Key, Result, spread

LEAST = 0.03
"""A change below this is none, however quiet the rounds were: two runs differ by as much."""


@dataclass(frozen=True)
class Verdict:
    """One contestant in one cell.

    Attributes
    ----------
    key : Key
    label : str
    before, after : float
        Seconds of a step, the medians.
    before_over, after_over : float or None
        Medians of the time over the floor.
    change : float
        What the time became, less 1: -0.2 is a fifth faster. Of the time over the floor where both files were
        measured with the floor, so that a machine that is slower today does not count.
    noise : float
        The change that the rounds' spread explains; infinite where a single round has none.
    verdict : {"faster", "slower", "same"}
    """

    key: Key
    label: str
    before: float
    after: float
    before_over: float | None
    after_over: float | None
    change: float
    noise: float
    verdict: str


@dataclass(frozen=True)
class Comparison:
    """Two files.

    Attributes
    ----------
    verdicts : list of Verdict
        Of all but the floor, by which the others are measured.
    only_before, only_after : list of Key
        What one file has alone.
    warnings : list of str
        What makes the two hard to compare.
    """

    verdicts: list[Verdict]
    only_before: list[Key]
    only_after: list[Key]
    warnings: list[str]


def compare(before: Result, after: Result) -> Comparison:
    """Compare what both have."""
    old, new = ({figure.key: figure for figure in found.figures} for found in (before, after))
    both = [key for key in old if key in new]
    floors = _common_floors(before, after)
    verdicts = [_verdict(old[key], new[key], old, new, floors) for key in both if old[key].kind != "floor"]
    return Comparison(
        verdicts,
        [key for key in old if key not in new],
        [key for key in new if key not in old],
        _warnings(before, after),
    )


def _common_floors(before: Result, after: Result) -> set[str]:
    """Return the floors that the same library has computed in both files."""
    libraries = [
        {(one["name"], (one["library"] or "").partition(" ")[0]) for one in found.contestants}
        for found in (before, after)
    ]
    return {name for name, _ in libraries[0] & libraries[1]}


def _verdict(
    a: Figure, b: Figure, old: dict[Key, Figure], new: dict[Key, Figure], floors: set[str]
) -> Verdict:
    comparable = a.floor == b.floor and a.floor in floors
    mine, other = (_relative(a, old), _relative(b, new)) if comparable else (None, None)
    over = [None if ratios is None else median(ratios) for ratios in (mine, other)]
    if mine is None or other is None:
        mine, other = a.rounds, b.rounds
    change = median(other) / median(mine) - 1
    noise = max(LEAST, hypot(_uncertainty(mine), _uncertainty(other)))
    verdict = "same" if abs(change) <= noise else "slower" if change > 0 else "faster"
    return Verdict(b.key, b.label, a.seconds, b.seconds, over[0], over[1], change, noise, verdict)


def _relative(figure: Figure, figures: dict[Key, Figure]) -> list[float] | None:
    """Return the rounds over the floor's, or None where the floor was not measured."""
    floor = figures.get(figure.key._replace(contestant=figure.floor)) if figure.floor else None
    if floor is None or len(floor.rounds) != len(figure.rounds):
        return None
    return [one / other for one, other in zip(figure.rounds, floor.rounds, strict=True)]


def _uncertainty(rounds: Sequence[float]) -> float:
    """Return how far, relatively, a median may be off: 1.57 IQR / sqrt(n), the notch of a box plot.

    Two medians further apart differ at about the 95% level: McGill, Tukey and Larsen, 1978,
    https://doi.org/10.2307/2683468.
    """
    if len(rounds) < 2:
        return inf
    middle, (low, high) = spread(rounds)
    return float(1.57 * (high - low) / sqrt(len(rounds)) / middle)


def _warnings(before: Result, after: Result) -> list[str]:
    floors = [{f.key: f.seconds for f in one.figures if f.kind == "floor"} for one in (before, after)]
    common = _common_floors(before, after)
    both = [key for key in floors[0] if key in floors[1] and key.contestant in common]
    slower = [floors[1][key] / floors[0][key] - 1 for key in both]
    found = []
    if slower and abs(median(slower)) > LEAST:
        found.append(
            f"the machine: its matrix products alone take {median(slower):+.0%} (median of the cells)"
        )
    loads = [one.settings.get("load_before") for one in (before, after)]
    if any(is_busy(load, one.machine) for load, one in zip(loads, (before, after), strict=True)):
        found.append(f"load of the machine when the run began: {loads[0]}, then {loads[1]}")
    found += [
        f"{name}: {before.machine.get(name)}, then {after.machine.get(name)}"
        for name in ("processor", "cores", "environment")
        if before.machine.get(name) != after.machine.get(name)
    ]
    found += [
        f"{name}: {before.versions.get(name, 'none')}, then {after.versions.get(name, 'none')}"
        for name in sorted({*before.versions, *after.versions})
        if before.versions.get(name) != after.versions.get(name)
    ]
    return found
