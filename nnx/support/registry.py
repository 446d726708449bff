"""Frozen dataclasses of numbers with a name, such as optimizers and schedules: checking, describing and making them.

A description has JSON values, and `make` makes the object again from it.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import partial
from inspect import signature
from typing import Any, TypeVar

from nnx.errors import InputError, integer, number, shown, unknown
from nnx.support.members import Number, each

T = TypeVar("T")

STEPS = 2**31 - 1
"""The most steps, and the largest integer of a schedule or an optimizer: steps are counted in int32."""


def numbers(x: Any, *zero: str, skip: str = "", members: bool = False, **highest: float) -> None:
    """Make every field of x an int or a float, as it is declared, or raise.

    All must be greater than 0 and less than `highest`; those named in `zero` may also be 0. The learning rate, and with
    `members` every float, may be a sequence (`nnx.support.members`).

    Raises
    ------
    InputError
        It names the field, its value, and the expected range.
    """
    for field in fields(x):
        name, value = field.name, getattr(x, field.name)
        if name == skip:
            continue
        high = highest.get(name, math.inf)
        found: Number
        if field.type is int:
            expected = "an integer >= 0" if name in zero else "a positive integer"
            found = integer(name, value, 0 if name in zero else 1, STEPS, expected)
        else:
            check = partial(
                number, expected=_expected(name in zero, high), fits=partial(_fits, name in zero, high)
            )
            found = each(name, value, check) if members or name == "learning_rate" else check(name, value)
        object.__setattr__(x, name, found)


def _fits(zero: bool, high: float, x: float) -> bool:
    return 0 < x < high or (zero and x == 0)


def _expected(zero: bool, high: float) -> str:
    if high == math.inf:
        return "at least 0 and finite" if zero else "greater than 0 and finite"
    return f"at least 0 and less than {high:g}" if zero else f"between 0 and {high:g}"


def make(kind: str, known: Mapping[str, Callable[..., T]], name: Any, arguments: Mapping[str, Any]) -> T:
    """Return the object that `known[name]` makes from these arguments.

    Raises
    ------
    InputError
        For an unknown name (with the nearest known ones), or unknown arguments.
    """
    if not isinstance(name, str) or name not in known:
        raise unknown(kind, name, known)
    check_taken(f"{kind} {name!r}", known[name], arguments)
    return known[name](**arguments)


def check_taken(
    called: str, function: Callable[..., Any], arguments: Mapping[str, Any], words: str = "it takes"
) -> None:
    """Raise an InputError unless a function, or a class, takes arguments of these names."""
    taken = signature(function)
    try:
        taken.bind(**arguments)
    except TypeError as error:
        raise InputError(f"{called}: {error}; {words} {', '.join(taken.parameters)}") from None


def describe(kind: str, known: Mapping[str, Callable[..., Any]], where: str, x: Any) -> dict[str, Any]:
    """Return {"name": ..., and every field}, from which `make` makes x again.

    Raises
    ------
    InputError
        When the class of x is not among those `known`, which are found at `where`.
    """
    for name, made in known.items():
        if type(x) is made:
            return {"name": name, **{field.name: getattr(x, field.name) for field in fields(x)}}
    raise InputError(
        f"a model file cannot name the {kind} {shown(x)}; add its class to {where} under a name, "
        "here and where the file is loaded"
    )
