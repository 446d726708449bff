"""How numba computes an operation of the standard on single numbers: the table of expressions."""

from typing import Any

import numpy as np

from nnx.compiler import Op, TraceError, Value
from nnx.compiler.ir.operations import names

FUNCTIONS = names(
    "exp expm1 log log1p log2 log10 sin cos tan sinh cosh tanh asin acos atan asinh acosh atanh sqrt floor ceil trunc "
    "atan2 hypot copysign"
)
"""Operations that are functions of the same name."""

FLOAT32 = {"exp": "exp32", "expm1": "expm1_32", "log": "log32", "log1p": "log1p_32", "tanh": "tanh32"}
"""Functions that the runtime has for float32, so that LLVM makes vector instructions of them."""

OPERATORS = {
    "add": "({} + {})", "subtract": "({} - {})", "multiply": "({} * {})", "divide": "({} / {})",
    "floor_divide": "({} // {})", "bitwise_and": "({} & {})", "bitwise_or": "({} | {})",
    "bitwise_xor": "({} ^ {})", "bitwise_left_shift": "({} << {})", "bitwise_right_shift": "({} >> {})",
    "bitwise_invert": "(~{})", "equal": "({} == {})", "not_equal": "({} != {})", "less": "({} < {})",
    "less_equal": "({} <= {})", "greater": "({} > {})", "greater_equal": "({} >= {})", "negative": "(-{})",
    "abs": "abs({})", "square": "({0} * {0})", "reciprocal": "(1 / {})", "pow": "({} ** {})",
    "logical_and": "({} and {})", "logical_or": "({} or {})", "logical_xor": "({} != {})",
    "logical_not": "(not {})", "isnan": "({0} != {0})", "positive": "{}",
    "where": "({1} if {0} else {2})",
    # NaN, where there is one
    "maximum": "(({0} if not ({0} <= {1}) else {1}) if {1} == {1} else {1})",
    "minimum": "(({0} if not ({0} >= {1}) else {1}) if {1} == {1} else {1})",
    "sign": "({0} if {0} != {0} else {T}(1 if {0} > 0 else -1 if {0} < 0 else 0))",
}  # fmt: skip
"""Expressions of the arguments {0}, {1}, ... and the result's dtype {T}."""

WITH_NUMBER = {
    "maximum": "({0} if not ({0} <= {1}) else {1})",
    "minimum": "({0} if not ({0} >= {1}) else {1})",
}
"""Expressions where the second argument is a Python number, which is not NaN."""

REDUCTIONS = {
    "sum": ("{T}(0)", "add_in_any_order({0}, {1})"),
    "mean": ("{T}(0)", "add_in_any_order({0}, {1})"),
    "prod": ("{T}(1)", "({0} * {1})"),
    "max": ("{T}({low})", OPERATORS["maximum"]),
    "min": ("{T}({high})", OPERATORS["minimum"]),
    "all": ("True", "({0} and {1})"),
    "any": ("False", "({0} or {1})"),
}
"""What a reduction begins with ({low}, {high}: the least and largest number), and how it takes one more element."""


def iteration_space(op: Op) -> Any:
    """Return the shape that an operation goes over in a loop; None: it has no loop."""
    if op.kind == "reduction" and op.name in REDUCTIONS:
        shape, axes = op.reads[0].shape, op.option("axes")
        return shape if 0 < len(shape) <= 2 and len(axes) in (1, len(shape)) else None
    if op.kind == "elementwise" and 0 < op.out.ndim <= 2:
        return op.out.shape
    return None


def expression(op: Op, args: list[str]) -> str:
    """Return an elementwise operation on single numbers, in the dtype of its result; a TraceError if there is none."""
    dtype = op.out.dtype
    if op.name == "astype":
        return f"({args[0]} != 0)" if dtype == "bool" else f"{dtype}({args[0]})"
    if op.name in FUNCTIONS:
        name = FLOAT32.get(op.name, op.name) if dtype == "float32" and op.out.ndim else op.name
        text = f"{name}({', '.join(args)})"
    elif op.name in OPERATORS:
        form = WITH_NUMBER.get(op.name) if not isinstance(op.args[-1], Value) else None
        text = (form or OPERATORS[op.name]).format(*args, T=dtype)
    else:
        raise TraceError(f"{op.name} has no loop")
    return text if dtype == "bool" else f"{dtype}({text})"


def first(op: Op) -> str:
    """Return what a reduction begins with."""
    dtype, low, high = op.out.dtype, "-inf", "inf"
    if dtype.startswith(("int", "uint")):
        low, high = str(np.iinfo(dtype).min), str(np.iinfo(dtype).max)
    return REDUCTIONS[op.name][0].format(T=dtype, low=low, high=high)


def indented(lines: list[str], depth: int = 1) -> list[str]:
    """Return the lines further to the right."""
    return [f"{'    ' * depth}{line}" for line in lines]
