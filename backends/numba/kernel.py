"""A loop over the elements of arrays as the source of a function for numba: a chain of operations, with their sums."""

from typing import Any

import numpy as np

from nnx.compiler import Group, Op, TraceError, Value
from nnx.compiler.ir.operations import names

FUNCTIONS = names(
    "exp expm1 log log1p log2 log10 sin cos tan sinh cosh tanh asin acos atan asinh acosh atanh sqrt floor ceil trunc "
    "atan2 hypot copysign"
)
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
NUMBER = {"maximum": "({0} if not ({0} <= {1}) else {1})", "minimum": "({0} if not ({0} >= {1}) else {1})"}
"""The same, where the second is a number, which is not NaN."""
REDUCED = {
    "sum": ("{T}(0)", "add_in_any_order({0}, {1})"),
    "mean": ("{T}(0)", "add_in_any_order({0}, {1})"),
    "prod": ("{T}(1)", "({0} * {1})"),
    "max": (None, OPERATORS["maximum"]),
    "min": (None, OPERATORS["minimum"]),
    "all": ("True", "({0} and {1})"),
    "any": ("False", "({0} or {1})"),
}
"""What a reduction begins with (None: the least or largest number), and how it takes one more."""
FLOAT32 = {"exp": "exp32", "expm1": "expm1_32", "log": "log32", "log1p": "log1p_32", "tanh": "tanh32"}
"""What there is a vector form of."""


def space(op: Op) -> Any:
    """Return the shape that an operation goes over in a loop; None: it does not."""
    if op.kind == "reduction" and op.name in REDUCED:
        shape = op.reads[0].shape
        axes = op.option("axes")
        return shape if 0 < len(shape) <= 2 and len(axes) in (1, len(shape)) else None
    if op.kind == "elementwise" and 0 < op.out.ndim <= 2:
        return op.out.shape
    return None


def expression(op: Op, args: list[str]) -> str:
    """Return an elementwise operation on single numbers, in the dtype that it must have."""
    dtype = op.out.dtype
    if op.name == "astype":
        return f"({args[0]} != 0)" if dtype == "bool" else f"{dtype}({args[0]})"
    if op.name in FUNCTIONS:
        name = FLOAT32.get(op.name, op.name) if dtype == "float32" and op.out.ndim else op.name
        text = f"{name}({', '.join(args)})"
    elif op.name in OPERATORS:
        form = NUMBER.get(op.name) if not isinstance(op.args[-1], Value) else None
        text = (form or OPERATORS[op.name]).format(*args, T=dtype)
    else:
        raise TraceError(f"{op.name} has no loop")
    return text if dtype == "bool" else f"{dtype}({text})"


def beside(op: Op) -> str:
    """Return the dtype of the numbers beside an operation's arrays."""
    return op.out.dtype if op.name == "where" else op.reads[0].dtype


def indented(lines: list[str], depth: int = 1) -> list[str]:
    """Return the lines further to the right."""
    return [f"{'    ' * depth}{line}" for line in lines]


class Kernel:
    """The loop over the elements of one group.

    Parameters
    ----------
    loops : Loops
        The step that it is a part of, which knows where values lie.
    group : Group

    Attributes
    ----------
    text : str
        The function's source, with KERNEL for its name: groups of one form have the same.
    parameters : dict of str to str
        What it is called with, but for the rows and columns that it goes over: its name in the function.
    arrays : set of str
        Those of the parameters that are arrays.
    space : tuple of int
        The shape that it goes over.
    results : list of Value
        The single numbers that it returns.
    divided : {"elements", "rows", "columns", "one"}
        How its elements can be shared out: along either side, whole rows, whole columns, or not.
    """

    def __init__(self, loops: Any, group: Group) -> None:
        self._loops, self._group = loops, group
        self.space: tuple[int, ...] = group.iteration_space  # type: ignore[assignment]
        self.parameters: dict[str, str] = {}
        self.arrays: set[str] = set()
        self._rows: list[str] = []  # lines before the inner loop
        self._inner: list[str] = []
        self._before: list[str] = []
        self._after_row: list[str] = []
        self._after: list[str] = []
        self._local: dict[Value, str] = {}
        self._returns: list[str] = []
        self.results: list[Value] = []
        divisions = {self._element(op, number) for number, op in enumerate(group.ops)} - {"elements"}
        if not divisions and len(self.space) == 1:
            divisions = {"columns"}
        self.divided = divisions.pop() if len(divisions) == 1 else "one" if divisions else "elements"
        self.text = self._text()

    def _text(self) -> str:
        lines = [
            f"def KERNEL({', '.join([*self.parameters.values(), 'i0', 'i1', 'j0', 'j1'])}):",
            "    i0, i1, j0, j1 = uint64(i0), uint64(i1), uint64(j0), uint64(j1)  # no index counts from the end",
            *indented(self._before),
        ]
        depth = 1
        if len(self.space) == 2:
            lines.append("    for i in range(i0, i1):")
            depth = 2
        lines += indented(self._rows, depth)
        lines.append(f"{'    ' * depth}for j in range(j0, j1):")
        lines += indented(self._inner, depth + 1)
        lines += indented(self._after_row, depth)
        lines += indented(self._after)
        if self._returns:
            lines.append(f"    return {', '.join(self._returns)},")
        return "@njit(**PLAIN)\n" + "\n".join(lines)

    def _array(self, value: Value) -> str:
        self.arrays.add(self._loops.name(value))
        return self._parameter(self._loops.name(value))

    def _parameter(self, name: str) -> str:
        return self.parameters.setdefault(name, f"p{len(self.parameters)}")

    def _index(self, shape: tuple[int, ...]) -> str:
        """Return how an element of an array is found in the loops."""
        letters = ("i", "j")[-len(self.space) :]
        letters = letters[len(letters) - len(shape) :]
        sizes = self.space[len(self.space) - len(shape) :]
        return ", ".join("0" if n != size else k for n, size, k in zip(shape, sizes, letters, strict=True))

    def _read(self, arg: Any, op: Op) -> str:
        """Return the variable with an argument's element, loaded as far out as can be."""
        number = self._loops.literal(arg)
        if number is not None:
            dtype = arg.dtype if isinstance(arg, Value) else beside(op)
            return self._parameter(self._loops.number(number, dtype))
        if arg in self._local:
            return self._local[arg]
        if self._loops.is_single(arg):
            return self._parameter(self._loops.single(arg))
        array = self._array(arg)
        index = self._index(arg.shape)
        name = self._local[arg] = f"a{len(self._local)}"
        inner = index.endswith("j")
        (self._inner if inner else self._rows).append(f"{name} = {array}[{index}]")
        return name

    def _element(self, op: Op, number: int) -> str:
        """Write one operation; return how it can be shared out."""
        if op.kind == "reduction":
            return self._reduce(op, number)
        args = [self._read(arg, op) for arg in op.args]
        name = f"e{number}"
        self._inner.append(f"{name} = {expression(op, args)}")
        self._local[op.out] = name
        if op.out not in self._group.internal:
            array = self._array(op.out)
            self._inner.append(f"{array}[{self._index(op.out.shape)}] = {name}")
        return "elements"

    def _reduce(self, op: Op, number: int) -> str:
        x, dtype, axes = self._read(op.reads[0], op), op.out.dtype, op.option("axes")
        first, take = REDUCED[op.name]
        if first is None:
            if dtype.startswith("float"):
                low, high = -np.inf, np.inf
            else:
                low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
            first = self._parameter(self._loops.number(low if op.name == "max" else high, dtype))
        else:
            first = first.format(T=dtype)
        count = None
        if op.name == "mean":
            count = self._parameter(self._loops.number(op.reads[0].size // op.out.size, dtype))
        name = f"e{number}"
        cast = f"{dtype}({{}})" if dtype.startswith("int") else "{}"
        whole = len(axes) == len(self.space)
        if whole or axes == (1,):  # one number for all, or for a row
            (self._before if whole else self._rows).append(f"{name} = {first}")
            self._inner.append(f"{name} = {cast.format(take.format(name, x))}")
            after = self._after if whole else self._after_row
            if count:
                after.append(f"{name} = {name} / {count}")
            if op.out.ndim == 0:
                self._returns.append(name)
                self.results.append(op.out)
            else:
                array = self._array(op.out)
                index = {1: "0" if whole else "i", 2: "0, 0" if whole else "i, 0"}[op.out.ndim]
                after.append(f"{array}[{index}] = {name}")
            return "one" if whole else "rows"
        array = self._array(op.out)  # a row of sums
        index = "0, j" if op.out.ndim == 2 else "j"
        self._before += ["for j in range(j0, j1):", f"    {array}[{index}] = {first}"]
        self._inner.append(f"{array}[{index}] = {cast.format(take.format(f'{array}[{index}]', x))}")
        if count:
            self._after += ["for j in range(j0, j1):", f"    {array}[{index}] /= {count}"]
        return "columns"
