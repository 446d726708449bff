"""Numbers of a stack of networks: where one network has a number, each of the K members may have its own.

A stack is K networks of one architecture that are trained at once. ``nnx.Adam([0.01, 0.003])`` has a learning rate for
each of two members; a number that is not a sequence is that of all.
"""

from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeAlias, TypeVar

from nnx.errors import InputError, items, shown
from nnx.errors.texts import shape_of

Number: TypeAlias = float | Any
"""A number, or, of a stack, a `PerMember`; within a step an array of the members' numbers."""

T = TypeVar("T")
F = TypeVar("F", bound=Any)


class PerMember(tuple[Any, ...]):
    """A number for each member of a stack."""


def each(name: str, value: object, check: Callable[[str, Any], Any]) -> Any:
    """Return check(name, value), or a `PerMember` of it for each number of a list, a tuple or an array of one axis.

    Examples
    --------
    >>> each("rate", [1, 2], lambda name, x: float(x))
    (1.0, 2.0)
    """
    if not isinstance(value, list | tuple) and len(shape_of(value)) != 1:
        return check(name, value)
    found = items(name, value, "a number, or a sequence with one for each member")
    if not found:
        raise InputError(f"{name} is an empty sequence; expected a number for each member")
    return PerMember(check(f"{name}[{k}]", x) for k, x in enumerate(found))


def for_each_member(function: F) -> F:
    """Mark a function of (theta, ...): of theta (K, P) it returns an array of each member's results, K or 1 of them.

    So a backend may compute them as those of K functions of theta (P,), on the same other arguments.
    """
    function.for_each_member = True
    return function


def varied(x: Any) -> dict[str, PerMember]:
    """Return the attributes of an object, such as an optimizer, that have a number for each member."""
    found = getattr(x, "__dict__", {})
    return {name: value for name, value in found.items() if type(value) is PerMember}


def member(x: T, k: int) -> T:
    """Return a dataclass with the numbers of member k, from 0, in place of those of all.

    Examples
    --------
    >>> import nnx
    >>> member(nnx.GradientDescent([0.1, 0.2]), 1)
    GradientDescent(learning_rate=0.2)
    """
    if not is_dataclass(x):
        return x
    found = {}
    for field in fields(x):
        value = getattr(x, field.name)
        if not field.init:
            continue
        if isinstance(value, PerMember):
            found[field.name] = value[k]
        elif varied(value):  # a schedule
            found[field.name] = member(value, k)
    return replace(x, **found) if found else x  # type: ignore[type-var]


def together(called: str, xs: Sequence[T]) -> T:
    """Return dataclasses of one class, those of K members, as one: a field in which they differ is a `PerMember`.

    Raises
    ------
    InputError
        When they differ in more than numbers.

    Examples
    --------
    >>> import nnx
    >>> together("optimizer", [nnx.Momentum(0.1), nnx.Momentum(0.2)])
    Momentum(learning_rate=(0.1, 0.2), momentum=0.9)
    """
    first = xs[0]
    if all(x is first or x == first for x in xs):
        return first
    if not is_dataclass(first) or any(type(x) is not type(first) for x in xs):
        raise InputError(
            f"members of a stack may differ in numbers, and in nothing else of the {called}: {_two(xs)}"
        )
    found: dict[str, Any] = {}
    for field in fields(first):
        values = [getattr(x, field.name) for x in xs]
        if not field.init or all(value == values[0] for value in values):
            continue
        if all(isinstance(value, float | None) for value in values):
            found[field.name] = _checked(first, called, field.name, values)
        else:
            found[field.name] = together(f"{called}'s {field.name}", values)
    return replace(first, **found)  # type: ignore[type-var]


def _checked(x: Any, called: str, name: str, values: list[Any]) -> list[Any]:
    """Return the values of a field in which members differ; an InputError if the field takes one number alone."""
    try:
        if isinstance(getattr(replace(x, **{name: values}), name), PerMember):
            return values
    except InputError:
        pass
    raise InputError(f"members of a stack cannot differ in the {called}'s {name}: {_two(values)}")


def _two(xs: Sequence[Any]) -> str:
    """Return the first of some objects and the first that is not equal to it."""
    return f"{shown(xs[0])} and {shown(next(x for x in xs if x != xs[0]))}"


def sizes(*xs: Any) -> dict[str, int]:
    """Return for each number of dataclasses that differs among members, by its name, how many there are."""
    found: dict[str, int] = {}
    for x in xs:
        for name, value in varied(x).items():
            kind = getattr(x, "kind", type(x))  # of a schedule in epochs, the schedule's class
            found[f"{kind.__name__}'s {name}"] = len(value)
        if varied(schedule := getattr(x, "learning_rate", None)):
            found |= sizes(schedule)
    return found


def named(which: Sequence[int], K: int) -> str:
    """Return some of K members for people.

    Examples
    --------
    >>> named([1], 3), named([0, 2], 3), named([0, 1, 2], 3)
    ('member 1', '2 of 3 members (0, 2)', 'all 3 members')
    """
    if len(which) == K:
        return f"all {K} members" if K > 1 else "the member"
    numbers = ", ".join(map(str, which[:8])) + (", ..." if len(which) > 8 else "")
    return f"member {numbers}" if len(which) == 1 else f"{len(which)} of {K} members ({numbers})"


def acts(x: Number) -> bool:
    """Whether a number is anything but 0; that of several members counts as such, whatever they are."""
    return not isinstance(x, float | int) or x != 0
