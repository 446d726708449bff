"""Numbers as text that never round to 0 or 1 unless they are: an accuracy of 99.996% is not 100%."""

from collections.abc import Callable

DIGITS = 9
"""Digits after which a number is written as it is."""


def decimals(x: float, digits: int) -> str:
    """Return x with this number of decimals, or with more if it would look like 0 or 1; from 1e6 with an exponent.

    Examples
    --------
    >>> decimals(0.98765, 3), decimals(0.99996, 3), decimals(0.00004, 3), decimals(1, 3), decimals(-2e16, 3)
    ('0.988', '0.99996', '0.00004', '1.000', '-2.000e+16')
    """
    return _told(x, digits, lambda n: f"{x:.{n}{'f' if abs(x) < 1e6 else 'e'}}", float)


def significant(x: float, digits: int) -> str:
    """Return x with this number of significant digits, or with more if it would look like 1; up to 1e9 no exponent.

    Examples
    --------
    >>> significant(0.98765, 3), significant(0.99996, 3), significant(1.00004, 3), significant(1e-30, 3)
    ('0.988', '0.99996', '1', '1e-30')
    >>> significant(246825.04, 4), significant(1753.25, 6), significant(-2e9, 4)
    ('246,825', '1,753.25', '-2e+09')
    """

    def write(n: int) -> str:
        text = f"{x:,.{n}g}"
        return f"{x:,.0f}" if "e+" in text and abs(x) < 1e9 else text

    return _told(x, digits, write, float)


def percent(x: float, digits: int) -> str:
    """Return a share as a percentage with this number of decimals, or with more if it would look like 0% or 100%.

    Examples
    --------
    >>> percent(0.98765, 1), percent(0.99996, 1), percent(1e-5, 1), percent(1, 1)
    ('98.8%', '99.996%', '0.001%', '100.0%')
    """
    return _told(x, digits, lambda n: f"{x:.{n}%}", lambda text: float(text[:-1]) / 100)


def _told(x: float, digits: int, write: Callable[[int], str], read: Callable[[str], float]) -> str:
    """Return x with the fewest digits, at least `digits`, with which it differs from 0, 1 and -1."""
    text = write(digits)
    if not -1 < x < 1 or x == 0:
        return text
    for more in range(digits, DIGITS + 1):
        text = write(more)
        if read(text) not in (0, 1, -1):
            return text
    return repr(float(x)) if not text.endswith("%") else f"{100 * x!r}%"
