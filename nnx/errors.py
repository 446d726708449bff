"""The errors that nnx raises on purpose: each says what was given, what was expected and what to do."""

import operator
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from numbers import Real
from textwrap import shorten

INSTALL = "pip install 'nnx-array[cli]'"
"""How to get what the command line, the readers and the pictures need."""


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
    return shorten(next(iter(str(error).splitlines()), ""), 300, placeholder=" ...") or type(error).__name__


def count(n: int, noun: str) -> str:
    """Return n with its noun.

    Examples
    --------
    >>> count(1, "row"), count(1200, "row")
    ('1 row', '1,200 rows')
    """
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def size(n: float) -> str:
    """Return a number of bytes as people say it.

    Examples
    --------
    >>> size(800), size(1_628_200), size(215e6), size(3e9)
    ('800 bytes', '1.6 MB', '215 MB', '3 GB')
    """
    if n < 1000:
        return count(round(n), "byte")
    k = (n >= 999.5e3) + (n >= 999.5e6)
    many, unit = n / 1000 ** (k + 1), ("kB", "MB", "GB")[k]
    return f"{many:.0f} {unit}" if many >= 99.95 else f"{many:.1f} {unit}".replace(".0 ", " ")


def listed(names: Iterable[object], most: int) -> str:
    """Return the first few names, and how many more there are.

    Examples
    --------
    >>> listed("abcde", 3), listed("abc", 3)
    ('a, b, c and 2 more', 'a, b, c')
    """
    shown = [str(name) for name in names]
    more = f" and {len(shown) - most:,} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more


SYNONYMS = {
    "swish": "silu", "logistic": "sigmoid", "linear": "identity", "hardtanh": "hard_tanh",
    "sgd": "gradient_descent", "l-bfgs": "lbfgs",
    "mse": "half_squared_error", "squared_error": "half_squared_error", "mae": "absolute_error",
    "poisson": "half_poisson_deviance", "log_loss": "cross_entropy", "bce": "binary_cross_entropy",
    "kaiming": "he", "xavier": "glorot", "auc": "roc_auc", "rmse": "root_mean_squared_error", "top_k_accuracy": "top_k",
    "on_epoch_end": "on_epoch", "on_epoch_begin": "on_epoch", "on_train_begin": "on_fit_start",
    "on_train_end": "on_fit_end", "on_train_batch_end": "on_step", "on_batch_end": "on_step",
}  # fmt: skip
"""What other libraries call what nnx has under another name."""


def unknown(kind: str, given: object, known: Iterable[str]) -> InputError:
    """Return the error for a name that nobody knows, with the nearest that somebody does.

    Examples
    --------
    >>> print(unknown("activation", "rleu", ["relu", "tanh"]))
    unknown activation 'rleu'; did you mean 'relu'? Known: relu, tanh
    >>> print(unknown("optimizer", "bogus", ["adam", "lbfgs"]))
    unknown optimizer 'bogus'; Known: adam, lbfgs
    """
    known = list(known)
    lower = {name.lower(): name for name in known}
    wanted = str(given).lower()
    near = [lower[name] for name in get_close_matches(wanted, lower, n=2, cutoff=0.65)]
    if SYNONYMS.get(wanted) in known:
        near = [SYNONYMS[wanted]]
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


def number(name: str, value: object, expected: str, fits: Callable[[float], bool]) -> float:
    """Return value as a float, or raise an InputError that names it and says what was expected.

    Examples
    --------
    >>> number("decay", 0.9, "between 0 and 1", lambda x: 0 < x < 1)
    0.9
    """
    if not isinstance(value, Real) or isinstance(value, bool) or not fits(float(value)):
        raise InputError(f"{name} must be {expected}, not {value!r}")
    return float(value)
