"""The errors that nnx raises on purpose: each says what was given, what was expected and what to do."""

import operator
from collections.abc import Iterable
from difflib import get_close_matches


class Error(Exception):
    """Base of every error below. The command line prints these without a traceback."""


class InputError(Error, ValueError):
    """Something that was handed in does not fit."""


class BackendError(Error, RuntimeError):
    """A backend that was asked for cannot run here."""


class DivergenceError(Error, ArithmeticError):
    """The cost became infinite or NaN in training."""


class CallbackError(Error, RuntimeError):
    """A callback raised something; its own error is the cause of this one."""


class ModelFileError(Error, ValueError):
    """A model file cannot be read."""


def first_line(error: BaseException) -> str:
    r"""Return what a library's error says, without its further lines.

    Examples
    --------
    >>> first_line(ValueError("no such device\nCompile with ..."))
    'no such device'
    """
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def count(n: int, noun: str) -> str:
    """Return n with its noun.

    Examples
    --------
    >>> count(1, "row"), count(1200, "row")
    ('1 row', '1,200 rows')
    """
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def unknown(kind: str, given: object, known: Iterable[str]) -> InputError:
    """Return the error for a name that nobody knows, with the nearest that somebody does.

    Examples
    --------
    >>> print(unknown("activation", "rleu", ["relu", "tanh"]))
    unknown activation 'rleu'; did you mean 'relu'? Known: relu, tanh
    """
    known = list(known)
    lower = {name.lower(): name for name in known}
    near = [lower[name] for name in get_close_matches(str(given).lower(), lower, n=2)]
    hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    return InputError(f"unknown {kind} {given!r}; {hint}Known: {', '.join(known)}")


def positive_int(name: str, value: object) -> int:
    """Return value as an int >= 1, or raise an InputError that names it.

    Examples
    --------
    >>> positive_int("epochs", 3)
    3
    """
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = 0
    if number < 1 or isinstance(value, bool):
        raise InputError(f"{name} must be a positive integer, not {value!r}")
    return number
