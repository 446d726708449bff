"""The standard's functions on the values of an ONNX graph: each adds nodes.

So the formulas of nnx, and functions of your own that follow the standard, write themselves. Constants are computed
with NumPy at once.
"""

from collections.abc import Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np

from nnx.array.namespace import array_namespace
from nnx.errors import InputError
from nnx.io.convert.onnx_graph import Graph, Shape, Value

_OF_ONE = {
    "abs": "Abs", "negative": "Neg", "exp": "Exp", "log": "Log", "sqrt": "Sqrt", "sin": "Sin", "cos": "Cos",
    "tanh": "Tanh", "sign": "Sign", "floor": "Floor", "ceil": "Ceil", "round": "Round", "reciprocal": "Reciprocal",
}  # fmt: skip
_OF_TWO = {
    "add": "Add", "subtract": "Sub", "multiply": "Mul", "divide": "Div", "pow": "Pow", "maximum": "Max",
    "minimum": "Min",
}  # fmt: skip
_TESTS = {"isnan": "IsNaN", "isinf": "IsInf", "logical_not": "Not"}
_COMPARISONS = {
    "equal": "Equal", "less": "Less", "less_equal": "LessOrEqual", "greater": "Greater",
    "greater_equal": "GreaterOrEqual", "logical_and": "And", "logical_or": "Or",
}  # fmt: skip
_ELEMENTWISE = _OF_ONE | _OF_TWO | _TESTS | _COMPARISONS
ELEMENT_BY_ELEMENT = {*_ELEMENTWISE.values(), "Where", "Clip", "Mod", "Cast"}
"""The operations that have no part in the order of axes."""
_REDUCTIONS = {"sum": "ReduceSum", "mean": "ReduceMean", "max": "ReduceMax", "min": "ReduceMin"}
_KINDS = {"real floating": "f", "integral": "iu", "bool": "b", "numeric": "iuf"}


class Functions:
    """The namespace of a graph's values."""

    __name__ = "nnx.onnx"

    def __init__(self) -> None:
        self.graph = Graph(self)
        for name in ("float32", "float64", "int32", "int64", "bool"):
            setattr(self, name, name)

    def __getattr__(self, name: str) -> Any:
        if name in _ELEMENTWISE:
            return partial(self._elementwise, name)
        if name in _REDUCTIONS:
            return partial(self._reduction, name)
        raise InputError(f"the function {name!r} has no counterpart in ONNX")

    # Element by element.

    def _values(self, args: Sequence[Any]) -> list[Value]:
        """Return Python's numbers as constants, in the dtype of the values that they stand beside."""
        dtype = next((x.dtype for x in args if isinstance(x, Value)), None)
        for x in args:
            if not isinstance(x, Value) and type(x) not in (int, float, bool):
                raise InputError(f"an array of {type(x).__module__}.{type(x).__name__} cannot stand there")
        with np.errstate(over="ignore"):
            return [x if isinstance(x, Value) else self.graph.constant(np.asarray(x, dtype)) for x in args]

    def _elementwise(self, name: str, *args: Any) -> Value:
        values = self._values(args)
        if all(x.constant is not None for x in values):
            arrays = [x.constant for x in values]
            return self.graph.constant(getattr(array_namespace(*arrays), name)(*arrays))
        dtype = "bool" if name in _TESTS or name in _COMPARISONS else values[0].dtype
        return self.graph.node(_ELEMENTWISE[name], values, dtype, broadcast(*(x.shape for x in values)))

    def not_equal(self, x1: Any, x2: Any) -> Any:
        return self.logical_not(self.equal(x1, x2))

    def where(self, condition: Value, x1: Any, x2: Any) -> Value:
        x1, x2 = self._values([x1, x2])
        shape = broadcast(condition.shape, x1.shape, x2.shape)
        return self.graph.node("Where", [condition, x1, x2], x1.dtype, shape)

    def clip(self, x: Value, min: Any = None, max: Any = None) -> Value:
        low, high = (None if bound is None else self._values([x, bound])[1] for bound in (min, max))
        if low is not None and high is not None and low.shape == high.shape == ():
            return self.graph.node("Clip", [x, low, high], x.dtype, x.shape)
        x = x if low is None else self.maximum(x, low)
        return x if high is None else self.minimum(x, high)

    def remainder(self, x: Any, divisor: Any) -> Any:
        x, divisor = self._values([x, divisor])
        if x.constant is not None and divisor.constant is not None:
            return self.graph.constant(np.remainder(x.constant, divisor.constant))
        if self.isdtype(x.dtype, "integral"):  # of the sign of the divisor, as the standard's
            return self.graph.node("Mod", [x, divisor], x.dtype, broadcast(x.shape, divisor.shape))
        return x - divisor * self.floor(x / divisor)

    def cos(self, x: Value) -> Any:
        if x.dtype == "float32" or x.constant is not None:
            return self._elementwise("cos", x)
        # older onnxruntimes have Cos in float32 alone: cos x = 1 - 2 sin(x/2)^2, where x/2 is exact
        return self.subtract(1.0, self.multiply(2.0, self.square(self.sin(self.multiply(x, 0.5)))))

    def square(self, x: Value) -> Any:
        return self.multiply(x, x)

    def expm1(self, x: Value) -> Any:
        # e^x - 1 = tanh(x/2) (e^x + 1), which does not cancel near 0
        return self.multiply(self.tanh(self.multiply(x, 0.5)), self.add(self.exp(x), 1.0))

    def log1p(self, x: Value) -> Value:
        # log(1 + x) = x log(u)/(u - 1), u = 1 + x rounded; x itself where u is 1 (Kahan)
        u = self.add(x, 1.0)
        one = self.equal(u, 1.0)
        below = self.where(one, 1.0, self.subtract(u, 1.0))
        return self.where(one, x, self.multiply(x, self.divide(self.log(u), below)))

    def astype(self, x: Value, dtype: str) -> Value:
        if x.dtype == dtype:
            return x
        if x.constant is not None:
            return self.graph.constant(x.constant.astype(dtype), x.name)
        types = {"bool": 9, "float32": 1, "float64": 11, "int64": 7, "int32": 6}  # of onnx.TensorProto
        return self.graph.node("Cast", [x], dtype, x.shape, to=types[dtype])

    # Sums and products.

    def _reduction(self, name: str, x: Value, *, axis: Any = None, keepdims: bool = False) -> Value:
        axes = range(x.ndim) if axis is None else (axis,) if isinstance(axis, int) else axis
        axes = sorted(a % x.ndim for a in axes)
        kept = [1 if a in axes else n for a, n in enumerate(x.shape)]
        shape = tuple(kept if keepdims else [n for a, n in enumerate(x.shape) if a not in axes])
        if name == "sum":
            over = self.graph.constant(np.array(axes, "int64"))
            return self.graph.node("ReduceSum", [x, over], x.dtype, shape, keepdims=int(keepdims))
        return self.graph.node(_REDUCTIONS[name], [x], x.dtype, shape, axes=axes, keepdims=int(keepdims))

    def matmul(self, x1: Value, x2: Value) -> Value:
        if x1.constant is not None and x2.constant is not None:
            return self.graph.constant(x1.constant @ x2.constant)
        shape = (*broadcast(x1.shape[:-2], x2.shape[:-2]), x1.shape[-2], x2.shape[-1])
        return self.graph.node("MatMul", [x1, x2], x1.dtype, shape)

    # Axes.

    def permute_dims(self, x: Value, axes: Sequence[int]) -> Value:
        if x.constant is not None:
            return self.graph.constant(np.transpose(x.constant, axes), x.name)
        before = x.made_by
        if (
            before is not None
            and before.op == "Transpose"
            and [before.attributes["perm"][a] for a in axes] == list(range(x.ndim))
        ):  # there and back
            return before.args[0]
        return self.graph.node("Transpose", [x], x.dtype, tuple(x.shape[a] for a in axes), perm=list(axes))

    def matrix_transpose(self, x: Value) -> Value:
        *lead, i, j = range(x.ndim)
        return self.permute_dims(x, [*lead, j, i])

    def reshape(self, x: Value, shape: Sequence[int | None]) -> Value:
        if x.constant is not None:
            return self.graph.constant(np.reshape(x.constant, shape), x.name)
        wanted = self.graph.constant(np.array([-1 if n is None else n for n in shape], "int64"))
        return self.graph.node("Reshape", [x, wanted], x.dtype, tuple(None if n == -1 else n for n in shape))

    def expand_dims(self, x: Value, *, axis: int = 0) -> Value:
        axis %= x.ndim + 1
        if x.constant is not None:
            return self.graph.constant(np.expand_dims(x.constant, axis), x.name)
        at = self.graph.constant(np.array([axis], "int64"))
        return self.graph.node("Unsqueeze", [x, at], x.dtype, (*x.shape[:axis], 1, *x.shape[axis:]))

    def squeeze(self, x: Value, axis: int) -> Value:
        axis %= x.ndim
        at = self.graph.constant(np.array([axis], "int64"))
        return self.graph.node("Squeeze", [x, at], x.dtype, (*x.shape[:axis], *x.shape[axis + 1 :]))

    def concat(self, arrays: Sequence[Value], *, axis: int = 0) -> Value:
        axis %= arrays[0].ndim
        if len(arrays) == 1:
            return arrays[0]
        if all(x.constant is not None for x in arrays):
            return self.graph.constant(np.concatenate([x.constant for x in arrays], axis))
        sizes = [x.shape[axis] for x in arrays]
        total = None if None in sizes else sum(n for n in sizes if n is not None)
        shape = broadcast(*((*x.shape[:axis], 1, *x.shape[axis + 1 :]) for x in arrays))
        shape = (*shape[:axis], total, *shape[axis + 1 :])
        return self.graph.node("Concat", arrays, arrays[0].dtype, shape, axis=axis)

    def stack(self, arrays: Sequence[Value], *, axis: int = 0) -> Value:
        return self.concat([self.expand_dims(x, axis=axis) for x in arrays], axis=axis)

    def broadcast_to(self, x: Value, shape: Shape) -> Value:
        if x.constant is not None and None not in shape:
            return self.graph.constant(np.broadcast_to(x.constant, [n for n in shape if n is not None]))
        wanted = self.graph.constant(np.array([1 if n is None else n for n in shape], "int64"))
        return self.graph.node("Expand", [x, wanted], x.dtype, broadcast(x.shape, tuple(shape)))

    def sliced(self, x: Value, key: Any) -> Value:
        """Return x[key], a view in the standard: slices, numbers, None and an ellipsis."""
        if x.constant is not None:
            return self.graph.constant(x.constant[key])
        keys = list(key) if isinstance(key, tuple) else [key]
        if not all(one is None or one is ... or isinstance(one, slice | int) for one in keys):
            raise InputError("an index that is neither a slice nor a number has no counterpart in ONNX")
        at = next((i for i, one in enumerate(keys) if one is ...), len(keys))
        filled = sum(one is not None and one is not ... for one in keys)
        keys[at : at + 1] = [slice(None)] * (x.ndim - filled)
        for axis, one in enumerate(one for one in keys if one is not None):
            one = slice(one, one + 1 or None) if isinstance(one, int) else one
            if one != slice(None):
                x = self._part(x, axis, one)
        axis = 0
        for one in keys:
            if one is None:
                x = self.expand_dims(x, axis=axis)
            elif isinstance(one, int):
                x, axis = self.squeeze(x, axis), axis - 1
            axis += 1
        return x

    def _part(self, x: Value, axis: int, key: slice) -> Value:
        n = x.shape[axis]
        if n is None:
            raise InputError(
                "a part of the samples has no counterpart in a graph that takes any number of them"
            )
        own = range(*key.indices(n))
        stop = own.stop if own.stop >= 0 else -(2**31)  # before the first, counted from the end
        limits = [self.graph.constant(np.array([i], "int64")) for i in (own.start, stop, axis, own.step)]
        shape = (*x.shape[:axis], len(own), *x.shape[axis + 1 :])
        return self.graph.node("Slice", [x, *limits], x.dtype, shape)

    # Constants.

    def arange(self, start: int, stop: int | None = None, step: int = 1, **options: Any) -> Value:
        numbers = np.arange(0 if stop is None else start, start if stop is None else stop, step)
        return self.graph.constant(numbers.astype(options.get("dtype") or "int64"))

    def full_like(self, x: Value, fill_value: Any, *, dtype: str | None = None, device: None = None) -> Value:
        one = self.graph.constant(np.asarray(fill_value, dtype or x.dtype))
        if None not in x.shape:
            return self.broadcast_to(one, x.shape)
        shape = self.graph.node("Shape", [x], "int64", (x.ndim,))
        return self.graph.node("Expand", [one, shape], one.dtype, x.shape)

    def zeros_like(self, x: Value, *, dtype: str | None = None, device: None = None) -> Value:
        return self.full_like(x, 0, dtype=dtype)

    def ones_like(self, x: Value, *, dtype: str | None = None, device: None = None) -> Value:
        return self.full_like(x, 1, dtype=dtype)

    def sort(self, x: Value, *, axis: int = -1, descending: bool = False) -> Value:
        axis %= x.ndim
        if x.shape[axis] is None:
            raise InputError("the samples cannot be sorted in a graph that takes any number of them")
        k = self.graph.constant(np.array([x.shape[axis]], "int64"))
        places = Value(self.graph, "int64", x.shape)
        return self.graph.node(
            "TopK", [x, k], x.dtype, x.shape, spare=[places], axis=axis, largest=int(descending)
        )

    def gather(self, x: Value, places: Value, axis: int = 0) -> Value:
        """Return the slices of x at these places (n,): beside the standard, as its `take`."""
        axis %= x.ndim
        shape = (*x.shape[:axis], *places.shape, *x.shape[axis + 1 :])
        return self.graph.node("Gather", [x, places], x.dtype, shape, axis=axis)

    # Types.

    def isdtype(self, dtype: str, kind: str) -> bool:
        return np.dtype(dtype).kind in _KINDS.get(kind, "")

    def finfo(self, x: Any) -> SimpleNamespace:
        found = np.finfo(getattr(x, "dtype", x))
        limits = {name: float(getattr(found, name)) for name in ("max", "min", "eps", "smallest_normal")}
        return SimpleNamespace(dtype=str(found.dtype), bits=found.bits, **limits)


def broadcast(*shapes: Shape) -> Shape:
    """Return the shape that arrays have together."""
    found: list[int | None] = []
    for axis in range(-max(map(len, shapes)), 0):
        sizes = {shape[axis] for shape in shapes if len(shape) >= -axis} - {1}
        if len(sizes) > 1:
            raise InputError(f"shapes {' and '.join(map(str, shapes))} do not go together")
        found.append(sizes.pop() if sizes else 1)
    return tuple(found)


def _forbidden(self: Value, *args: Any) -> Any:
    raise InputError("the numbers of an array are read, which are not there while a graph is written")


def _operator(function: str, reflected: bool = False) -> Any:
    def operate(self: Value, *others: Any) -> Any:
        return getattr(self.graph.xp, function)(*((*others, self) if reflected else (self, *others)))

    return operate


_OPERATORS = {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "pow": "pow", "matmul": "matmul",
    "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal", "eq": "equal", "ne": "not_equal",
    "mod": "remainder", "getitem": "sliced", "neg": "negative",
    "abs": "abs", "and": "logical_and", "or": "logical_or", "invert": "logical_not",
}  # fmt: skip
for _name, _function in _OPERATORS.items():
    setattr(Value, f"__{_name}__", _operator(_function))
    if _function in _OF_TWO or _name == "matmul":
        setattr(Value, f"__r{_name}__", _operator(_function, reflected=True))
for _name in ("bool", "int", "float", "index", "array", "iter", "len", "contains"):
    setattr(Value, f"__{_name}__", _forbidden)
Value.__hash__ = object.__hash__  # type: ignore[method-assign]
