"""Tables from Python, whose columns are found by their names, in any order.

They are data frames of pandas and polars, tables and record batches of Arrow, and dicts of columns. This file imports
none of these libraries: the caller has imported them.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnx.array import host
from nnx.array.namespace import Array, shape_of
from nnx.errors import InputError, count, listed, nearest

LIBRARIES = ("h5py", "zarr", "scipy", "pandas", "polars", "pyarrow")


def library(x: Any) -> str:
    """Return the name of the library that x's class, or one that it is derived from, comes from."""
    names = [kind.__module__.partition(".")[0] for kind in type(x).__mro__]
    return next((name for name in names if name in LIBRARIES), "")


@dataclass(frozen=True)
class Frame:
    """The columns of a table.

    Attributes
    ----------
    names : list of str
    column : function (int) -> Series, Arrow array or array-like (m,)
    m : int
        The rows.
    """

    names: list[str]
    column: Callable[[int], Any]
    m: int


def frame(x: Any) -> Frame | None:
    """Return the columns of a data frame or dict of columns; None for another object.

    Raises
    ------
    InputError
        When the columns of a dict have different lengths.

    Examples
    --------
    >>> frame({"a": [1, 2], "b": [3, 4]}).names
    ['a', 'b']
    >>> frame([[1, 2]]) is None
    True
    """
    of = library(x)
    if isinstance(x, dict):
        return _of_dict(x)
    if of == "pyarrow" and hasattr(x, "schema") and hasattr(x, "column"):
        return Frame([str(name) for name in x.schema.names], x.column, x.num_rows)
    if of not in ("pandas", "polars") or len(getattr(x, "shape", ())) != 2:
        return None
    column = (lambda j: x.iloc[:, j]) if of == "pandas" else x.to_series
    return Frame([str(name) for name in x.columns], column, x.shape[0])


def _of_dict(x: dict[Any, Any]) -> Frame | None:
    values = list(x.values())
    if not values or not all(is_column(value) for value in values):
        return None
    lengths = {str(name): len(value) for name, value in x.items()}
    if len(set(lengths.values())) > 1:
        said = listed([f"{length:,} in {name!r}" for name, length in lengths.items()], 8)
        raise InputError(f"the columns of a dict have different lengths: {said}")
    return Frame([str(name) for name in x], values.__getitem__, len(values[0]))


def is_column(x: Any) -> bool:
    """Whether x is one column: a Series, an Arrow array, a list of values or an array (m,)."""
    if isinstance(x, list | tuple | range):
        return not any(isinstance(one, list | tuple | np.ndarray) for one in x[:1])
    if library(x) == "pyarrow":
        return hasattr(x, "null_count")
    return len(shape_of(x)) == 1


def distinct(where: str, names: Iterable[str]) -> list[str]:
    """Return the names of columns, or raise an InputError if two are the same.

    Examples
    --------
    >>> distinct("X", ["a", "b"])
    ['a', 'b']
    """
    names = list(names)
    if len(set(names)) < len(names):
        name, times = Counter(names).most_common(1)[0]
        raise InputError(f"{where} has {times} columns named {name!r}; rename all but one")
    return names


def places(where: str, given: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Return the place of each of a model's columns among those of other data, which may have more.

    Raises
    ------
    InputError
        When one is missing (with the nearest names), or several have one name.

    Examples
    --------
    >>> places("X", ["b", "c", "a"], ["a", "b"])
    [2, 0]
    """
    where_is = {name: j for j, name in enumerate(distinct(where, given))}
    missing = [name for name in wanted if name not in where_is]
    if missing:
        known = set(wanted)
        left = [name for name in given if name not in known]
        near = {name: found[0] for name in missing[:8] if (found := nearest(name, left, 1))}
        hint = " and ".join(f"{other!r} for {name!r}" for name, other in near.items())
        has = f"it has {some(given)}"
        if len(given) > 8 and left and len(missing) < len(wanted):
            has = f"beside the right ones it has {some(left)}"
        raise InputError(
            f"{where} lacks {some(missing)}, which the model was trained on; {has}"
            + (f". Did you mean {hint}?" if hint else "")
        )
    return [where_is[name] for name in wanted]


def found(where: str, given: Sequence[str], features: Sequence[str], named: bool) -> list[int]:
    """Return the places of a model's features among the columns of data.

    A model of arrays has no names of features: it takes the columns by position.
    """
    if not named and len(given) == len(features) and set(given) != set(features):
        return list(range(len(distinct(where, given))))
    if not named and not set(given) & set(features):
        raise InputError(
            f"{where} has {count(len(given), 'column')}; the model was trained on an array of {len(features)}"
        )
    return places(where, given, features)


def some(names: Sequence[str]) -> str:
    """Return the first of the names of columns, in words."""
    return f"the column{'s' * (len(names) != 1)} {listed(map(repr, names), 8)}" if names else "no columns"


def numbers(name: str, found: Frame, wanted: Sequence[str] | None = None) -> Array:
    """Return the wanted columns as a NumPy array (n[0], m); None: all.

    Raises
    ------
    InputError
        When one is missing or holds no numbers.
    """
    order = range(len(distinct(name, found.names))) if wanted is None else places(name, found.names, wanted)
    arrays = [column_of_numbers(name, found.column(j), found.names[j]) for j in order]
    return np.stack(arrays) if arrays else np.empty((0, found.m))


def column_of_numbers(name: str, x: Any, label: Any) -> Array:
    """Return a column as a NumPy array (m,), missing numbers as NaN."""
    where, of = (name if label is None else f"{name}, column {label!r},"), library(x)
    if of not in ("pandas", "polars", "pyarrow"):
        return host.as_host(host.as_numbers(where, x))
    if of == "pyarrow":
        return _of_arrow(where, x)
    values = x.to_numpy()
    if values.dtype.kind in "biuf" and values.ndim == 1:
        return values
    if getattr(x.dtype, "kind", "") in tuple("biuf"):  # pandas' own numbers, with missing ones
        return x.to_numpy(dtype="float64", na_value=np.nan)
    if of == "polars" and (x.dtype.is_numeric() or str(x.dtype) in ("Boolean", "Null")):
        return x.cast(float).to_numpy()
    example = f" such as {values[0]!r}" if len(values) else ""
    raise InputError(f"{where} holds {x.dtype}{example}; expected numbers. {_advice(name)}")


def _of_arrow(where: str, x: Any) -> Array:
    """Return an Arrow array or chunked array as a NumPy array (m,)."""
    if str(x.type).startswith("dictionary"):
        x = x.cast(x.type.value_type)
    kind = str(x.type).rstrip("0123456789")
    if kind not in ("int", "uint", "halffloat", "float", "double", "bool", "null") and not kind.startswith(
        "decimal"
    ):
        example = f" such as {x[0].as_py()!r}" if len(x) else ""
        raise InputError(f"{where} holds {x.type}{example}; expected numbers. {_advice(where)}")
    if x.null_count or kind.startswith("decimal"):
        x = x.cast("float64")
    return x.to_numpy(zero_copy_only=False)


def _advice(where: str) -> str:
    if "Y" in where.partition(",")[0]:
        return "Class labels are 0, 1, 2, ..., as numpy.unique(labels, return_inverse=True) gives them"
    return "Convert it, or leave it out"
