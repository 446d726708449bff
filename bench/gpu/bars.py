"""The times that a step on a GPU is to reach, and whether it does."""

from math import inf
from typing import Any, NamedTuple

from nnx.bench.contestants import kind, label
from nnx.bench.result import Figure, Result
from nnx.port.precision import FLOAT32

DIGITS, SMALL = (784, 512, 512, 10), (64, 64, 64, 10)


class Bar(NamedTuple):
    """A bar for a step: at most factor * floor + seconds, and at most `most`; of the floor None counts `most` alone."""

    factor: float | None
    seconds: float = 0.0
    most: float = inf

    def of(self, floor: float | None) -> float | None:
        """Return the seconds of a step that meets the bar; None without the floor that it needs.

        Examples
        --------
        >>> Bar(1.5, 10).of(30), Bar(1.5, 10, most=50).of(30), Bar(None, most=40).of(None), Bar(1.5).of(None)
        (55.0, 50, 40, None)
        """
        if self.factor is None:
            return self.most
        return None if floor is None else min(self.factor * floor + self.seconds, self.most)


BARS: dict[tuple[tuple[int, ...], int, str], Bar] = {
    (DIGITS, 128, "float32"): Bar(1, 25e-6, most=100e-6),
    (DIGITS, 1024, "float32"): Bar(1.3),
    (DIGITS, 8192, "float32"): Bar(1.12),
    (DIGITS, 128, "tf32"): Bar(1, 25e-6),
    (DIGITS, 1024, "tf32"): Bar(1.7),
    (DIGITS, 8192, "tf32"): Bar(1.5),
    (DIGITS, 128, "bfloat16"): Bar(1, 25e-6),
    (DIGITS, 1024, "bfloat16"): Bar(1.8),
    (DIGITS, 8192, "bfloat16"): Bar(1.8),
    (SMALL, 128, "float32"): Bar(None, most=40e-6),
    (SMALL, 1024, "float32"): Bar(None, most=45e-6),
}
"""The bar of each network, m and precision, on an NVIDIA H100 or H200."""


class Verdict(NamedTuple):
    """Whether a step meets its bar and no other contestant is faster, in words and in numbers."""

    outcome: str
    text: str
    numbers: dict[str, Any]


def verdict(result: Result, sizes: tuple[int, ...], m: int, precision: str) -> Verdict:
    """Judge CuPy's step in one cell and precision. A step without a bar must be the fastest, too."""
    name = contestant("cupy", precision)
    precisions = {one["name"]: one["precision"] for one in result.contestants}
    of_cell = [one for one in result.figures if tuple(one.sizes) == sizes and one.m == m]
    ours = next((one for one in of_cell if one.contestant == name), None)
    if ours is None:
        reason = next((one["absent"] for one in result.contestants if one["name"] == name), None)
        return Verdict("failed", f"it took no part: {reason}", {})
    others = {
        one.contestant: one.seconds
        for one in of_cell
        if is_rival(one, name) and precisions[one.contestant] == precision
    }
    floor = next((one.seconds for one in of_cell if one.contestant == ours.floor), None)
    bar = BARS[sizes, m, precision].of(floor) if (sizes, m, precision) in BARS else None
    text = f"{us(ours.seconds)} us"
    if floor is not None:
        text += f", {ours.seconds / floor:.2f} of the floor's {us(floor)}"
    if bar is not None:
        text += f"; bar {us(bar)}"
    text += "".join(f"; {label(other)} {us(seconds)}" for other, seconds in others.items())
    theory = sum(ours.theory_bytes.values())
    if ours.peak_bytes is not None:
        text += f"; {ours.peak_bytes / 1e6:.1f} MB, theory {theory / 1e6:.1f} MB"
    is_met = ours.seconds <= min([inf if bar is None else bar, *others.values()])
    outcome = ("met" if bar is not None else "measured") if is_met else "missed"
    numbers = {"seconds": ours.seconds, "floor": floor, "bar": bar, "others": others}
    return Verdict(outcome, text, numbers | {"peak_bytes": ours.peak_bytes, "theory_bytes": theory})


def contestant(library: str, precision: str) -> str:
    """Return a contestant's name.

    Examples
    --------
    >>> contestant("torch@cuda", "tf32"), contestant("cupy", "float32")
    ('nnx:torch@cuda/tf32', 'nnx:cupy')
    """
    return f"nnx:{library}" if precision == FLOAT32 else f"nnx:{library}/{precision}"


def is_rival(figure: Figure, name: str) -> bool:
    """Whether a contestant is to be slower than CuPy's step: all but the floors and CuPy itself."""
    other = figure.contestant
    return other != name and kind(other) != "floor" and not other.startswith("nnx:cupy")


def us(seconds: float) -> str:
    """Return microseconds.

    Examples
    --------
    >>> us(83.14e-6), us(2.6211e-3)
    ('83.1', '2,621')
    """
    return f"{seconds * 1e6:,.0f}" if seconds >= 1e-3 else f"{seconds * 1e6:.1f}"
