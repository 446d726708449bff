"""Checks of the arrays and numbers that a network gets."""

from collections.abc import Mapping, Sequence
from math import prod

from nnx.array import host
from nnx.array.namespace import Array, array_namespace
from nnx.errors import InputError, one_of, shown
from nnx.model.layers import Activate, Affine, Layer, every
from nnx.model.outputs.base import Output


def check_features(X: Array, n: int, name: str, rows: bool) -> None:
    """Raise an InputError unless X is (..., n[0], m) with m > 0; `rows`: the caller takes rows=True, too."""
    given = tuple(X.shape)
    if len(given) < 2 or given[-2] != n:
        columns, by_rows = _fitting(given, n)
        hint = f"; samples are columns: {columns} would fit" if columns else ""
        hint += f", and so would {by_rows}" if columns and rows else ""
        raise InputError(f"{name} has shape {given}; expected (n[0], m) = ({n}, m){hint}")
    if given[-1] == 0:
        raise InputError(f"{name} is empty: its shape is {given}; expected at least one sample (column)")


def _fitting(given: tuple[int, ...], n: int) -> tuple[str, str]:
    """Return the calls that make samples (n, m) from X of this shape, and (m, n) from rows; ("", "") if none does."""
    if len(given) == 2 and given[1] == n:
        return "its transpose X.T", "rows=True"
    if len(given) == 1 and n == 1:
        return "X.reshape(1, -1)", "X.reshape(-1, 1) with rows=True"
    if len(given) > 2 and prod(given[1:]) == n:
        return f"X.reshape({given[0]}, -1).T", f"X.reshape({given[0]}, -1) with rows=True"
    return "", ""


def check_weights(weights: Array | None, X: Array) -> None:
    """Raise an InputError unless the weights of the samples are (..., m)."""
    if weights is not None and (weights.ndim < 1 or weights.shape[-1] != X.shape[-1]):
        raise InputError(
            f"weights has shape {tuple(weights.shape)}; expected (..., m), m as of X {tuple(X.shape)}"
        )


def check_key(key: Array | None) -> None:
    """Raise an InputError unless a key is two int32, or two for each network of a stack."""
    if key is not None and (key.ndim < 1 or key.shape[-1] != 2 or key.dtype != array_namespace(key).int32):
        raise InputError(f"key has shape {tuple(key.shape)} and dtype {key.dtype}; expected (..., 2), int32")


def check_named(params: Mapping[str, Array], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise an InputError unless these are all parameters of a network by name, each of its shape."""
    if not isinstance(params, Mapping):
        raise InputError(
            f"params must be a dict of arrays by name, {', '.join(shapes)}; given {shown(params)}"
        )
    for name in params:
        one_of("parameter", name, shapes)
    for name in shapes:
        if name not in params:
            raise InputError(f"parameter {name!r} is missing; expected {', '.join(shapes)}")
    host.check_arrays(**params)
    for name, shape in shapes.items():
        given = tuple(params[name].shape)
        if given[-2:] != shape:
            hint = "; its transpose would fit" if given[::-1] == shape else ""
            raise InputError(f"{name} has shape {given}; expected {shape}{hint}")
    leads = {name: tuple(params[name].shape[:-2]) for name in shapes}
    if len(set(leads.values())) > 1:
        raise InputError(
            f"the parameters' leading axes, those of a stack of networks, must be equal; given {leads}"
        )


def check_options(layers: Sequence[Layer], output: Output, dtype: str) -> None:
    """Raise an InputError if a number of a layer, its activation or the loss is too small or large for dtype."""
    for layer in every(layers):
        host.options(layer, dtype)
        if isinstance(layer, Affine | Activate):
            host.parameter_of(layer.g.name, dtype)
    if output.spec is not None:
        host.parameter_of(output.spec, dtype)
