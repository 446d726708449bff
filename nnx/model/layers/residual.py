"""A block of layers with a way around it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nnx.array.namespace import Array
from nnx.errors import InputError, items
from nnx.model.layers.base import Context, Layer, backward, describe, forward, from_any


@dataclass(frozen=True)
class Residual(Layer):
    """A block with a way around it: A[l] = A[l-1] + block(A[l-1]).

    (He et al., 2016, https://arxiv.org/abs/1512.03385.) The block must end with as many units as it begins.

    Parameters
    ----------
    layers : sequence of Layer
        The block.

    Examples
    --------
    >>> from nnx import Dense, LayerNorm, Network
    >>> block = Residual([LayerNorm(), Dense(32, "relu"), Dense(16)])
    >>> Network(8, [Dense(16, "relu"), block, Dense(3)], output="softmax").n
    (8, 16, 32, 16, 3)
    """

    layers: tuple[Layer, ...] = ()

    def __init__(self, layers: Sequence[Any]) -> None:
        given = items("Residual's layers", layers, "the list of the block's layers")
        if not given:
            raise InputError("Residual needs the layers of its block; given an empty list")
        inside = tuple(from_any(layer) for layer in given)
        object.__setattr__(self, "layers", inside)

    def units(self, n_prev: int) -> int:
        """Return n[l-1], which the block must end with.

        Raises
        ------
        InputError
            When it does not.
        """
        n = n_prev
        for layer in self.layers:
            n = layer.units(n)
        if n != n_prev:
            raise InputError(
                f"a Residual block must end with as many units as it begins, {n_prev}; its layers end with {n}"
            )
        return n

    def forward(self, params: Any, A_prev: Array, context: Context) -> tuple[Array, Any]:
        """Return A[l-1] + block(A[l-1])."""
        A, kept = forward(self.layers, params, A_prev, context)
        return A_prev + A, kept

    def backward(self, params: Any, kept: Any, dA: Array, need_dA_prev: bool) -> tuple[Array | None, Any]:
        """Return dA[l-1] = dA[l] + the block's, and the block's derivatives."""
        dA_block, grads = backward(self.layers, params, kept, dA, need_dA_prev)
        return (dA + dA_block if need_dA_prev else None), grads

    def observe(self, params: Any, kept: Any) -> Any:
        """Return the next statistics of each layer of the block."""
        return [layer.observe(p, k) for layer, p, k in zip(self.layers, params, kept, strict=True)]

    def describe(self) -> dict[str, Any]:
        """Return the descriptions of the block's layers."""
        return {"layers": [describe(layer) for layer in self.layers]}
