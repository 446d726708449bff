"""The class of an activation g and its derivative g', and the check of the derivative."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from nnx.array.namespace import Array, array_namespace
from nnx.errors import InputError, flag, shown
from nnx.model import custom

Keep: TypeAlias = Literal["A", "Z", "ZA", ""]


@dataclass(frozen=True, repr=False)
class Activation:
    """An elementwise function g and its derivative.

    Parameters
    ----------
    name : str
        Its name for `activation` and in model files.
    g : callable
        Z -> A, arrays of one shape and dtype, written with the standard's functions.
    dg : callable
        The saved array or arrays (see `keep`) -> g'(Z), of the same shape and dtype.
    keep : {"A", "Z", "ZA", ""}
        The arguments of `dg`: the activations A = g(Z), the pre-activations Z, or both: dg(Z, A). "": none, since
        g' is 1.
    init : str
        The initializer (`nnx.model.initializers`) for the weights of a layer that uses it.
    check : bool
        Whether `dg` is compared with differences of g, once, when the activation is first used or registered. False
        for a derivative that differs from g' on purpose, such as a straight-through estimator.

    Examples
    --------
    >>> import numpy as np
    >>> square = Activation("square", g=lambda Z: Z * Z, dg=lambda Z: 2 * Z, keep="Z")
    >>> square.g(np.array([3.0])), square.dg(np.array([3.0]))
    (array([9.]), array([6.]))
    """

    name: str
    g: Callable[[Array], Array]
    dg: Callable[..., Array]
    keep: Keep = "A"
    init: str = "glorot"
    check: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.keep, str) or self.keep not in ("A", "Z", "ZA", ""):
            raise InputError(
                f"keep, what dg takes, must be 'A', 'Z' or 'ZA', or '' where g' is 1; given {shown(self.keep)}"
            )
        for name, what in (("name", self.name), ("init", self.init)):
            if not isinstance(what, str) or not what:
                raise InputError(f"{name} must be a name, not {shown(what)}")
        for name, function in (("g", self.g), ("dg", self.dg)):
            if not callable(function):
                raise InputError(f"{name} must be a function of arrays, not {shown(function)}")
        object.__setattr__(self, "check", flag("check", self.check))

    def __repr__(self) -> str:
        return f"Activation({self.name!r})"

    def backward(self, dA: Array, kept: tuple[Array, ...]) -> Array:
        """Return dZ = dA * g'(Z), from the arrays that `kept` returned; dA itself if g' is 1."""
        return dA * self.dg(*kept) if kept else dA

    def kept(self, Z: Array, A: Array) -> tuple[Array, ...]:
        """Return the arguments of `dg` among Z and A = g(Z)."""
        return tuple({"Z": Z, "A": A}[name] for name in self.keep)

    def check_derivative(self) -> None:
        """Raise an InputError if `dg` of the arguments that `keep` chooses is not the derivative of g."""
        what = f"the activation {self.name!r}:"
        Z = custom.neighbours(custom.spread(-10, 10))[None, :]
        Z32 = custom.single(Z)
        with custom.quiet():
            custom.check_portable(f"{what} g", self.g, Z32)
            for x in (Z, Z32):
                custom.check_array(f"{what} g", self.g(x), x, (x.shape,))
            slope = custom.slope(self.g, Z)
            told = self._wrong(Z, slope)
            if told is None:
                if kept := self.kept(Z32, self.g(Z32)):
                    custom.check_portable(f"{what} dg", self.dg, *kept)
                custom.check_array(f"{what} dg", self._slope(Z32), Z32, (Z.shape,))
                return
            fits = next((keep for keep in KEEPS if replace(self, keep=keep)._wrong(Z, slope) is None), None)
        if self.keep:
            told += f". keep={self.keep!r} gives dg {KEEPS[self.keep]}"
        told += (
            f"; keep={fits!r} would be right: {KEEPS[fits]}" if fits is not None else "; correct dg or keep"
        )
        raise InputError(f"{what} {told}. check=False takes it as it is")

    def _slope(self, Z: Array) -> Array:
        """Return g'(Z) as backward computes it."""
        return self.backward(array_namespace(Z).ones_like(Z), self.kept(Z, self.g(Z)))

    def _wrong(self, Z: Array, slope: Array) -> str | None:
        """Return the fault of the derivative at Z (1, m), or None."""
        try:
            found = self._slope(Z)
        except Exception as error:  # such as another number of arguments
            return f"dg raises {type(error).__name__}: {error}"
        if found.shape != Z.shape:
            return f"dg returns an array of shape {found.shape} for one of shape {Z.shape}"
        at = custom.wrong(found[0, :], slope[0, :], Z[0, :])
        if at is None:
            return None
        says = f"dg gives {found[0, at]:.6g}" if self.keep else "keep='' says that g' is 1"
        return f"{says} at z = {Z[0, at]:.6g}, where g changes by {slope[0, at]:.6g} (central differences)"


KEEPS: dict[Keep, str] = {
    "A": "the activations A = g(Z)",
    "Z": "the pre-activations Z",
    "ZA": "both, dg(Z, A)",
    "": "nothing, since g' is 1",
}
"""The arguments of `dg`, in words."""
