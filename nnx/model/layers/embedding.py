"""The base of the layers that embed numbers: each of some columns becomes several units, and the others pass through.

(Gorishniy, Rubachev and Babenko, 2022, "On Embeddings for Numerical Features in Tabular Deep Learning",
https://arxiv.org/abs/2203.05556.)
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, ClassVar, TypeVar

from nnx.array import host
from nnx.array.namespace import Array, array_namespace, device
from nnx.errors import InputError, count, integer, items, shown
from nnx.model.activations import activation as find_activation
from nnx.model.activations.base import Activation
from nnx.model.layers.base import Layer, describe, from_description

T = TypeVar("T", bound="Embedding")


class Embedding(Layer):
    """A layer that embeds the columns `columns`; its output has their units first, then the other columns as they are.

    The formulas are of matrices only: the units of all columns are the rows, one column's behind the other's.
    """

    decayed: ClassVar[tuple[str, ...]] = ("V",)
    columns: Sequence[int] | None
    activation: str | Activation
    edges: Any = None

    def _check_columns(self) -> None:
        """Make `columns` a tuple of ascending numbers, or raise an InputError."""
        if self.columns is not None:
            expected = "the numbers of the columns to embed, such as [0, 2]"
            numbers = [integer("columns", c, 0) for c in items("columns", self.columns, expected)]
            if not numbers or any(a >= b for a, b in pairwise(numbers)):
                raise InputError(f"columns must be ascending numbers, at least one, not {shown(numbers)}")
            object.__setattr__(self, "columns", tuple(numbers))
        object.__setattr__(self, "activation", find_activation(self.activation))

    @property
    def g(self) -> Activation:
        """The activation."""
        assert isinstance(self.activation, Activation)  # since __post_init__
        return self.activation

    def units_of_each(self) -> int:
        """Return the units that a column becomes."""
        raise NotImplementedError

    def embedded(self, n_prev: int) -> tuple[int, ...]:
        """Return the columns that are embedded, of n[l-1]; an InputError if there are fewer."""
        columns = range(n_prev) if self.columns is None else self.columns
        if columns[-1] >= n_prev:
            raise InputError(
                f"{type(self).__name__} embeds column {columns[-1]}, and its input has {count(n_prev, 'column')}"
            )
        return tuple(columns)

    def units(self, n_prev: int) -> int:
        """Return n[l]: the units of the embedded columns, and the columns that pass."""
        return n_prev + len(self.embedded(n_prev)) * (self.units_of_each() - 1)

    def fitted(self: T, X: Any, rows: bool = False, dtype: str | None = None) -> T:
        """Return the layer for samples X (n, m): with `columns` None, of the columns of more than two distinct values.

        Parameters
        ----------
        X : array (n, m)
            Samples as columns, of any library, without NaN and infinities.
        rows : bool
            Whether X is (m, n), samples as rows.
        dtype : str or None
            Of the training, "float32" or "float64". None: that of X.

        Raises
        ------
        InputError
            When X is no such array, or no column has more than two distinct values.
        """
        X = as_columns(X, rows)
        if self.columns is not None or self.edges is not None:
            self.embedded(X.shape[0])
            return self
        return replace(self, columns=numeric_columns(X))  # type: ignore[type-var]

    def learned(self: T, X: Any, rows: bool = False, dtype: str | None = None) -> T:
        """Return the layer to train on X: see `fitted`. Edges that it has stay as they are."""
        return self.fitted(X, rows, dtype)

    def __deepcopy__(self: T, memo: Any) -> T:
        return self  # it never changes; scikit-learn's clone copies an estimator's parameters

    def __reduce__(self) -> Any:
        return from_description, (describe(self),)  # pickled like a model file: without code

    def _repeated(self, A_prev: Array, times: int) -> Array:
        """Return the embedded columns of A[l-1], each so many times: (..., columns * times, m)."""
        n_prev = A_prev.shape[-2]
        return selection(A_prev, n_prev, self.embedded(n_prev), times) @ A_prev

    def _beside(self, A: Array, A_prev: Array) -> Array:
        """Return the units of the embedded columns (..., n, m), and below them the columns that pass."""
        n_prev = A_prev.shape[-2]
        others = _others(self.embedded(n_prev), n_prev)
        if not others:
            return A
        xp, passed = array_namespace(A), selection(A_prev, n_prev, others, 1) @ A_prev
        if passed.ndim < A.ndim:  # of a stack, which has its samples in common
            passed = xp.broadcast_to(passed, (*A.shape[:-2], *passed.shape[-2:]))
        return xp.concat([A, passed], axis=-2)

    def _derivative(self, dX: Array, dA: Array, times: int, n_prev: int) -> Array:
        """Return dA[l-1], from the derivatives of the repeated columns, and those of the columns that pass in dA[l]."""
        xp, columns = array_namespace(dA), self.embedded(n_prev)
        found = xp.matrix_transpose(selection(dX, n_prev, columns, times)) @ dX
        if others := _others(columns, n_prev):
            passed = dA[..., len(columns) * self.units_of_each() :, :]
            found = found + xp.matrix_transpose(selection(dA, n_prev, others, 1)) @ passed
        return found


def selection(like: Array, n: int, columns: Sequence[int], times: int) -> Array:
    """Return the matrix of 0 and 1 (columns * times, n) whose product repeats some of n rows, each so many times.

    A compiled step has it as a constant, and one product for all columns.
    """
    xp = array_namespace(like)
    numbers = xp.expand_dims(xp.arange(n, dtype=like.dtype, device=device(like)), axis=0)
    rows = [xp.broadcast_to(_ones(numbers - c), (times, n)) for c in columns]
    return xp.concat(rows, axis=-2)


def tile(like: Array, n: int, times: int) -> Array:
    """Return the matrix of 0 and 1 (times * n, n) whose product repeats n rows as a whole, so many times."""
    xp, place = array_namespace(like), device(like)
    rows = xp.expand_dims(xp.arange(times * n, dtype=like.dtype, device=place), axis=-1)
    numbers = xp.expand_dims(xp.arange(n, dtype=like.dtype, device=place), axis=0)
    return _ones(rows % n - numbers)


def _ones(x: Array) -> Array:
    """Return 1 where whole numbers are 0, else 0: max(0, 1 - |x|)."""
    xp = array_namespace(x)
    return xp.maximum(1 - xp.abs(x), 0.0)


def part(x: Array, f: int, size: int) -> Array:
    """Return the rows of column f in (..., columns * size, k): (..., size, k)."""
    return x[..., f * size : (f + 1) * size, :]


def _others(columns: Sequence[int], n: int) -> list[int]:
    taken = set(columns)
    return [c for c in range(n) if c not in taken]


def as_columns(X: Any, rows: bool = False) -> Array:
    """Return X (n, m) of floats on the host, or raise an InputError unless its numbers are finite."""
    if not isinstance(rows, bool):
        raise InputError(f"rows={rows!r}; expected True or False")
    X = host.as_host(host.as_numbers("X", X))
    X = X if str(X.dtype) in ("float32", "float64") else host.as_dtype(X, "float64")
    if X.ndim != 2 or 0 in X.shape:
        form = "(m, n)" if rows else "(n, m)"
        raise InputError(f"X has shape {tuple(X.shape)}; expected {form}, at least one sample")
    if not host.is_finite(X):
        raise InputError("X has NaN or infinity; fill them in before the columns are embedded")
    return X.T if rows else X


def numeric_columns(X: Array) -> tuple[int, ...]:
    """Return the numbers of the columns of X (n, m) that have more than two distinct values.

    Examples
    --------
    >>> import numpy as np
    >>> numeric_columns(np.array([[0.0, 1.0, 0.0], [0.1, 0.2, 0.3]]))
    (1,)
    """
    xp = array_namespace(X)
    found = tuple(i for i in range(X.shape[0]) if xp.unique_values(X[i, :]).shape[0] > 2)
    if not found:
        raise InputError(
            "no column of X has more than two distinct values, so none is embedded; leave out the embedding, or name "
            "its columns"
        )
    return found
