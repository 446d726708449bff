"""The layers: each is data plus a pure forward and a pure backward (the block diagram of the notes).

The forward block of layer l computes A[l] from A[l-1], and saves the arrays that the backward block needs. The backward
block computes dA[l-1], dW[l] and db[l] from dA[l]. All derivatives are those of the cost J itself. So the
notes' factor 1/m is in dZ[L] once (`nnx.model.network`), and in no formula here.

This file has the base class of all layers, and runs layers one after the other.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial
from typing import Any, ClassVar, TypeAlias

from nnx.array import random
from nnx.array.namespace import Array
from nnx.errors import InputError, number, shown, unknown
from nnx.model.initializers import Rng, zeros
from nnx.support.members import each
from nnx.support.registry import make

Params: TypeAlias = dict[str, Array]
"""A layer's parameters, or their derivatives, by their names ("W", "b")."""


@dataclass(frozen=True)
class Context:
    """The arguments of a forward beside its parameters and its input.

    Attributes
    ----------
    training : bool
        Whether this is a step of the training, and not inference.
    key : array (..., 2) int32, or None
        The key of the random numbers of this layer in this step (`nnx.array.random`). None: layers such as Dropout
        pass their input on.
    start : int or 0-d array
        The place of the first sample in its batch: above 0 in all micro-batches but the first.
    """

    training: bool = False
    key: Array | None = None
    start: Array | int = 0

    def of(self, l: int) -> "Context":
        """Return the context of layer l among several, with a key of its own."""
        return self if self.key is None else replace(self, key=random.fold(self.key, l))


class Layer:
    """A layer. A layer of your own overrides `forward` and `backward`, and others where it differs.

    Attributes
    ----------
    decayed : tuple of str
        The parameters that weight decay, L1, L2 and max-norm act on, unless `Regularization.decayed` names others.
    statistics : tuple of str
        The parameters that are not learned: `observe` sets them, and their derivative is zero.
    fixed : tuple of str
        The parameters that are not learned, and stay as they are; `backward` leaves out their derivatives.
    whole_batches : bool
        Whether a sample's output depends on the others in its batch. Then the batch cannot be cut into micro-batches.
    random : bool
        Whether `forward` uses the context's key.
    layers : tuple of Layer
        The layers inside, if any: then params, kept and derivatives are lists, one entry a layer.
    """

    decayed: ClassVar[tuple[str, ...]] = ("W",)
    statistics: ClassVar[tuple[str, ...]] = ()
    fixed: ClassVar[tuple[str, ...]] = ()
    whole_batches: ClassVar[bool] = False
    random: ClassVar[bool] = False
    layers: "tuple[Layer, ...]" = ()

    def units(self, n_prev: int) -> int:
        """Return n[l], given n[l-1]; here the same."""
        return n_prev

    def shapes(self, n_prev: int) -> dict[str, tuple[int, ...]]:
        """Return the name and shape (two axes) of every parameter, in the order in which theta holds them."""
        return {}

    def draw(self, rng: Rng, n_prev: int, scheme: str | None = None) -> Params:
        """Return the first parameters, on the host; an initializer's name as scheme replaces the layer's."""
        return {name: zeros(rng, *shape) for name, shape in self.shapes(n_prev).items()}

    def forward(self, params: Any, A_prev: Array, context: Context) -> tuple[Array, Any]:
        """Return A[l] (..., n[l], m) from A[l-1] (..., n[l-1], m), and the arrays that `backward` needs."""
        raise NotImplementedError(f"the layer {type(self).__name__} has no forward")

    def backward(self, params: Any, kept: Any, dA: Array, need_dA_prev: bool) -> tuple[Array | None, Any]:
        """Return dA[l-1] (None if it is not needed, as in the first layer) and the parameters' derivatives."""
        raise NotImplementedError(f"the layer {type(self).__name__} has no backward")

    def observe(self, params: Any, kept: Any) -> Any:
        """Return the next `statistics`, from the arrays that a forward in training saved."""
        return {}

    def describe(self) -> dict[str, Any]:
        """Return the keyword arguments that make this layer again, of types that JSON has."""
        if not is_dataclass(self):
            return {}
        return {field.name: getattr(self, field.name) for field in fields(self) if field.init}


def forward(layers: Sequence[Layer], params: Any, A: Array, context: Context) -> tuple[Array, list[Any]]:
    """Return the last A of layers one after the other, and the arrays that each saves for backward."""
    kept = []
    for l, (layer, p) in enumerate(zip(layers, params, strict=True)):
        both = layer.forward(p, A, context.of(l))
        if not isinstance(both, tuple) or len(both) != 2:
            name, given = type(layer).__name__, type(both).__name__
            raise InputError(f"{name}.forward must return A and what backward needs; it returned {given}")
        A = both[0]
        kept.append(both[1])
    return A, kept


def backward(
    layers: Sequence[Layer], params: Any, kept: Any, dA: Any, need_dA_prev: bool
) -> tuple[Any, list[Any]]:
    """Return the derivative of the first layer's input, if needed, and those of all parameters."""
    grads: list[Any] = [{} for _ in layers]
    for l in reversed(range(len(layers))):
        # Layers before the first one with parameters need no derivative.
        need = need_dA_prev or any(any(p) for p in params[:l])
        dA, grads[l] = layers[l].backward(params[l], kept[l], dA, need)
        _check(layers[l], params[l], grads[l])
        if not need:
            break
    return dA, grads


def check_number(
    layer: Layer, name: str, low: float, high: float = math.inf, below: bool = True, members: bool = False
) -> None:
    """Make a field a float in [low, high), or in (low, high] unless `below`; or raise.

    With `members` it may be a sequence: see `nnx.support.members`.
    """
    span = f"in [{low:g}, {high:g})" if below else f"in ({low:g}, {high:g}]"
    span = "finite" if (low, high) == (-math.inf, math.inf) else span

    def fits(x: float) -> bool:
        return (low <= x < high if below else low < x <= high) and math.isfinite(x)

    called, value = f"{type(layer).__name__}'s {name}", getattr(layer, name)
    check = partial(number, expected=span, fits=fits)
    object.__setattr__(layer, name, each(called, value, check) if members else check(called, value))


def _check(layer: Layer, params: Any, grads: Any) -> None:
    """Raise an InputError if the derivatives of a layer are not those of its parameters."""
    if layer.layers:
        return
    for name, p in params.items():
        if name not in grads:
            if name in layer.statistics + layer.fixed:
                continue
            raise InputError(
                f"{type(layer).__name__}.backward returns no derivative of its parameter {name!r}"
            )
        expected, given = tuple(p.shape[-2:]), tuple(grads[name].shape[-2:])
        if expected != given:
            what = f"{type(layer).__name__}.backward returns a derivative of {name!r}"
            raise InputError(f"{what} of shape {given}; expected {expected}")


LAYERS: dict[str, Callable[..., Layer]] = {}
"""Every layer that a model file may name."""


def register(kind: type[Layer]) -> type[Layer]:
    """Make a layer of your own known by its class's name to `nnx.Trainer.load`; usable as a decorator.

    Model files name their layers and have no code. So register one of your own before you load a model that uses it.

    Raises
    ------
    InputError
        When it is no subclass of `nnx.Layer`, or nnx has a layer of that name itself.
    """
    if not (isinstance(kind, type) and issubclass(kind, Layer)):
        raise InputError(f"expected a subclass of nnx.Layer, not {shown(kind)}")
    known = LAYERS.get(kind.__name__)
    if known is not None and getattr(known, "__module__", "").partition(".")[0] == __name__.partition(".")[0]:
        raise InputError(f"nnx has a layer named {kind.__name__!r} itself; choose another name")
    LAYERS[kind.__name__] = kind
    return kind


def describe(layer: Layer) -> dict[str, Any]:
    """Return {"kind": ..., and its arguments}, of types that JSON has."""
    return {"kind": type(layer).__name__, **layer.describe()}


def from_description(description: dict[str, Any]) -> Layer:
    """Return the layer that `describe` described."""
    arguments = {**description}
    kind = arguments.pop("kind", None)
    if not isinstance(kind, str) or kind not in LAYERS:
        raise unknown("layer", kind, LAYERS, register="register_layer")
    return make("layer", LAYERS, kind, arguments)


def from_any(layer: Any) -> Layer:
    """Return a layer from itself or from its description."""
    if isinstance(layer, dict):
        return from_description(layer)
    if not isinstance(layer, Layer):
        raise InputError(f"expected a layer such as nnx.Dense(16, 'relu'), not {shown(layer)}")
    return layer


def as_text(description: Mapping[str, Any]) -> str:
    """Return a layer as a person writes it, from its description: Dense(20, relu)."""
    arguments = [
        value for name, value in description.items() if name not in ("kind", "edges") and value is not None
    ]
    if "layers" in description:
        arguments = [as_text(layer) for layer in description["layers"]]
    return f"{description['kind']}({', '.join(map(str, arguments))})"


def changed(
    layers: Sequence[Layer], function: Callable[[str, Layer], Layer], before: str = ""
) -> tuple[Layer, ...]:
    """Return layers with function(its place, the layer) for each: "2", or "2.0" of the first one inside layer 2."""
    found = []
    for l, layer in enumerate(layers):
        new, place = function(f"{before}{l}", layer), f"{before}{l}."
        if layer.layers:
            new = copy(layer)
            object.__setattr__(new, "layers", changed(layer.layers, function, place))
        found.append(new)
    return tuple(found)


def every(layers: Sequence[Layer]) -> Iterator[Layer]:
    """Yield every layer, those inside others too."""
    for layer in layers:
        yield layer
        yield from every(layer.layers)
