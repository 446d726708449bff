"""The precision of the matrix products: its names, its checks, and the adapters that take it."""

import inspect
from typing import Any

from nnx.errors import BackendError, InputError, shown, unknown

FLOAT32 = "float32"
"""The precision that is meant where none is given."""

PRECISIONS = (FLOAT32, "tf32", "bfloat16")
"""The precisions of products of float32 factors."""


def checked_precision(precision: Any) -> str:
    """Return a precision that was given, "float32" for None.

    Raises
    ------
    InputError
        When there is no such precision.

    Examples
    --------
    >>> checked_precision(None)
    'float32'
    >>> checked_precision("bf16")
    Traceback (most recent call last):
    nnx.errors.InputError: unknown precision 'bf16'; did you mean 'bfloat16'? Known: float32, tf32, bfloat16
    """
    if precision is None:
        return FLOAT32
    if not isinstance(precision, str):
        raise InputError(
            f"precision must be a name, {', '.join(PRECISIONS)}, or None; given {shown(precision)}"
        )
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    return precision


def check_dtype(precision: str, dtype: str) -> None:
    """Raise an InputError where another precision than float32 is asked for, and the arrays are not float32."""
    if precision != FLOAT32 and dtype != FLOAT32:
        raise InputError(
            f"precision={precision!r} takes arrays of float32; the model's are {dtype}. Give "
            f"dtype='float32', or leave precision out"
        )


def check_capability(where: str, precision: str, capability: Any) -> None:
    """Raise a BackendError unless a GPU has TF32 and bfloat16: it does from compute capability 8.0 on.

    Examples
    --------
    >>> check_capability("PyTorch on cuda:0", "tf32", "7.5")
    Traceback (most recent call last):
    nnx.errors.BackendError: PyTorch on cuda:0 has no products in tf32, which take a CUDA GPU of ...
    """
    major = str(capability).partition(".")[0]
    if not major.isdecimal() or int(major) < 8:
        raise BackendError(
            f"{where} has no products in {precision}, which take a CUDA GPU of compute capability 8.0 or newer; give "
            "another precision ('float32'), or another device"
        )


def takes_precision(adapter: Any) -> bool:
    """Whether an adapter has other precisions than float32: its `__init__` has a parameter of that name.

    Examples
    --------
    >>> (
    ...     takes_precision(lambda device=None: None),
    ...     takes_precision(lambda device=None, precision="float32": None),
    ... )
    (False, True)
    """
    return "precision" in inspect.signature(adapter).parameters


def precision_note(precision: str) -> str:
    """Return the end of a backend's description: the precision of its products, nothing for float32.

    Examples
    --------
    >>> precision_note("float32"), precision_note("tf32")
    ('', ', products in tf32')
    """
    return "" if precision == FLOAT32 else f", products in {precision}"
