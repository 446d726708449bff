"""All parameters of a network in one flat vector theta, and each layer's parameters as views of it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from nnx.array.namespace import Array, array_namespace
from nnx.errors import InputError
from nnx.model.layers import Layer
from nnx.support.tree import leaves


@dataclass(frozen=True)
class Slot:
    """A parameter's place in theta: its name in the network, its shape and slice, and its kind."""

    name: str
    shape: tuple[int, ...]
    place: slice
    decays: bool
    is_statistic: bool
    is_fixed: bool


Tree = Any
"""The entries of each layer: a dict by the parameters' names in the layer, or a list for a layer with layers inside."""


def map_leaves(tree: Tree, function: Callable[..., Any], *others: Tree) -> Tree:
    """Return the tree of function(leaf, the others' leaves); a leaf that another lacks is None there."""
    if isinstance(tree, dict):
        return {key: function(leaf, *(other.get(key) for other in others)) for key, leaf in tree.items()}
    return [
        map_leaves(branch, function, *(other[i] if i < len(other) else {} for other in others))
        for i, branch in enumerate(tree)
    ]


def _paths(tree: Tree) -> Iterator[tuple[Any, ...]]:
    """Yield where each leaf is, in order: tree[path[0]][path[1]]..."""
    for key, branch in tree.items() if isinstance(tree, dict) else enumerate(tree):
        if isinstance(branch, dict | list):
            yield from ((key, *rest) for rest in _paths(branch))
        else:
            yield (key,)


def _at(tree: Tree, path: tuple[Any, ...]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


class ParameterLayout:
    """The place of every parameter in theta: layer by layer, W, b and the others in the layer's order.

    Parameters
    ----------
    layers : sequence of Layer
    n_features : int
        n[0].

    Attributes
    ----------
    n : tuple of int
        n[0], ..., n[L], for the layers that have weights W.
    P : int
        theta's length.
    widest : int
        The most units of any layer, including the input.
    slots : list of Slot
        One a parameter, in theta's order.
    """

    def __init__(self, layers: Sequence[Layer], n_features: int) -> None:
        self.n: tuple[int, ...] = (n_features,)
        self.P = 0
        self.widest = n_features
        self._tree: Tree = self._plan(layers, n_features, set())
        self._order = list(_paths(self._tree))
        self.slots: list[Slot] = list(leaves(self._tree))

    def _plan(self, layers: Sequence[Layer], n_prev: int, names: set[str]) -> list[Tree]:
        """Return the slots of layers one after the other."""
        plan: list[Tree] = []
        for layer in layers:
            n, shapes = layer.units(n_prev), layer.shapes(n_prev)
            self.widest = max(self.widest, n)
            if layer.layers:
                plan.append(self._plan(layer.layers, n_prev, names))
            else:
                if "W" in shapes:
                    self.n += (n,)
                slots = {}
                for key, shape in shapes.items():
                    name, again = f"{key}{len(self.n) - 1}", 2
                    while name in names:
                        name, again = f"{key}{len(self.n) - 1}_{again}", again + 1
                    names.add(name)
                    place = slice(self.P, self.P + prod(shape))
                    slots[key] = Slot(
                        name, shape, place, key in layer.decayed, key in layer.statistics, key in layer.fixed
                    )
                    self.P = place.stop
                plan.append(slots)
            n_prev = n
        return plan

    def views(self, theta: Array) -> Tree:
        """Return each layer's parameters as views of theta (..., P): slice, then reshape."""
        xp = array_namespace(theta)
        lead = tuple(theta.shape[:-1])
        return map_leaves(self._tree, lambda slot: xp.reshape(theta[..., slot.place], lead + slot.shape))

    def join(self, tree: Tree) -> Array:
        """Return each layer's parameters, or their derivatives, as one vector (..., P)."""
        arrays = [_at(tree, path) for path in self._order]
        xp = array_namespace(*arrays)
        return xp.concat([xp.reshape(a, (*a.shape[:-2], -1)) for a in arrays], axis=-1)

    def join_named(self, params: Mapping[str, Array]) -> Array:
        """Return the parameters by name as one vector (..., P)."""
        return self.join(map_leaves(self._tree, lambda slot: params[slot.name]))

    def statistics(self, observed: Sequence[Any]) -> dict[str, Array]:
        """Return by name the next running statistics, from what each layer's `observe` returned."""
        found = leaves(map_leaves(self._tree, lambda _, x: x, observed))
        return {slot.name: x for slot, x in zip(self.slots, found, strict=True) if slot.is_statistic}


def draw(layers: Sequence[Layer], rng: Any, n_prev: int, scheme: str | None) -> list[Tree]:
    """Return the first parameters of layers one after the other.

    Raises
    ------
    InputError
        When a layer draws other shapes than its own.
    """
    drawn: list[Tree] = []
    for layer in layers:
        inside = layer.layers
        if inside:
            drawn.append(draw(inside, rng, n_prev, scheme))
        else:
            params = layer.draw(rng, n_prev, scheme)
            given = {name: tuple(p.shape) for name, p in params.items()}
            if given != layer.shapes(n_prev):
                raise InputError(
                    f"{type(layer).__name__}.draw returns {given}; expected what its shapes are, {layer.shapes(n_prev)}"
                )
            drawn.append(params)
        n_prev = layer.units(n_prev)
    return drawn
