"""The class of an activation g and its derivative g', and the check of one against the other."""

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
        What `activation` finds it by, and what a model file says.
    g : callable
        Z -> A, arrays of one shape and dtype, written with the standard's functions.
    dg : callable
        What was kept (see `keep`) -> g'(Z), of the same shape and dtype.
    keep : {"A", "Z", "ZA", ""}
        What `dg` takes: the activations A = g(Z), the pre-activations Z, or both: dg(Z, A). "": nothing is kept, since
        g' is 1.
    init : str
        The initializer (`nnx.model.initializers`) for the weights of a layer that uses it.
    check : bool
        Whether `dg` is compared with differences of g, once, when the activation is first used or registered. False
        for a derivative that is not that of g on purpose, such as a straight-through estimator.

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
        """Return dZ = dA * g'(Z), from what `kept` returned; dA itself where nothing is kept, g' being 1."""
        return dA * self.dg(*kept) if kept else dA

    def kept(self, Z: Array, A: Array) -> tuple[Array, ...]:
        """Return what `dg` takes, of Z and A = g(Z)."""
        return tuple({"Z": Z, "A": A}[name] for name in self.keep)

    def check_derivative(self) -> None:
        """Raise an InputError if `dg`, of what `keep` gives it, is not the derivative of g."""
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
        """Return g'(Z) as a backward has it."""
        return self.backward(array_namespace(Z).ones_like(Z), self.kept(Z, self.g(Z)))

    def _wrong(self, Z: Array, slope: Array) -> str | None:
        """Return what is wrong with the derivative at Z (1, m), None if nothing is."""
        try:
            found = self._slope(Z)
        except Exception as error:  # another number of arguments, say
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
"""What `dg` is given, in words."""
