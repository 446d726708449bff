"""How CUDA C computes an operation of the standard on single numbers: the table of expressions."""

import math
from typing import Any, NamedTuple

import numpy as np

from nnx.compiler import Op, TraceError
from nnx.compiler.ir.operations import FLOATS, ROUNDED, SIGNED, names

FUNCTIONS = names(
    "exp expm1 log log1p log2 log10 sin cos tan sinh cosh tanh asin acos atan asinh acosh atanh sqrt "
    "atan2 hypot copysign nextafter floor ceil trunc"
)
"""Functions of C of the same name, with an f behind it for float32."""

OPERATORS = {
    "add": "{0} + {1}", "subtract": "{0} - {1}", "multiply": "{0} * {1}", "divide": "{0} / {1}",
    "floor_divide": "floor_divided({0}, {1})", "remainder": "remainder_of({0}, {1})", "pow": "power({0}, {1})",
    "negative": "-{0}", "positive": "{0}", "square": "{0} * {0}", "reciprocal": "{T}(1) / {0}",
    "sign": "sign<{T}>({0})", "maximum": "most<{T}>({0}, {1})", "minimum": "least<{T}>({0}, {1})",
    "logaddexp": "log_of_sum({0}, {1})", "where": "{0} ? {1} : {2}",
    "equal": "{0} == {1}", "not_equal": "{0} != {1}", "less": "{0} < {1}", "less_equal": "{0} <= {1}",
    "greater": "{0} > {1}", "greater_equal": "{0} >= {1}", "logical_and": "{0} && {1}",
    "logical_or": "{0} || {1}", "logical_xor": "{0} != {1}", "logical_not": "!{0}", "bitwise_and": "{0} & {1}",
    "bitwise_or": "{0} | {1}", "bitwise_xor": "{0} ^ {1}", "bitwise_left_shift": "{0} << {1}",
    "bitwise_right_shift": "{0} >> {1}", "bitwise_invert": "~{0}", "isnan": "{0} != {0}",
    "isinf": "{0} == {0} && !is_finite({0})", "isfinite": "is_finite({0})",
    "signbit": "copysign(1.0, (double){0}) < 0",
}  # fmt: skip
"""Expressions of the arguments {0}, {1}, ... and their dtype {T}."""

OF_SIGNED = {
    "add": "{0} + ({U}){1}", "subtract": "{0} - ({U}){1}", "multiply": "{0} * ({U}){1}", "negative": "0 - ({U}){0}",
    "square": "{0} * ({U}){0}", "bitwise_left_shift": "({U}){0} << {1}", "abs": "{0} < 0 ? 0 - ({U}){0} : {0}",
}  # fmt: skip
"""Expressions of signed integers, which wrap around: in C only unsigned ones, {U}, do."""


class Reduction(NamedTuple):
    """What a reduction begins with, by kind of dtype, and the function that takes one more number."""

    first: str
    take: str


REDUCTIONS = {
    "sum": Reduction("0", "plus"), "mean": Reduction("0", "plus"), "prod": Reduction("1", "times"),
    "max": Reduction("lowest", "most"), "min": Reduction("highest", "least"),
    "all": Reduction("1", "both"), "any": Reduction("0", "either"),
}  # fmt: skip
"""The reductions that kernels do; "lowest" and "highest" are the limits of the dtype."""

EXACT = 1 << 20
"""Whole numbers below have the same digits in Python and in C."""


def literal(x: Any, dtype: str) -> str:
    """Return a number in C, to the last bit.

    Examples
    --------
    >>> literal(0.1, "float32"), literal(2, "float64"), literal(-3, "int32"), literal(True, "bool")
    ('float32(0x1.99999a0000000p-4)', 'float64(2.0)', 'int32(-3LL)', 'true')
    """
    if dtype == "bool":
        return str(bool(x)).lower()
    if dtype not in FLOATS:
        if dtype == "int64" and int(x) == -(1 << 63):
            return "(-9223372036854775807LL - 1)"
        return f"{dtype}({int(x)}{'ULL' if dtype.startswith('uint') else 'LL'})"
    x = float(np.dtype(dtype).type(x))
    if math.isnan(x):
        return f"{dtype}(NAN)"
    size = abs(x)
    text = "INFINITY" if math.isinf(x) else str(size) if size.is_integer() and size < EXACT else size.hex()
    return f"{dtype}({'-' if math.copysign(1, x) < 0 else ''}{text})"


def expression(op: Op, args: list[str]) -> str:
    """Return an elementwise operation in C, for a variable of its dtype; a TraceError if there is none."""
    of, dtype = op.reads[-1].dtype, op.out.dtype
    if op.name == "astype":
        if dtype == ROUNDED:
            return f"rounded({args[0]})"
        return f"({args[0]} != 0)" if dtype == "bool" else f"{dtype}({args[0]})"
    if of in SIGNED and op.name in OF_SIGNED:
        return OF_SIGNED[op.name].format(*args, U="u" + of)
    if op.name in ("floor", "ceil", "trunc", "round") and of not in FLOATS:
        return args[0]
    if op.name in ("abs", "round"):
        name = {"abs": "fabs", "round": "rint"}[op.name] if of in FLOATS else ""
        return f"{name}{'f' * (of == 'float32')}({args[0]})"
    if op.name in FUNCTIONS:
        return f"{op.name}{'f' * (of == 'float32')}({', '.join(args)})"
    if op.name not in OPERATORS:
        raise TraceError(f"{op.name} has no expression in CUDA C")
    return OPERATORS[op.name].format(*args, T=of)


def first(op: Op) -> str:
    """Return what a reduction begins with."""
    dtype, number = op.out.dtype, REDUCTIONS[op.name].first
    limits = {"lowest": (-math.inf, "min"), "highest": (math.inf, "max")}
    if number not in limits:
        return literal(int(number), dtype)
    of_floats, name = limits[number]
    if dtype == "bool":
        return literal(name == "max", dtype)
    return literal(of_floats if dtype in FLOATS else getattr(np.iinfo(dtype), name), dtype)


def combine(op: Op) -> str:
    """Return the function of C that makes one number of two for a reduction."""
    return f"{REDUCTIONS[op.name].take}<{op.out.dtype}>"


def iteration_space(op: Op) -> Any:
    """Return the shape that an operation goes over in a kernel, () for single numbers; None: it has no kernel."""
    if op.kind == "reduction" and op.name in REDUCTIONS:
        shape, axes = op.reads[0].shape, op.option("axes")
        return shape if 0 < len(shape) <= 2 and len(axes) in (1, len(shape)) else None
    if op.kind == "elementwise" and op.out.ndim <= 2:
        return op.out.shape if op.out.size != 1 else ()
    return None
