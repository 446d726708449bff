"""The layers' numbers of a stack of networks that are trained at once, such as the rates of dropout."""

from collections.abc import Sequence
from typing import Any

from nnx.array import members
from nnx.array.namespace import Array
from nnx.errors import InputError, shown
from nnx.model.layers import Layer, changed, every
from nnx.model.network import Network
from nnx.support import members as support
from nnx.support.members import member, sizes, varied


def layer_sizes(network: Network) -> dict[str, int]:
    """Return for each number of a layer that differs among members, by its name, how many there are."""
    found: dict[str, int] = {}
    for layer in every(network.layers):
        found |= sizes(layer)
    return found


def numbers(network: Network, theta: Array) -> dict[str, Array]:
    """Return the layers' numbers that differ among members, by their names in the state: see `nnx.array.members`."""
    found: dict[str, Array] = {}

    def look(place: str, layer: Layer) -> Layer:
        found.update(members.numbers(layer, f"layers.{place}", theta))
        return layer

    changed(network.layers, look)
    return found


def bound(network: Network, state: dict[str, Array]) -> Network:
    """Return the network with arrays of the state in place of its layers' numbers that differ among members."""
    if not any(map(varied, every(network.layers))):
        return network
    return _with_layers(
        network, lambda place, layer: members.bound(layer, state, f"layers.{place}", matrices=True)
    )


def member_of(network: Network, k: int) -> Network:
    """Return the network of member k, from 0."""
    if not any(map(varied, every(network.layers))):
        return network
    return _with_layers(network, lambda _, layer: member(layer, k))


def together(networks: Sequence[Network]) -> Network:
    """Return the networks of members as one: a number of a layer in which they differ is one for each member.

    Raises
    ------
    InputError
        When they differ in more than numbers.
    """
    first = networks[0]
    others = [network for network in networks if network is not first]
    if not others or all(
        network.describe() == first.describe() and network.output == first.output for network in others
    ):
        return first
    for other in others:
        if place := difference(_form(first.describe()), _form(other.describe())) or "output" * (
            first.output != other.output
        ):
            raise InputError(
                f"the networks of a stack must have one architecture; two of them differ in {place}: {first!r} and "
                f"{other!r}"
            )
    each = [iter(list(every(network.layers))) for network in networks]

    def joined(place: str, layer: Layer) -> Layer:
        same = [next(layers) for layers in each]
        return layer if layer.layers else support.together(f"network's layers.{place}", same)

    return _with_layers(first, joined)


def _form(description: Any) -> Any:
    """Return a description without the edges of bins, which are in each member's theta."""
    if isinstance(description, dict):
        return {key: _form(value) for key, value in description.items() if key != "edges"}
    return [_form(value) for value in description] if isinstance(description, list) else description


def difference(x: Any, y: Any, place: str = "") -> str:
    """Return the first place in which two descriptions differ in more than a number; "" if there is none.

    Examples
    --------
    >>> difference({"layers": [{"n": 3}, {"rate": 0.1}]}, {"layers": [{"n": 4}, {"rate": 0.2}]})
    'layers.0.n, 3 and 4'
    """
    if isinstance(x, dict | list) and type(x) is type(y):
        if len(x) != len(y):
            return f"the number of {place}, {len(x)} and {len(y)}"
        pairs = x.items() if isinstance(x, dict) else enumerate(x)
        inside = (
            difference(value, y[key] if isinstance(y, list) else y.get(key), f"{place}.{key}".lstrip("."))
            for key, value in pairs
        )
        return next(filter(None, inside), "")
    is_number = isinstance(x, float) and isinstance(y, float)
    return "" if x == y or is_number else f"{place}, {shown(x)} and {shown(y)}"


def _with_layers(network: Network, function: Any) -> Network:
    other = object.__new__(Network)
    vars(other).update(vars(network))
    other.layers = changed(network.layers, function)
    return other
