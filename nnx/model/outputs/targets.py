"""Targets as a step takes them: arrays of any library that fit Z[L], and their shapes."""

from nnx.array.members import beside_matrix
from nnx.array.namespace import Array, array_namespace, device
from nnx.errors import InputError
from nnx.model.outputs.base import Output
from nnx.support.members import Number


def are_indices(output: Output, n: int, Y: Array) -> bool:
    """Whether targets Y have the shape of class indices, (m,) or (..., 1, m), not of values for n outputs."""
    return output.classes and n > 1 and (Y.ndim == 1 or Y.shape[-2] == 1)


def targets(output: Output, Z: Array, Y: Array) -> Array:
    """Return the targets as an array that fits Z[L]: (..., targets, m), of Z's dtype.

    Parameters
    ----------
    output : Output
        Decides whether class indices have a meaning.
    Z : array (..., n[L], m)
        The last layer's pre-activations.
    Y : array
        (..., n[L], m), or with several outputs for each target (..., n[L] / `Output.per_target`, m); or (m,) for one
        row; or, for an output of classes with n[L] > 1, class indices
        0..n[L]-1 of an integer dtype, (m,) or (..., 1, m). The values are not looked at (`nnx.Trainer`
        does, before it trains): an index outside the classes gives a column of zeros.

    Raises
    ------
    InputError
        When the shape fits none of these.
    """
    xp = array_namespace(Z, Y)
    n, m = Z.shape[-2] // output.per_target, Z.shape[-1]
    given = tuple(Y.shape)
    indices = Y.ndim > 0 and are_indices(output, n, Y) and xp.isdtype(Y.dtype, "integral")
    if Y.ndim == 1 and (n == 1 or indices):
        Y = xp.expand_dims(Y, axis=0)
    if Y.ndim < 2 or tuple(Y.shape[-2:]) != (1 if indices else n, m):
        raise InputError(wrong_targets(output, n, m, given))
    if indices:  # y -> the column with 1 in row y, else 0
        classes = xp.arange(n, dtype=xp.int32, device=device(Y))
        Y = classes[:, None] == (Y if Y.dtype == xp.int32 else xp.astype(Y, xp.int32))
    return Y if Y.dtype == Z.dtype else xp.astype(Y, Z.dtype)


def wrong_targets(output: Output, n: int, m: int, given: tuple[int, ...], name: str = "Y") -> str:
    """Return the message for targets whose shape does not fit n targets and m samples."""
    vector = f", or class indices ({m},)" if output.classes and n > 1 else f", or ({m},)" if n == 1 else ""
    called = f" {name}.T" if name.isidentifier() else ""
    hint = f"; its transpose{called} would fit" if given[::-1] == (n, m) and given != (n, m) else ""
    if given == (m, 1) and output.classes and n > 1:
        hint = f"; its only column, {name}[:, 0], would fit"
    rows = "n[L]" if output.per_target == 1 else f"n[L]/{output.per_target}"
    return (
        f"{name} has shape {given}; expected ({rows}, m) = ({n}, {m}){vector} for the output {output}{hint}"
    )


def smoothed(output: Output, Y: Array, epsilon: Number) -> Array:
    """Return the targets (..., n[L], m), label-smoothed: epsilon of each is shared among the classes."""
    epsilon = beside_matrix(epsilon)
    return (1 - epsilon) * Y + epsilon / (Y.shape[-2] if output.exclusive else 2)
