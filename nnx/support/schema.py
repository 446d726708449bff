"""Checks of JSON before anything is made from it: types, keys and ranges."""

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import NoneType
from typing import Any

from nnx.errors import InputError, shown

Expected = Any
"""One of these:

- `str`, `bool`, `dict`, `list`, `None`, or `object` for anything; `int` of 64 bits, and `float`, which also takes
  integers, but neither NaN nor infinities;
- `Whole(low, high)`: an int between these;
- `Vector(n)`: an array (n,) of floats, with `members` (K, n);
- a list with one of these in it: a list of them; a tuple: one of several; a dict by keys: an object with exactly these
  keys, without those that end with "?" if they are not there;
- a function (where, value) that raises an InputError.
"""

_NAMES: dict[Any, str] = {
    str: "a text", bool: "true or false", dict: "an object", list: "a list", int: "a whole number",
    float: "a finite number", None: "null", NoneType: "null",
}  # fmt: skip


@dataclass(frozen=True)
class Whole:
    """An int, at least `low` and, if given, at most `high`."""

    low: int = 0
    high: int | None = 2**63 - 1


@dataclass(frozen=True)
class Vector:
    """An array (n,) of floats, or (members, n)."""

    n: int
    members: int | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The array's shape."""
        return (self.n,) if self.members is None else (self.members, self.n)


def check(where: str, value: Any, expected: Expected) -> None:
    """Raise an InputError unless a value is as expected; it names the place, the value and the expected type."""
    if isinstance(expected, dict):
        _object(where, value, expected)
    elif isinstance(expected, list):
        _is(isinstance(value, list), where, value, list)
        for i, one in enumerate(value):
            check(f"{where}[{i}]", one, expected[0])
    elif isinstance(expected, tuple):
        _one_of(where, value, expected)
    elif _is_simple(expected):
        _is(_fits(value, expected), where, value, expected)
    else:
        expected(where, value)


def _object(where: str, value: Any, expected: Mapping[str, Expected]) -> None:
    _is(isinstance(value, Mapping), where, value, dict)
    names = {name.removesuffix("?"): (name, one) for name, one in expected.items()}
    for name, (marked, one) in names.items():
        if name in value:
            check(f"{where}.{name}", value[name], one)
        elif marked == name:
            raise InputError(f"{where} has no {name!r}; expected {', '.join(names) or 'nothing'} in it")
    for name in value:
        if name not in names:
            raise InputError(
                f"{where} has the unknown {shown(name, 60)}; expected {', '.join(names) or 'nothing'}"
            )


def _one_of(where: str, value: Any, expected: tuple[Expected, ...]) -> None:
    """Check a value against alternatives; a list or an object against the first that describes its items."""
    for one in expected:
        if isinstance(value, dict | list) and not _is_simple(one):
            return check(where, value, one)
    return _is(any(_is_simple(one) and _fits(value, one) for one in expected), where, value, expected)


def _is_simple(expected: Expected) -> bool:
    """Return whether only the value itself is checked, and not its items."""
    return not (isinstance(expected, dict | list) or (callable(expected) and not isinstance(expected, type)))


def _fits(value: Any, expected: Expected) -> bool:
    if expected is object:
        return True
    if isinstance(expected, Whole):
        whole = isinstance(value, int) and not isinstance(value, bool)
        return whole and expected.low <= value <= (math.inf if expected.high is None else expected.high)
    if isinstance(expected, Vector):
        return getattr(value, "shape", None) == expected.shape and getattr(value.dtype, "kind", "") == "f"
    if expected in (None, NoneType):
        return value is None
    if expected is int:
        return _fits(value, Whole(-(2**63)))
    if expected is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and abs(value) <= sys.float_info.max
    return isinstance(value, expected)


def _is(true: bool, where: str, value: Any, expected: Expected) -> None:
    if not true:
        raise InputError(f"{where} is {shown(value, 60)}; expected {_in_words(expected)}")


def _in_words(expected: Expected) -> str:
    if isinstance(expected, tuple):
        return " or ".join(dict.fromkeys(map(_in_words, expected)))
    if isinstance(expected, Whole):
        high = "" if expected.high in (None, 2**63 - 1) else f" to {expected.high}"
        return f"a whole number {'>= ' if not high else 'from '}{expected.low}{high}"
    if isinstance(expected, Vector):
        return f"{' x '.join(map(str, expected.shape))} numbers"
    if isinstance(expected, dict | list):
        return _NAMES[type(expected)]
    return _NAMES.get(expected, "a description") if isinstance(expected, type | None) else "a description"
