"""Every threshold of the compiler and its renderers in one table, each with the measurement that set it."""

from typing import NamedTuple


class Threshold(NamedTuple):
    """A number at which another way becomes the faster one.

    Attributes
    ----------
    value : float
    unit : str
    effect : str
        What the renderers do up to it, or from it on.
    processor : str
        Where it was measured.
    measurement : str
        What set it.
    """

    value: float
    unit: str
    effect: str
    processor: str
    measurement: str


TABLE: dict[str, Threshold] = {}
"""All of them by name."""


def _threshold(name: str, value: float, unit: str, effect: str, processor: str, measurement: str) -> int:
    """Add a row to the table, and return its value."""
    TABLE[name] = Threshold(value, unit, effect, processor, measurement)
    return value  # type: ignore[return-value]


FLOPS_PER_SECOND = 60e9
BYTES_PER_SECOND = 40e9

BLOCK = 1 << 16
NARROW_ROWS = 32
NARROW_COLUMNS = 64
SLOW_ROOT = 1 << 12
