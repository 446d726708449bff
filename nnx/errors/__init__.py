"""The errors that nnx raises on purpose: each names the given and the expected value, and a remedy.

`integer`, `number`, `flag`, `one_of`, `items` and `as_path` check options. They return an option in the type that nnx
computes with, or raise an InputError that names it. NumPy's scalars count as Python's, and so does a 0-d array of any
library. A bool is no number. (For arrays see `nnx.array.host`.)
"""

import math
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from nnx.errors.texts import count, did_you_mean, first_line, listed, nearest, scalar, shape_of, shown, size

__all__ = [
    "LARGEST",
    "BackendError",
    "CallbackError",
    "CommunicatorError",
    "DivergenceError",
    "Error",
    "InputError",
    "LeftOutWarning",
    "ModelFileError",
    "above_zero",
    "as_path",
    "between",
    "count",
    "did_you_mean",
    "first_line",
    "flag",
    "integer",
    "items",
    "listed",
    "nearest",
    "number",
    "one_of",
    "positive_int",
    "scalar",
    "shown",
    "size",
    "unknown",
]


class Error(Exception):
    """The base of every error below. The command line prints these without a traceback."""


class InputError(Error, ValueError):
    """An argument, an option or a file does not fit."""


class BackendError(Error, RuntimeError):
    """A backend does not work on this machine."""


class CommunicatorError(BackendError):
    """The processes of a run cannot reach each other, or do not fit each other."""


class DivergenceError(Error, ArithmeticError):
    """The cost became infinite or NaN in training."""


class CallbackError(Error, RuntimeError):
    """A callback raised an error, which is the cause of this one."""


class ModelFileError(Error, ValueError):
    """A model file cannot be read."""


class LeftOutWarning(UserWarning):
    """Members take no part in the mean of a trainer's members."""


def unknown(kind: str, given: object, known: Iterable[str], register: str = "") -> InputError:
    """Return the error for an unknown name; it names the nearest known ones.

    `register` is the function of nnx that registers one of a user.

    Examples
    --------
    >>> print(unknown("activation", "rleu", ["relu", "tanh"]))
    unknown activation 'rleu'; did you mean 'relu'? Known: relu, tanh
    >>> print(unknown("optimizer", "bogus", ["adam", "lbfgs"]))
    unknown optimizer 'bogus'. Known: adam, lbfgs
    """
    known = list(known)
    hint = did_you_mean(given, known)
    hint = f"; {hint.replace('D', 'd', 1)}" if hint else ". "
    own = f". One of your own must be registered first: nnx.{register}" if register else ""
    names = ", ".join(one if len(one) <= 80 else shown(one) for one in known)
    return InputError(f"unknown {kind} {shown(given)}{hint}Known: {names}{own}")


LARGEST = 2**63 - 1
"""The largest integer that an option may be: the largest that array libraries count with."""


def integer(name: str, value: object, low: int = 0, high: int = LARGEST, expected: str = "") -> int:
    """Return value as an int from low to high, or raise an InputError that names it and the expected value.

    Examples
    --------
    >>> integer("cooldown", 3)
    3
    """
    found = scalar(value)
    whole = int(found) if isinstance(found, Integral) and not isinstance(found, bool) else None
    if whole is not None and low <= whole <= high:
        return whole
    large = whole is not None and whole > high
    raise InputError(
        f"{name} must be {expected or f'an integer >= {low}'}{f', at most {high}' if large else ''}, not {shown(value)}"
    )


def positive_int(name: str, value: object) -> int:
    """Return value as an int >= 1, or raise an InputError that names it.

    Examples
    --------
    >>> positive_int("epochs", 3)
    3
    """
    return integer(name, value, 1, expected="a positive integer")


def number(name: str, value: object, expected: str, fits: Callable[[float], bool]) -> float:
    """Return value as a float, or raise an InputError that names it and the expected value.

    Examples
    --------
    >>> number("decay", 0.9, "between 0 and 1", lambda x: 0 < x < 1)
    0.9
    """
    found = scalar(value)
    if isinstance(found, Real) and not isinstance(found, bool):
        try:
            if fits(x := float(found)):
                return x
        except OverflowError:  # an integer beyond floats
            pass
    raise InputError(f"{name} must be {expected}, not {shown(value)}")


def between(name: str, value: object, low: float, high: float = math.inf) -> float:
    """Return value as a float in [low, high), or raise an InputError that names it.

    Examples
    --------
    >>> between("smoothing", 0.9, 0, 1)
    0.9
    """
    expected = f"in [{low:g}, {high:g})" if high < math.inf else f"at least {low:g} and finite"
    return number(name, value, expected, lambda x: low <= x < high)


def above_zero(name: str, value: object, high: float = math.inf, none: bool = False) -> float:
    """Return value as a float greater than 0 and less than high, or raise an InputError that names it.

    Examples
    --------
    >>> above_zero("delta", 1)
    1.0
    """
    expected = f"between 0 and {high:g}" if high < math.inf else "greater than 0 and finite"
    expected += ", or None" if none else ""
    return number(name, value, expected, lambda x: 0 < x < high)


def flag(name: str, value: object, expected: str = "True or False") -> bool:
    """Return value as a bool, or raise an InputError that names it.

    Examples
    --------
    >>> flag("shuffle", True)
    True
    """
    found = scalar(value)
    if not isinstance(found, bool):
        raise InputError(f"{name} must be {expected}, not {shown(value)}")
    return found


def one_of(kind: str, value: object, known: Collection[str | None]) -> Any:
    """Return value, a name or None that is among those known, or raise an InputError that names the nearest.

    Examples
    --------
    >>> one_of("mode", "min", ("auto", "min", "max"))
    'min'
    """
    if (value is None or isinstance(value, str)) and value in known:
        return value
    raise unknown(kind, value, map(str, known))


def items(name: str, value: object, expected: str) -> list[Any]:
    """Return the items of a list, tuple or array of one axis, or raise an InputError that names it.

    Text, bytes, sets and dicts are errors: they have other items, or no order.

    Examples
    --------
    >>> items("sizes", (2, 3, 1), "a list of integers")
    [2, 3, 1]
    """
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray | memoryview):
        return list(value)
    if len(shape_of(value)) == 1 and isinstance(value, Iterable):
        return list(value)
    raise InputError(f"{name} must be {expected}, not {shown(value)}")


def as_path(name: str, value: object, expected: str = "a path, as text or a pathlib.Path") -> Path:
    """Return value as a Path that an operating system takes, or raise an InputError that names it.

    Examples
    --------
    >>> as_path("folder", "runs/1").name
    '1'
    """
    if isinstance(value, str | os.PathLike) and value != "":
        try:
            text = os.fspath(value)
            if isinstance(text, str) and b"\0" not in os.fsencode(text):
                return Path(text)
        except (TypeError, UnicodeError):  # a class of the user's; characters that no file name has
            pass
    raise InputError(f"{name} must be {expected}, not {shown(value)}")
