"""The colours of curves in notebooks and pictures, and the numbers that can be drawn."""

import math
from typing import Any

COLOURS = ("#2386c8", "#d55e00", "#009e73", "#cc79a7", "#8c6239")
"""Of series and classes, after Okabe and Ito (https://jfly.uni-koeln.de/color/): people of all kinds of colour vision
tell them apart, on white and on near black (a test holds them to it)."""

LARGEST = 1e100
"""Larger numbers, by size, are not drawn: their squares and differences would be infinite on the way."""


def or_gap(value: Any) -> float:
    """Return a value of a curve as a float; NaN, which leaves a gap, for one that is missing or cannot be drawn.

    Examples
    --------
    >>> or_gap(0.5), or_gap(None), or_gap(10**400), or_gap(float("inf"))
    (0.5, nan, nan, nan)
    """
    try:
        number = math.nan if value is None else float(value)
    except (OverflowError, ValueError):  # an integer beyond floats
        return math.nan
    return number if abs(number) <= LARGEST else math.nan
