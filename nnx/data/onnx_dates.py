"""The inputs that a column of dates becomes, as nodes of ONNX: the calendar in integers."""

from collections.abc import Callable
from math import pi
from typing import Any

import numpy as np

from nnx.array.namespace import Array
from nnx.data.dates import DAY, EARLIEST, HOUR, LATEST
from nnx.data.encoding import Column


def date_inputs(seconds: Array, column: Column, mean: Any, scale: Any, dtype: str) -> list[Array]:
    """Return the inputs of dates, each (m, some): the scaled numbers, the one-hot parts, and whether one is missing.

    Parameters
    ----------
    seconds : array (m, 1)
        Since 1970-01-01 in UTC, or since midnight; NaN where it is missing. Where they are infinite, or outside of the
        years 1 to 9999, the numbers are NaN.
    column : Column
    mean, scale : array
        Of the column's inputs, the numbers first.
    dtype : {"float32", "float64"}
    """
    graph, xp, dates = seconds.graph, seconds.graph.xp, column.dates
    assert dates is not None
    missing = xp.isnan(seconds)
    moments = xp.where(missing, dates.moment(column.fill), xp.round(seconds * 1e6))
    parts = _Parts(moments)
    numbers: list[Array] = []
    for part in dates.numbers:
        if part == "days":
            numbers.append((moments - dates.moment(0)) / DAY)
        elif part == "hour":
            angle = 2 * pi / 24 * (xp.astype(parts.of_day, "float64") / HOUR)
            numbers += [xp.sin(angle), xp.cos(angle)]
        else:
            numbers.append(xp.astype(parts.year(), "float64"))
    width = len(numbers)
    no_date = xp.logical_or(moments < EARLIEST, moments >= LATEST)
    own = xp.where(no_date, float("nan"), xp.concat(numbers, axis=1))
    found = [(own - graph.constant(mean[None, :width])) / graph.constant(scale[None, :width])]
    for part, values in dates.one_hot.items():
        known = graph.constant(np.array([values], "int64"))
        found.append(xp.astype(xp.equal(parts.named(part), known), dtype))
    if column.missing:
        found.append(xp.astype(missing, dtype))
    return found


class _Parts:
    """The parts of moments (m, 1), whole microseconds, as integers.

    Year and month are counted from 1 March 0000 (H. Hinnant, chrono-compatible low-level date algorithms,
    https://howardhinnant.github.io/date_algorithms.html, civil_from_days). All numbers there are positive from the year
    1 on, so that the division may round towards zero.
    """

    def __init__(self, moments: Array) -> None:
        self.xp = moments.graph.xp
        at = self.xp.astype(moments, "int64")
        self.of_day = self.xp.remainder(at, int(DAY))
        self.day = (at - self.of_day) / int(DAY)
        self._found: tuple[Array, Array] | None = None

    def named(self, part: str) -> Array:
        """Return the month, the weekday (1: Monday) or the hour."""
        own: dict[str, Callable[[], Array]] = {
            "month": lambda: self._civil()[1],
            "weekday": lambda: self.xp.remainder(self.day + 3, 7) + 1,
            "hour": lambda: self.of_day / int(HOUR),
        }
        return own[part]()

    def year(self) -> Array:
        """Return the year."""
        return self._civil()[0]

    def _civil(self) -> tuple[Array, Array]:
        if self._found is None:
            z = self.day + 719_468
            era = z / 146_097
            of_era = z - era * 146_097
            year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365
            of_year = of_era - (365 * year + year / 4 - year / 100)
            march = (5 * of_year + 2) / 153  # months since March
            month = march + 3 - 12 * self.xp.astype(march >= 10, "int64")
            self._found = year + 400 * era + self.xp.astype(month <= 2, "int64"), month
        return self._found
