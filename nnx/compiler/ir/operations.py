"""The standard's functions that a graph knows, by what they do with an array's elements."""

from string import ascii_letters
from typing import Any

from nnx.errors import Error


class TraceError(Error, TypeError):
    """A function cannot be traced: what in it, and why."""


class NotPortableError(TraceError):
    """A function does what the standard has not: it reads or changes an array's numbers, or has no array at all."""


FLOATS = ("float32", "float64")
SIGNED = ("int8", "int16", "int32", "int64")
UNSIGNED = ("uint8", "uint16", "uint32", "uint64")
INTEGERS = SIGNED + UNSIGNED
DTYPES = ("bool", *INTEGERS, *FLOATS)
ROUNDED = "bfloat16"
"""The dtype of rounded factors of products (`nnx.compiler.passes.round_factors`): no other operation has it."""

KINDS = {
    "bool": ("bool",),
    "signed integer": SIGNED,
    "unsigned integer": UNSIGNED,
    "integral": INTEGERS,
    "real floating": FLOATS,
    "complex floating": (),
    "numeric": INTEGERS + FLOATS,
}
"""The standard's kinds of dtype."""


def itemsize(dtype: str) -> int:
    """Return the bytes of an element."""
    return 1 if dtype == "bool" else int(dtype.lstrip(ascii_letters)) // 8


def names(text: str) -> frozenset[str]:
    """Return the names in a text."""
    return frozenset(text.split())


_FLOATING = names(
    "exp expm1 log log1p log2 log10 sin cos tan sinh cosh tanh asin acos atan asinh acosh atanh sqrt"
)
_OF_ONE = names("abs negative positive sign square floor ceil trunc round reciprocal bitwise_invert")
_OF_TWO = names(
    "add subtract multiply divide floor_divide remainder pow maximum minimum bitwise_and bitwise_or bitwise_xor "
    "bitwise_left_shift bitwise_right_shift atan2 hypot logaddexp copysign nextafter"
)
_TESTS = names("logical_not isnan isinf isfinite signbit")
_COMPARISONS = names(
    "equal not_equal less less_equal greater greater_equal logical_and logical_or logical_xor"
)

OF_FLOATS = _FLOATING | names("divide atan2 hypot logaddexp")
TO_BOOL = _TESTS | _COMPARISONS
ARITY = {**dict.fromkeys(_FLOATING | _OF_ONE | _TESTS, 1), **dict.fromkeys(_OF_TWO | _COMPARISONS, 2)}
"""The elementwise functions, with the number of their arguments; beside them are "where" and "astype"."""

REDUCTIONS = names("sum prod mean max min all any argmax argmin")

KIND_OF = {
    **dict.fromkeys((*ARITY, "where", "astype"), "elementwise"), **dict.fromkeys(REDUCTIONS, "reduction"),
    **dict.fromkeys(names("reshape slice permute broadcast"), "view"),  # no new elements
    **dict.fromkeys(names("full arange"), "source"),  # constants
}  # fmt: skip
"""The kind of each operation; matmul, concat, copy and all_reduce are kinds of their own."""

SYMBOLS = {
    "add": "+", "subtract": "-", "multiply": "*", "divide": "/", "floor_divide": "//", "remainder": "%",
    "pow": "**", "matmul": "@", "bitwise_and": "&", "bitwise_or": "|", "bitwise_xor": "^",
    "bitwise_left_shift": "<<", "bitwise_right_shift": ">>", "equal": "==", "not_equal": "!=", "less": "<",
    "less_equal": "<=", "greater": ">", "greater_equal": ">=",
}  # fmt: skip
"""How people write them."""


def promoted(name: str, dtypes: list[str]) -> str:
    """Return the dtype that arrays of these dtypes have together; a TraceError for int32 and float32, say."""
    for kind in (FLOATS, SIGNED, UNSIGNED, ("bool",)):
        if all(dtype in kind for dtype in dtypes):
            return max(dtypes, key=kind.index)
    told = " and ".join(dict.fromkeys(dtypes))
    raise TraceError(
        f"{name} of {told} arrays: the standard does not say what it is; write xp.astype or xp.where"
    )


def scalar(name: str, value: Any, dtype: str) -> bool | int | float:
    """Return a Python number as one that stands beside an array of this dtype."""
    if type(value) not in (bool, int, float):
        raise TraceError(
            f"{name} of an array and {type(value).__name__}: only Python numbers may stand there"
        )
    if dtype in FLOATS:
        return float(value)
    if type(value) is float or (type(value) is int) != (dtype != "bool"):
        raise TraceError(f"{name} of a {dtype} array and {value!r}: the standard does not say what it is")
    return value  # type: ignore[no-any-return]
