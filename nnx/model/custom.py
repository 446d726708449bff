"""Checks of functions that a user wrote: that every backend can run them, and their derivatives."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from nnx.array.namespace import Array
from nnx.compiler import TraceError, trace
from nnx.compiler.ir.operations import NotPortableError
from nnx.compiler.ir.tracer import Tracer
from nnx.errors import InputError, first_line, shown

STEP = 1e-5
"""The step of the central differences: small beside the bends of a function, large beside float64's rounding."""

APART = 0.0123
"""The distance of the two neighbours at which derivatives are compared: a kink can spoil only one of them."""


def name_of(kind: str, function: Callable[..., Any], name: str | None = None) -> str:
    """Return the name that a history or a model file has for a function: its own, unless another is given.

    Raises
    ------
    InputError
        When it is no function, or has no name.
    """
    if name is not None and not (isinstance(name, str) and name):
        raise InputError(f"name must be a name, or None for the function's own, not {shown(name)}")
    found = function_name(kind, function)
    if not name and not has_name(found):
        raise not_named(kind, function)
    return name or found


def function_name(kind: str, function: Callable[..., Any]) -> str:
    """Return the name of a function; in angle brackets where it has none, as Python writes <lambda>.

    Raises
    ------
    InputError
        When it is no function.

    Examples
    --------
    >>> from functools import partial
    >>> (
    ...     function_name("loss", max),
    ...     function_name("loss", lambda A, Y: A),
    ...     function_name("loss", partial(max, 0)),
    ... )
    ('max', '<lambda>', '<partial of max>')
    """
    if not callable(function) or isinstance(function, type):
        raise InputError(f"a {kind} of your own must be a function, not {shown(function)}")
    if isinstance(function, partial):
        return f"<partial of {function_name(kind, function.func)}>"
    found = getattr(function, "__name__", None)
    return found if isinstance(found, str) and found else f"<{type(function).__name__}>"


def has_name(name: str) -> bool:
    """Return whether `function_name` found a name."""
    return not name.startswith("<")


def not_named(kind: str, function: Callable[..., Any]) -> InputError:
    """Return the error for a function that has no name where it needs one."""
    where = "a history" if kind == "metric" else "a model file"
    own = "nnx.Loss('my_loss', function)" if kind == "loss" else "set its __name__"
    return InputError(
        f"the {kind} {shown(function)} has no name, by which {where} would know it; define it with def, or {own}"
    )


def check_portable(what: str, function: Callable[..., Any], *arrays: Array) -> None:
    """Raise an InputError if a function uses more than the standard: some backends could not run it."""
    try:
        trace(function, *arrays)
    except Exception as error:  # of a tracer, which has nothing but the standard
        if isinstance(error, TraceError) and not isinstance(error, NotPortableError):
            return  # a function of the standard that is not traced: the step runs as it is
        of_arrays = isinstance(error, AttributeError) and isinstance(error.obj, Tracer)
        if not (of_arrays or isinstance(error, TraceError)):
            _raise_its_own(what, function, *arrays)
        raise InputError(
            f"{what} cannot run on every backend: {_in_plain_words(error)}. Take xp = nnx.array_namespace(x) of an "
            "argument x, and write xp.where(condition, a, b + 0 * x) for if, xp.maximum(x, a) for max(x, a), xp.exp(x) "
            "for math.exp(x) and np.exp(x), xp.sum(x) for x.sum()"
        ) from error


def _raise_its_own(what: str, function: Callable[..., Any], *arrays: Array) -> None:
    """Raise the error that a function of a user has with NumPy's arrays, if it has one, with a note."""
    try:
        function(*arrays)
    except Exception as error:
        error.add_note(
            f"{what} was called with arrays of NumPy. It must compute with operators and the functions of "
            "nnx.array_namespace(x) alone"
        )
        raise


def _in_plain_words(error: Exception) -> str:
    """Return the message of a traced function's error, without the class of its arguments."""
    if isinstance(error, AttributeError):
        return f"not every library's arrays have .{error.name}"
    said = first_line(error)
    if "does not support ufuncs" in said:
        return "a function of NumPy's on an array"
    return re.sub(r"'?Tracer'?( object)?", "an array", said)


def check_array(what: str, found: Any, x: Array, shapes: tuple[tuple[int, ...], ...], hint: str = "") -> None:
    """Raise an InputError unless a function of x returned an array of x's dtype and one of these shapes."""
    given = getattr(found, "shape", None), getattr(found, "dtype", None)
    if given[0] not in shapes or given[1] != x.dtype:
        expected = " or ".join(map(str, shapes))
        made = f"shape {given[0]} and dtype {given[1]}" if given[1] is not None else shown(found)
        raise InputError(
            f"{what} must return an array of shape {expected} and dtype {x.dtype} for arrays of shape {x.shape} and "
            f"this dtype (xp.astype converts); it returned {made}{hint}"
        )


def quiet() -> np.errstate:
    """Return a context without NumPy's warnings of infinite numbers and NaN."""
    return np.errstate(all="ignore")


def spread(low: float, high: float, m: int = 40) -> Any:
    """Return m numbers (m,) between two, densest in the middle; none is round."""
    x = np.sinh(np.linspace(-2.9987, 2.9871, m)) / 10
    return low + (high - low) * (x + 1) / 2


def draws(n: int, m: int, high: float, seed: int = 0) -> Any:
    """Return numbers (n, m) between -high and high, always the same."""
    return np.random.default_rng(seed).uniform(-high, high, (n, m))


def array(x: Any, dtype: str) -> Any:
    """Return numbers as an array."""
    return np.asarray(x, dtype)


def unit(n: int, i: int) -> Any:
    """Return the unit vector (n,) that is 1 at i."""
    return (np.arange(n) == i).astype("float64")


def place(i: int, shape: tuple[int, ...]) -> list[int]:
    """Return the indices of entry i."""
    return [int(k) for k in np.unravel_index(i, shape)]


def single(x: Any) -> Any:
    """Return x in float32."""
    return x.astype("float32")


def neighbours(x: Any) -> Any:
    """Return (..., 2 m): points (..., m) and, behind them, their neighbours."""
    return np.concatenate([x, x + APART], axis=-1)


def slope(function: Callable[[Any], Any], x: Any, step: Any = STEP) -> Any:
    """Return (f(x + step) - f(x - step)) / (2 STEP); a step of 0 leaves a number as it is."""
    return (function(x + step) - function(x - step)) / (2 * STEP)


def wrong(found: Any, expected: Any, x: Any) -> int | None:
    """Return the place nearest to x = 0 where a derivative (2 m,) and its neighbour's are wrong; None if nowhere.

    Where the expected derivative is infinite or NaN nothing is compared.
    """
    bad = far(found, expected).reshape(2, -1).all(axis=0)
    return int(min(np.flatnonzero(bad), key=lambda at: abs(x[at]))) if bad.any() else None


def far(found: Any, expected: Any) -> Any:
    """Return whether derivatives are wrong, by more than the error of the differences."""
    return np.isfinite(expected) & ~(np.abs(found - expected) <= 1e-4 * np.abs(expected) + 1e-7)
