"""A loss of one's own: a function of A[L] (or Z[L]) and Y, and its derivative."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Literal

from nnx.array.namespace import Array, array_namespace
from nnx.errors import InputError, flag, shown
from nnx.model import custom
from nnx.model.outputs.losses import Function

if TYPE_CHECKING:
    from nnx.model.outputs import Output


@dataclass(frozen=True, eq=False, repr=False)
class Loss:
    """A loss of your own, for `nnx.mlp` and `nnx.Network` in place of a loss's name.

    Parameters
    ----------
    name : str
        What a model file says, and a program that has registered it (`nnx.register_loss`).
    loss : callable
        A, Y -> the loss of each output, (n[L], m), which are summed, or of each sample, (m,): arrays of one dtype,
        written with the standard's functions. The cost J is their (weighted) mean over the samples. Class indices
        come as columns of 0 and 1.
    derivative : callable
        A, Y -> ∂loss/∂A, (n[L], m); the part of the output's link is added to it.
    of : {"A", "Z"}
        What both functions take: the predictions A[L], or the pre-activations Z[L] before the link. From Z a loss with
        a logarithm can be computed without infinite numbers.
    check : bool
        Whether the derivative is compared with differences of the loss, once, when a network first uses it.

    Examples
    --------
    >>> import nnx
    >>> cubic = Loss("cubic", lambda A, Y: abs(A - Y) ** 3, lambda A, Y: 3 * (A - Y) * abs(A - Y))
    >>> nnx.mlp([4, 8, 1], output="identity", loss=cubic)
    Network(4, [Dense(8, relu), Dense(1, identity)], output='identity', loss='cubic')
    """

    name: str
    loss: Function
    derivative: Function
    of: Literal["A", "Z"] = "A"
    check: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise InputError(f"name must be a name, not {shown(self.name)}")
        for name, function in (("loss", self.loss), ("derivative", self.derivative)):
            if not callable(function):
                raise InputError(f"{name} must be a function of A and Y, arrays, not {shown(function)}")
        if not isinstance(self.of, str) or self.of not in ("A", "Z"):
            raise InputError(f"of, what the loss is computed from, must be 'A' or 'Z', not {shown(self.of)}")
        object.__setattr__(self, "check", flag("check", self.check))

    def __repr__(self) -> str:
        return f"Loss({self.name!r})"


OWN: dict[str, Loss] = {}
"""Every loss that was registered, by its name."""


@cache  # one loss is one output
def with_own(link: "Output", given: Loss) -> "Output":
    """Return the output with this link and a loss of one's own."""

    def loss(Z: Array, Y: Array) -> Array:
        each = given.loss(Z if given.of == "Z" else link.link(Z), Y)
        return array_namespace(Z).sum(each, axis=-2) if each.ndim == Z.ndim else each

    def derivative(Z: Array, Y: Array) -> Array:
        if given.of == "Z":
            return given.derivative(Z, Y)
        A = link.link(Z)
        return _THROUGH[link.name](A, given.derivative(A, Y))

    return replace(link, spec=given.name, loss_name=given.name, loss=loss, derivative=derivative, own=given)


def _through_softmax(A: Array, dA: Array) -> Array:
    return A * (dA - array_namespace(A).sum(A * dA, axis=-2, keepdims=True))


_THROUGH: dict[str, Callable[[Array, Array], Array]] = {
    "identity": lambda A, dA: dA,
    "sigmoid": lambda A, dA: dA * (A * (1 - A)),
    "softmax": _through_softmax,
    "exp": lambda A, dA: dA * A,
}
"""A, dA -> dZ of each link."""


@cache
def check_own(output: "Output", given: Loss, n: int) -> None:
    """Raise an InputError if a loss of one's own cannot be used with n outputs, or its derivative is wrong."""
    what = f"the loss {given.name!r}:"
    Z, Y = custom.neighbours(custom.draws(n, 16, 3.0)), some_targets(output, n)
    xp = array_namespace(Z)
    A, Y = Z if given.of == "Z" else output.link(Z), xp.concat([Y, Y], axis=-1)
    shapes = A.shape, A.shape[1:]
    with custom.quiet():
        for name, function, expected in (
            ("loss", given.loss, shapes),
            ("derivative", given.derivative, shapes[:1]),
        ):
            custom.check_portable(f"{what} {name}", function, custom.single(A), custom.single(Y))
            for a, y in ((A, Y), (custom.single(A), custom.single(Y))):
                custom.check_array(f"{what} {name}", function(a, y), a, expected)
        if not given.check:
            return
        found = given.derivative(A, Y)

        def each(x: Array) -> Array:
            value = given.loss(x, Y)
            return xp.sum(value, axis=0) if value.ndim == 2 else value

        for k in range(n)[:: n // 8 + 1]:
            row = xp.astype(xp.arange(n) == k, A.dtype)[:, None]
            slope = custom.slope(each, A, custom.STEP * row)
            at = custom.wrong(found[k, :], slope, A[k, :])
            if at is not None:
                place = f"{given.of.lower()} = {A[k, at]:.6g}, y = {Y[k, at]:.6g}"
                place += f" (output {k} of {n})" if n > 1 else ""
                raise InputError(
                    f"{what} derivative gives {found[k, at]:.6g} at {place}, where the loss changes by {slope[at]:.6g} "
                    f"(central differences). It must be ∂loss/∂{given.of} of each output, without the mean over the "
                    "samples, which nnx takes. check=False takes it as it is"
                )


def some_targets(output: "Output", n: int, m: int = 16) -> Array:
    """Return targets (n, m) that an output has, always the same."""
    Y = custom.draws(n, m, 3.0, seed=1)
    xp = array_namespace(Y)
    if output.exclusive:
        return xp.astype(xp.max(Y, axis=0, keepdims=True) == Y, Y.dtype)
    if output.classes:
        return xp.astype(Y > 0, Y.dtype)
    return xp.floor(xp.abs(Y)) if output.lowest == 0 else Y
