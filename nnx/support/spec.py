"""Names with a parameter, as people type them: "huber(0.5)", "huber(delta=0.5)", "top_k(3)", "f1(micro)"."""

import re
from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any, TypeAlias

from nnx.errors import InputError, shown, unknown

Parameter: TypeAlias = int | float | str


def split(spec: str) -> tuple[str, Parameter | None]:
    """Return the name and the parameter, a number where it reads as one.

    Examples
    --------
    >>> split("top_k(3)"), split("huber(0.5)"), split("f1(micro)"), split("hinge")
    (('top_k', 3), ('huber', 0.5), ('f1', 'micro'), ('hinge', None))
    """
    match = re.fullmatch(r"(\w+)\(([^()]+)\)", spec.replace(" ", ""))
    if match is None:
        return spec, None
    name, text = match.groups()
    return name, _number(text)


def find(kind: str, spec: object, known: Mapping[str, Any]) -> Any:
    """Return the entry of `known` with the spec's name; a function or class is called with the parameter.

    Raises
    ------
    InputError
        For an unknown name (with the nearest known ones), an unexpected parameter, or an impossible one.
    """
    name, parameter = split(spec) if isinstance(spec, str) else ("", None)
    if name not in known:
        raise unknown(kind, spec, known)
    found = known[name]
    takes = callable(found) and bool(signature(found).parameters)
    if parameter is not None and not takes:
        raise InputError(f"the {kind} {name!r} takes no parameter; given {shown(spec)}")
    if not callable(found):
        return found
    try:
        return found() if parameter is None else found(argument(found, parameter))
    except InputError as error:
        raise InputError(f"the {kind} {shown(spec)}: {error}") from None


def argument(function: Callable[..., Any], parameter: Parameter) -> Parameter:
    """Return the parameter of a spec: of "key=value" the value, if the function's first parameter has this name.

    Raises
    ------
    InputError
        For another name, and for more than one parameter.

    Examples
    --------
    >>> def huber(delta=1.0):
    ...     return delta
    >>> argument(huber, "delta=0.5"), argument(huber, 2)
    (0.5, 2)
    """
    key, equals, text = parameter.partition("=") if isinstance(parameter, str) else ("", "", "")
    if not equals:
        return parameter
    name = next(iter(signature(function).parameters))
    if not key.isidentifier() or "=" in text:
        raise InputError(f"it takes one parameter, {name}")
    if key != name:
        raise InputError(f"its parameter is {name}, not {shown(key)}")
    return _number(text)


def call(spec: str) -> tuple[str, dict[str, Parameter]]:
    """Return the name and the arguments of "name(key=value, ...)", numbers where they read as such.

    Raises
    ------
    InputError
        When the text has another form.

    Examples
    --------
    >>> call("adam(beta2=0.99, epsilon=1e-6)"), call("adam")
    (('adam', {'beta2': 0.99, 'epsilon': 1e-06}), ('adam', {}))
    """
    match = re.fullmatch(r"([\w-]*)(?:\((.*)\))?", spec.strip())
    if match is None:
        raise InputError(f"{spec!r} is no name, nor name(argument=value, ...)")
    name, inside = match[1], match[2] or ""
    arguments: dict[str, Parameter] = {}
    for part in filter(None, map(str.strip, inside.split(","))):
        key, equals, text = map(str.strip, part.partition("="))
        if not (equals and key and text):
            raise InputError(
                f"{spec!r}: the arguments must be named, as in {name}(argument=value); given {part!r}"
            )
        arguments[key] = _number(text)
    return name, arguments


def _number(text: str) -> Parameter:
    """Return the number that a text reads as, else the text."""
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            pass
    return text
