"""A loss of one's own: a function of A[L] (or Z[L]) and Y, and its derivative."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from nnx.compiler.derivative import Derivative
from nnx.errors import InputError, flag, shown
from nnx.model.outputs.losses import Function


@dataclass(frozen=True, repr=False)
class Loss:
    """A loss of your own, for `nnx.mlp` and `nnx.Network` in place of a loss's name.

    Two with the same name, functions and options are equal. One of a module's functions can be pickled.

    Parameters
    ----------
    name : str
        Its name in model files, and in a program that has registered it (`nnx.register_loss`).
    loss : callable
        A, Y -> the loss of each output, (n[L], m), which nnx adds up, or of each sample, (m,). A and Y are arrays of
        one dtype; use the standard's functions, and the outputs' axis as -2: of K networks at once both are (K, n[L],
        m). The cost J is the (weighted) mean over the samples. Class indices come as columns of 0 and 1.
    derivative : callable or None
        A, Y -> ∂loss/∂A, (n[L], m); nnx adds the derivative of the output's link. None: nnx derives it from the loss,
        see `nnx.compiler.derivative.Derivative`.
    of : {"A", "Z"}
        The argument of both functions: the predictions A[L], or the pre-activations Z[L] before the link. Compute a
        loss with a logarithm from Z, without infinite numbers.
    check : bool
        Whether the derivative is compared with differences of the loss, once, when a network first uses it.

    Examples
    --------
    >>> import nnx
    >>> cubic = Loss("cubic", lambda A, Y: abs(A - Y) ** 3)
    >>> nnx.mlp([4, 8, 1], output="identity", loss=cubic)
    Network(4, [Dense(8, relu), Dense(1, identity)], output='identity', loss='cubic')
    """

    name: str
    loss: Function
    derivative: Function | None = None
    of: Literal["A", "Z"] = "A"
    check: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise InputError(f"name must be a name, not {shown(self.name)}")
        for name, function in (("loss", self.loss), ("derivative", self.derivative)):
            if not callable(function) and (name == "loss" or function is not None):
                raise InputError(f"{name} must be a function of A and Y, arrays, not {shown(function)}")
        if not isinstance(self.of, str) or self.of not in ("A", "Z"):
            raise InputError(f"of, what the loss is computed from, must be 'A' or 'Z', not {shown(self.of)}")
        object.__setattr__(self, "check", flag("check", self.check))

    @property
    def slope(self) -> Function:
        """The derivative: the given one, or that of the loss."""
        return Derivative(self.loss) if self.derivative is None else self.derivative

    def __repr__(self) -> str:
        return f"Loss({self.name!r})"


OwnLoss: TypeAlias = Loss | Function
"""A loss of one's own: as an object, or as one function."""
