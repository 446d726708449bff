"""A thousand networks in one program of CuPy's, beside one after the other."""

from dataclasses import replace
from typing import Any

import numpy as np

from nnx.bench import ours
from nnx.bench.case import Case, stacked
from nnx.bench.contestant import Contestant
from nnx.bench.gpu.bars import SMALL, us
from nnx.bench.gpu.correctness import FALLBACKS, LIMITS, logged
from nnx.bench.gpu.report import Report
from nnx.bench.gpu.sections import Options

BAR = 50.0
"""How many times as fast the members are to be as one after the other."""

SINGLES = 3
"""Networks of those that are trained one after the other, too."""

TURNS = 3
"""Of each, of which the fastest counts."""


def case_of(options: Options) -> Case:
    """Return the work: so few steps an epoch that all fits in the time."""
    members, sizes, m = (4, (20, 16, 4), 8) if options.small else (1000, SMALL, 128)
    return Case(sizes, m, shuffled=True, learning_rate=1e-3, seed=options.seed, members=members)


def measure(report: Report, options: Options) -> None:
    """Report whether members are their single runs, and how much faster they train."""
    case = case_of(options)
    data, name = case.data(), f"{case.K:,} of {'-'.join(map(str, case.sizes))}, m = {case.m:,}"
    singles = ours.one_by_one("cupy", replace(case, members=SINGLES), data)
    with logged() as messages:
        together = ours.fit("cupy", case, data)
        for one in (singles, together):
            one.seconds(1)
    fallbacks = [text for text in messages if any(part in text for part in FALLBACKS)]
    with report.guard(f"{name}: their results"):
        off = error(together.parameters(), singles.parameters(), stacked(case.starts()[:SINGLES]))
        text = f"theta {off:.0e}" + "".join(f"; {one}" for one in fallbacks[:1])
        is_right = off <= LIMITS["float32"]["theta"] and not fallbacks
        report.judge(f"{name}: their results", is_right, text, theta=off)
    with report.guard(name):
        seconds = 0.005 if options.small else 0.5
        alone, each = (
            fastest(one, seconds) / (K * case.steps) for one, K in ((singles, SINGLES), (together, case.K))
        )
        text = f"{us(each)} us for a step of one; one after the other {us(alone)} us, {alone / each:.1f} times as long"
        outcome = "met" if alone >= BAR * each else "missed"
        numbers = {
            "seconds": each,
            "one_by_one": alone,
            "bar": BAR,
            "members": case.K,
            "fallbacks": fallbacks,
        }
        report.add(name, outcome, f"{text}; bar {BAR:g}", **numbers)


def error(found: dict[str, Any], expected: dict[str, Any], start: dict[str, Any]) -> float:
    """Return the error of the first members' parameters, relative to their way from the start.

    Examples
    --------
    >>> W = np.zeros((1, 2, 3))
    >>> error({"W1": W + 1.5}, {"W1": W + 1}, {"W1": W})
    0.5
    """
    pairs = [(found[name][: len(x)] - x, x - start[name]) for name, x in expected.items()]
    off, way = (np.concatenate([part.ravel() for part in parts]) for parts in zip(*pairs, strict=True))
    return float(np.linalg.norm(off) / np.linalg.norm(way))


def fastest(one: Contestant, seconds: float) -> float:
    """Return the seconds of an epoch in the fastest of some turns, each as long as `seconds`, about."""
    epochs: int = max(1, round(seconds / one.seconds(2) * 2))
    found: float = min(one.seconds(epochs) for _ in range(TURNS))
    return found / epochs
