"""The layers: each is data plus a pure forward and a pure backward (the block diagram of the notes).

The forward block of layer l takes A[l-1] and gives A[l], keeping what the backward block needs; the backward
block takes dA[l] and gives dA[l-1], dW[l] and db[l]. All derivatives are those of the cost J itself, so the
notes' factor 1/m, which J has, is in dZ[L] once and for all (`nnx.network`) and in no formula here.

Here is what every layer has, and `Dense`; the others are in `nnx.more_layers`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, ClassVar, TypeAlias

from nnx import randomness
from nnx.activations import Activation, activation
from nnx.arrays import Array, array_namespace
from nnx.errors import InputError, positive_int, unknown
from nnx.initializers import Rng, initializer, zeros

Params: TypeAlias = dict[str, Array]
"""A layer's parameters, or their derivatives, by their names ("W", "b")."""


@dataclass(frozen=True)
class Context:
    """What a forward knows beside its parameters and its input.

    Attributes
    ----------
    training : bool
        Whether this is a step of the training; else the network is used as it is.
    key : array (2,) int32, or None
        What the random numbers of this layer in this step come from (`nnx.randomness`). None: none are wanted,
        and what is random passes its input on.
    start : int or 0-d array
        The place of the first sample in its batch: not 0 in the later ones of its micro-batches.
    """

    training: bool = False
    key: Array | None = None
    start: Array | int = 0

    def of(self, l: int) -> "Context":
        """Return the context of layer l among several, with a key of its own."""
        return self if self.key is None else replace(self, key=randomness.fold(self.key, l))


class Layer:
    """What a network asks of a layer. A layer of your own says what differs; `forward` and `backward` must.

    Attributes
    ----------
    decayed : tuple of str
        The parameters that weight decay, L1, L2 and max-norm act on, unless told otherwise.
    statistics : tuple of str
        The parameters that are not learned, but set by `observe`: their derivative is zero.
    whole_batches : bool
        Whether a sample's output depends on the others in its batch, which no micro-batch may then cut.
    random : bool
        Whether `forward` uses the context's key.
    layers : tuple of Layer
        The layers inside, if any: then params, kept and derivatives are lists, one entry a layer.
    """

    decayed: ClassVar[tuple[str, ...]] = ("W",)
    statistics: ClassVar[tuple[str, ...]] = ()
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
        """Return A[l] (..., n[l], m) from A[l-1] (..., n[l-1], m), and what `backward` needs."""
        raise NotImplementedError

    def backward(self, params: Any, kept: Any, dA: Array, need_dA_prev: bool) -> tuple[Array | None, Any]:
        """Return dA[l-1] (None unless needed: the first layer's is not) and the parameters' derivatives."""
        raise NotImplementedError

    def observe(self, params: Any, kept: Any) -> Any:
        """Return the next `statistics`, from what a forward in training kept."""
        return {}

    def describe(self) -> dict[str, Any]:
        """Return the keyword arguments that make this layer again, of types that JSON has."""
        return {field.name: getattr(self, field.name) for field in fields(self)} if is_dataclass(self) else {}


def forward(layers: Sequence[Layer], params: Any, A: Array, context: Context) -> tuple[Array, list[Any]]:
    """Return the last A of layers one after the other, and what each keeps."""
    kept = []
    for l, (layer, p) in enumerate(zip(layers, params, strict=True)):
        A, keep = layer.forward(p, A, context.of(l))
        kept.append(keep)
    return A, kept


def backward(
    layers: Sequence[Layer], params: Any, kept: Any, dA: Any, need_dA_prev: bool
) -> tuple[Any, list[Any]]:
    """Return the derivative of the first layer's input, if needed, and those of all parameters."""
    grads: list[Any] = [{} for _ in layers]
    for l in reversed(range(len(layers))):
        # Nothing before the first parameters needs the derivative of its output.
        need = need_dA_prev or any(any(p) for p in params[:l])
        dA, grads[l] = layers[l].backward(params[l], kept[l], dA, need)
        if not need:
            break
    return dA, grads


@dataclass(frozen=True)
class Dense(Layer):
    """A fully connected layer: Z[l] = W[l] A[l-1] + b[l], A[l] = g[l](Z[l]).

    Parameters
    ----------
    n : int
        n[l], the units of the layer.
    activation : str or Activation
        g[l]: a name among `nnx.ACTIVATIONS`, such as "relu" or "leaky_relu(0.1)", or one of your own.
    init : str or None
        The initializer of W[l] (`nnx.initializers`); None is the one that suits the activation
        (he for the ReLUs and their like, lecun for selu, else glorot). b[l] starts at zero.

    Raises
    ------
    InputError
        When n is not a positive integer, or a name is not known.

    Examples
    --------
    >>> Dense(20, "relu").shapes(12288)
    {'W': (20, 12288), 'b': (20, 1)}
    """

    n: int
    activation: str | Activation = "identity"
    init: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "n", positive_int("n, the units of a Dense layer,", self.n))
        object.__setattr__(self, "activation", activation(self.activation))
        initializer(self.init or self.g.init)

    @property
    def g(self) -> Activation:
        """The activation g[l]."""
        assert isinstance(self.activation, Activation)  # since __post_init__
        return self.activation

    def units(self, n_prev: int) -> int:
        """Return n[l]."""
        return self.n

    def shapes(self, n_prev: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of W[l], (n[l], n[l-1]), and b[l], (n[l], 1)."""
        return {"W": (self.n, n_prev), "b": (self.n, 1)}

    def draw(self, rng: Rng, n_prev: int, scheme: str | None = None) -> Params:
        """Return the first W[l], drawn by scheme, else the layer's initializer, and b[l] = 0."""
        W = initializer(scheme or self.init or self.g.init)(rng, self.n, n_prev)
        return {"W": W, "b": zeros(rng, self.n, 1)}

    def forward(self, params: Params, A_prev: Array, context: Context) -> tuple[Array, Any]:
        """Return A[l] (..., n[l], m) from A[l-1] (..., n[l-1], m)."""
        Z = params["W"] @ A_prev + params["b"]  # Z[l] = W[l] A[l-1] + b[l]
        A = self.g.g(Z)  # A[l] = g[l](Z[l])
        return A, (A_prev, *self.g.kept(Z, A))

    def backward(
        self, params: Params, kept: Any, dA: Array, need_dA_prev: bool
    ) -> tuple[Array | None, Params]:
        """Return dA[l-1] and {"W": dW[l], "b": db[l]} from dA[l]."""
        xp = array_namespace(dA)
        A_prev, *Z_or_A = kept
        dZ = dA * self.g.dg(*Z_or_A)  # dZ[l] = dA[l] * g[l]'(Z[l])
        dW = dZ @ xp.matrix_transpose(A_prev)  # dW[l] = dZ[l] A[l-1]^T    (dZ has the 1/m)
        db = xp.sum(dZ, axis=-1, keepdims=True)  # db[l] = sum of dZ[l] over the samples
        dA_prev = xp.matrix_transpose(params["W"]) @ dZ if need_dA_prev else None  # dA[l-1] = W[l]^T dZ[l]
        return dA_prev, {"W": dW, "b": db}

    def describe(self) -> dict[str, Any]:
        """Return the arguments that make this layer again."""
        return {"n": self.n, "activation": self.g.name, "init": self.init}


LAYERS: dict[str, Callable[..., Layer]] = {"Dense": Dense}
"""Every layer that a model file may name."""


def register(kind: type[Layer]) -> type[Layer]:
    """Make a layer of your own known by its class's name to `nnx.Trainer.load`; usable as a decorator.

    Model files name their layers and hold no code, so one of your own must be registered before a model that
    uses it is loaded.

    Raises
    ------
    InputError
        When it is no subclass of `nnx.Layer`, or nnx has a layer of that name itself.
    """
    if not (isinstance(kind, type) and issubclass(kind, Layer)):
        raise InputError(f"expected a subclass of nnx.Layer, not {kind!r}")
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
    kind = arguments.pop("kind")
    if kind not in LAYERS:
        message = str(unknown("layer", kind, LAYERS))
        raise InputError(f"{message}. One of your own must be registered first: nnx.register_layer")
    return LAYERS[kind](**arguments)
