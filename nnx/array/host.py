"""NumPy as the exchange format: host arrays, their checks, and the random numbers drawn on the host."""

import operator
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from functools import reduce
from typing import Any

import numpy as np
from array_api_compat import is_array_api_obj

from nnx.array.namespace import Array, array_namespace
from nnx.errors import InputError, count, first_line, integer, shown, unknown
from nnx.support.members import member, varied
from nnx.support.spec import split

DTYPES = ("float32", "float64")


def dtype_name(dtype: Any) -> str:
    """Return "float32" or "float64", from its name or NumPy dtype.

    Examples
    --------
    >>> dtype_name(np.float64)
    'float64'
    """
    if isinstance(dtype, str) and dtype in DTYPES:
        return dtype
    name: Any = dtype
    if isinstance(dtype, str | type | np.dtype):  # of None NumPy would make float64, of an array its dtype
        with suppress(Exception):  # NumPy asks the class for its dtype, which may raise any error
            name = np.dtype(dtype).name
    if not isinstance(name, str) or name not in DTYPES:
        if isinstance(name, str) and name in ("bfloat16", "tf32"):
            raise InputError(
                f"no array is {name}; for products in {name} give precision={name!r}, and no dtype"
            )
        raise unknown("dtype", name, DTYPES)
    return name


def generator(seed: int) -> "np.random.Generator":
    """Return NumPy's default generator; all random numbers that must agree across backends come from one."""
    return np.random.default_rng(checked_seed(seed))


def key(seed: int) -> list[int]:
    """Return the key (2,), int32, of the random numbers of the steps (`nnx.array.random`)."""
    return [int(x) for x in np.random.SeedSequence(seed).generate_state(2).astype(np.int32)]


def checked_seed(seed: int) -> int:
    """Return the seed as an int, or raise an InputError unless it is an integer >= 0."""
    return integer("seed", seed, high=2**128 - 1)


def as_host(x: Any) -> Any:
    """Return x, an array of any library or anything that NumPy takes, as a NumPy array, without a copy where possible.

    Raises
    ------
    InputError
        When x's library cannot convert it.
    """
    if isinstance(x, np.ndarray) or not hasattr(x, "__dlpack__"):
        return np.asarray(x)
    try:
        # Not every library takes `device`, which only those elsewhere (not kDLCPU) need.
        on_cpu = int(x.__dlpack_device__()[0]) == 1
        return np.from_dlpack(x) if on_cpu else np.from_dlpack(x, device="cpu")
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"an array of {type(x).__module__}.{type(x).__name__} cannot be read on the host ({error}); "
            "hand in a copy that NumPy can read"
        ) from error


def largest_byte(x: Any) -> int:
    """Return the largest of the first 1000 by 1000 bytes of an array (n, m) or (m, n); 0 for another object.

    Examples
    --------
    >>> largest_byte(np.array([[0, 255]], "uint8")), largest_byte(np.array([[0, 255]]))
    (255, 0)
    """
    if not is_array_api_obj(x) or str(x.dtype).rpartition(".")[2] != "uint8" or x.ndim != 2 or 0 in x.shape:
        return 0
    return int(array_namespace(x).max(x[:1000, :1000]))


def as_dtype(x: Any, dtype: str) -> Any:
    """Return x as a NumPy array of this dtype."""
    return np.asarray(x, dtype=dtype_name(dtype))


def as_numbers(name: str, x: Any, advice: str = "; convert them, as by .astype(float)") -> Array:
    """Return x, anything array-like, as an array of real numbers; arrays of any library stay as they are.

    Raises
    ------
    InputError
        When x is ragged or masked, or holds text, objects or complex numbers.
    """
    if isinstance(x, np.ma.MaskedArray):
        raise InputError(f"{name} is a masked array, whose mask would be lost; fill it: {name}.filled(value)")
    if isinstance(x, np.ndarray) or not is_array_api_obj(x):
        try:
            x = np.asarray(x)  # of NumPy's matrix, too, which multiplies in another way
        except Exception as error:  # a class of the user's may raise any error
            raise InputError(f"{name} cannot be made an array: {first_line(error)}; {_wanted(x)}") from None
    if not isinstance(x, np.ndarray):
        if not _is_real(x):
            raise InputError(f"{name} holds numbers of dtype {x.dtype}; expected real numbers")
        if getattr(x, "is_meta", False):  # PyTorch's
            raise InputError(f"{name} is a tensor on the device meta, which holds no numbers")
        if "sparse" in str(getattr(x, "layout", "")):
            raise InputError(f"{name} is a sparse tensor; give {name}.to_dense()")
        return x
    if x.dtype.kind not in "biuf":
        kinds = {"U": "text", "S": "text", "O": "objects", "c": "complex numbers"}
        what = kinds.get(x.dtype.kind, str(x.dtype))
        example = ""
        if x.size:
            first = x.reshape(-1)[0]
            example = f" such as {shown(first.item() if x.dtype.kind in 'US' else first, 60)}"
        raise InputError(f"{name} holds {what}{example}; expected real numbers{advice}")
    if not x.dtype.isnative or x.dtype.itemsize > 8:  # which only NumPy has
        with quiet():  # too large becomes infinite, which is refused later
            return x.astype(np.float64 if x.dtype.kind == "f" else x.dtype.newbyteorder("="))
    return x


def _is_real(x: Array) -> bool:
    """Whether an array holds real numbers."""
    try:
        return bool(array_namespace(x).isdtype(x.dtype, ("bool", "integral", "real floating")))
    except Exception:  # a dtype that only its own library has
        return False


def _wanted(x: Any) -> str:
    return f"expected an array of numbers, given {shown(x)}"


def numbers(name: str, x: Any, dtype: str) -> Any:
    """Return x, anything array-like, as a NumPy array of finite numbers of this dtype.

    Raises
    ------
    InputError
        As `as_numbers`, `as_host` and `check_finite` do.
    """
    x = as_host(as_numbers(name, x))
    check_finite(name, x, dtype)
    return as_dtype(x, dtype)


def option(name: str, value: float, dtype: str) -> float:
    """Return an option that a step computes with in this dtype: 0, or a number within the dtype's.

    Raises
    ------
    InputError
        When it would become infinite, 0, or smaller than the smallest normal number, which some libraries treat as 0.

    Examples
    --------
    >>> option("epsilon", 1e-8, "float32")
    1e-08
    """
    info = np.finfo(dtype)
    if value == 0 or float(info.tiny) <= abs(value) <= float(info.max):
        return value
    wide = ", or train in float64" if dtype == "float32" else ""
    raise InputError(
        f"{name} is {value:g}, which is too {'small' if abs(value) < 1 else 'large'} for {dtype}; expected "
        f"{float(info.tiny):.3g} to {float(info.max):.3g} in size{wide}"
    )


def smallest(dtype: str) -> float:
    """Return the smallest normal number of a dtype, which no library treats as 0."""
    return float(np.finfo(dtype).tiny)


def options(x: Any, dtype: str) -> None:
    """Check every number of nnx's own optimizers, schedules, layers and Regularization: see `option`."""
    kind = type(x)
    if not (is_dataclass(kind) and kind.__module__.startswith("nnx.")):
        return  # of a class of the user's it is not known what its numbers mean
    if varied(x):
        for k in range(min(map(len, varied(x).values()))):
            options(member(x, k), dtype)
        return
    for field in fields(kind):
        if isinstance(value := getattr(x, field.name), float):
            option(f"{kind.__name__}'s {field.name}", value, dtype)
    if hasattr(x, "beta2") and hasattr(x, "epsilon"):
        first = x.epsilon * (1 - x.beta2) ** 0.5
        option(f"{kind.__name__}'s epsilon times sqrt(1 - beta2), as it is in the first step,", first, dtype)


def parameter_of(spec: str, dtype: str) -> None:
    """Check the number in a name such as "leaky_relu(0.2)": see `option`."""
    _, parameter = split(spec)
    if isinstance(parameter, int | float):
        option(f"the parameter of {spec}", float(parameter), dtype)


def class_indices(name: str, x: Any) -> Any:
    """Return x, anything array-like, as a NumPy array of whole numbers, or raise an InputError that names it."""
    x = numbers(name, x, "float64")
    if (x != np.floor(x)).any() or (np.abs(x) > 2**53).any():
        raise InputError(
            f"{name} must hold class indices 0, 1, 2, ...; given {shown(x.reshape(-1)[:5].tolist())}"
        )
    return x.astype(np.int64)


def check_arrays(optional: Mapping[str, Any] | None = None, /, **arrays: Any) -> None:
    """Raise an InputError unless all are arrays of one library with real numbers; the optional ones may be None.

    It serves the functions that take arrays of any library as they are. It reads no number.
    """
    arrays |= {name: x for name, x in (optional or {}).items() if x is not None}
    for name, x in arrays.items():
        if isinstance(x, np.ma.MaskedArray):
            as_numbers(name, x)  # which says why not
        if not is_array_api_obj(x):
            raise InputError(
                f"{name} must be an array of NumPy or another library of the Array API standard, not {shown(x)}; "
                "numpy.asarray makes one"
            )
        if not _is_real(x):
            raise InputError(f"{name} holds numbers of dtype {x.dtype}; expected real numbers")
    given = [x for x in arrays.values() if x is not None]
    try:
        array_namespace(*given)
    except TypeError:
        libraries = {
            name: type(x).__module__.partition(".")[0] for name, x in arrays.items() if x is not None
        }
        those = ", ".join(f"{name} of {library}" for name, library in libraries.items())
        raise InputError(f"expected arrays of one library; given {those}") from None


def check_finite(name: str, x: Array, dtype: str, where: str = "", advice: str = "") -> None:
    """Raise an InputError unless every number of x is finite in dtype; it names the first such number and their count.

    `where` names the place ("feature {0}, sample {1}"), `advice` ends the message.
    """
    xp = array_namespace(x)
    if not xp.isdtype(x.dtype, "real floating"):
        return
    own = float(xp.finfo(x.dtype).max)
    limit = min(float(np.finfo(dtype).max), own)
    whole = limit == own or 0 in x.shape
    if is_finite(x) and (whole or bool((xp.max(x) <= limit) & (xp.min(x) >= -limit))):
        return  # the good case, without an array of x's size
    bad = ~(xp.abs(x) <= limit)  # true for NaN, too
    n = int(xp.count_nonzero(bad))
    if n:
        first = int(xp.argmax(xp.astype(xp.reshape(bad, (-1,)), xp.int32)))
        place = tuple(int(i) for i in np.unravel_index(first, tuple(x.shape)))
        raise InputError(
            f"{name} has {count(n, 'value')} that {'is' if n == 1 else 'are'} NaN, infinite or too large for {dtype}; "
            f"the first, at [{', '.join(map(str, place))}] "
            f"({', '.join(filter(None, [where.format(*place), 'counted from 0']))}), is {float(x[place])}{advice}"
        )


def largest(places: Mapping[str, slice], vector: Any) -> tuple[str, float]:
    """Return the name of the slice that holds the largest entry of a vector, by size, and the entry.

    Examples
    --------
    >>> largest({"W1": slice(0, 2), "b1": slice(2, 3)}, np.array([1.0, -3.0, 2.0]))
    ('W1', -3.0)
    """
    size = np.abs(vector)
    at = int(np.argmax(np.where(np.isnan(size), np.inf, size)))
    return next(name for name, place in places.items() if place.start <= at < place.stop), float(vector[at])


def shortest(x: Any) -> float:
    """Return a number of either dtype as the shortest float with its value: 0.01, not 0.009999999776482582."""
    return float(str(np.asarray(x)[()]))


def times_power_of_two(x: Any, exponent: int) -> Any:
    """Return a NumPy array times 2^exponent, which may itself be beyond floats."""
    return np.ldexp(x, exponent)


def integers(x: Any) -> Any:
    """Return a NumPy array as int32."""
    return np.asarray(x).astype(np.int32)


def is_finite(*arrays: Array) -> bool:
    """Whether every number of the arrays, all of one namespace, is finite."""
    if not arrays:
        return True
    xp = array_namespace(arrays[0])

    def total(x: Array) -> Array:
        if x.ndim == 1:
            return xp.matmul(x, x)  # BLAS's, several times as fast as a sum
        return xp.sum(x) if x.ndim else x

    with quiet():  # If the sum is, all are; of finite numbers it may be infinite: then look at each.
        found = reduce(operator.add, map(total, arrays))
        return bool(xp.isfinite(found)) or all(bool(xp.all(xp.isfinite(x))) for x in arrays)


def quiet() -> np.errstate:
    """Return a context, or decorator, without NumPy's warnings of overflow: nnx checks the numbers afterwards."""
    return np.errstate(over="ignore", invalid="ignore")


def copy(x: Any) -> Any:
    """Return a NumPy array of its own memory."""
    return np.array(x)


def concat(arrays: list[Any]) -> Any:
    """Return (n, m1), (n, m2), ... side by side as a new array (n, m1 + m2 + ...)."""
    return np.concatenate(arrays, axis=-1)  # of one array, too: the caller may write into it


def in_order(K: int, epochs: int, m: int) -> Any:
    """Return the places 0..m-1 of each epoch of each of K members, a new array (K, epochs, m)."""
    return np.tile(np.arange(m), (K, epochs, 1))


def transposed(x: Any) -> Any:
    """Return NumPy arrays (..., n, m) with the last two axes swapped, as views."""
    return np.swapaxes(x, -1, -2)


def stacked(arrays: Sequence[Any]) -> Any:
    """Return arrays, or numbers, one behind the other, as a new array with one axis more."""
    return np.stack([np.asarray(x) for x in arrays])


def rows_contiguous(X: Array) -> Array:
    """Return X (n, m) so that each sample lies in one piece: a host array's transpose is made contiguous."""
    return np.ascontiguousarray(X.T).T if isinstance(X, np.ndarray) else X
