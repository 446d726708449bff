"""The layers' numbers of a stack of networks that are trained at once, such as the rates of dropout."""

from typing import Any

from nnx.array import members
from nnx.array.namespace import Array
from nnx.model.layers import Layer, changed, every
from nnx.model.network import Network
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


def _with_layers(network: Network, function: Any) -> Network:
    other = object.__new__(Network)
    vars(other).update(vars(network))
    other.layers = changed(network.layers, function)
    return other
