"""Samples as rows, and single samples, become columns (n[0], m)."""

from collections.abc import Sequence
from math import prod
from typing import Any

from nnx.array import host
from nnx.array.namespace import array_namespace, shape_of
from nnx.batches import frames
from nnx.batches.source import Rows, Source
from nnx.batches.sources import Samples, whole
from nnx.errors import InputError

TABLES = ("pandas", "polars", "pyarrow")


def as_rows(name: str, x: Any, n: int) -> Any:
    """Return x, whose samples are its rows, as `Rows`; an array must be (m,) or have n columns.

    Raises
    ------
    InputError
        When an array has another number of columns.

    Examples
    --------
    >>> import numpy as np
    >>> as_rows("X", np.ones((5, 2)), 2).x.shape
    (5, 2)
    """
    if x is None or isinstance(x, Rows):
        return x
    if isinstance(x, list | tuple):
        x = host.as_numbers(name, x)
    shape = shape_of(x)
    if len(shape) > 1 and shape[1:] != (n,) and frames.library(x) not in TABLES:
        hint = (
            "; its columns are the samples: leave out rows=True" if shape[0] == n and len(shape) == 2 else ""
        )
        if len(shape) > 2 and prod(shape[1:]) == n:
            hint = f"; reshaped to ({shape[0]}, {n}) it would fit"
        raise InputError(f"{name} has shape {shape}; with rows=True expected (m, {n}), samples as rows{hint}")
    return Rows(x)


def targets_as_rows(name: str, Y: Any, n: int) -> Any:
    """Return targets (m,), (m, n[L]), or class indices (m, 1) as `Rows`: see `as_rows`."""
    shape = shape_of(Y)
    return as_rows(name, Y, 1 if len(shape) == 2 and shape[1] == 1 else n)


def pair_as_rows(whose: str, X: Any, Y: Any, n: Sequence[int]) -> tuple[Any, Any]:
    """Return X (m, n[0]) and Y (m, n[1]) of samples as rows as `Rows`; without Y, X is batches."""
    if Y is None:
        return (X if isinstance(X, Rows) else Rows(X)), None
    return as_rows(f"{whose}X", X, n[0]), targets_as_rows(f"{whose}Y", Y, n[-1])


def one_row(x: Any, features: list[str] | None) -> Any:
    """Return a row of a pandas frame, a Series with the features' names, as a table of one row; else x."""
    if features and frames.library(x) == "pandas" and len(x.shape) == 1:
        values = {str(name): value for name, value in x.items()}
        if values.keys() >= set(features):
            return {name: [values[name]] for name in features}
    return x


def one_sample(x: Samples, n: int) -> tuple[Samples, bool]:
    """Return one sample (n,) as (n, 1), and other arrays as they are; and whether x is one sample.

    Raises
    ------
    InputError
        When n is 1: x may be one sample, or several of one feature.

    Examples
    --------
    >>> import numpy as np
    >>> one_sample(np.ones(3), 3)[0].shape
    (3, 1)
    """
    if len(shape_of(x)) > 1:
        return x, False
    x = host.as_numbers("X", whole(x) if isinstance(x, Source) else x)
    if x.ndim != 1:
        return x, False
    if n == 1:
        raise InputError(
            f"X has shape {tuple(x.shape)}, and the network has one input: give samples as X.reshape(1, -1), "
            "(n[0], m), or with rows=True as X.reshape(-1, 1)"
        )
    return (array_namespace(x).reshape(x, (n, 1)), True) if x.shape[0] == n else (x, False)
