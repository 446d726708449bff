"""Arrays without numbers: what is done with them through the standard is written down."""

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from nnx.compiler.ir import views
from nnx.compiler.ir.graph import Arg, Op, Value
from nnx.compiler.ir.operations import (
    ARITY,
    DTYPES,
    FLOATS,
    INTEGERS,
    KINDS,
    OF_FLOATS,
    TO_BOOL,
    NotPortableError,
    RecordingError,
    promoted,
    scalar,
)


class Tape:
    """What is written down so far."""

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.inputs: list[Value] = []
        self.xp = Namespace(self)
        self._strides: dict[Value, views.Strides] = {}

    def _value(self, shape: Sequence[int], dtype: str) -> Value:
        return Value(len(self.inputs) + len(self.ops), tuple(shape), dtype)

    def input(self, shape: Sequence[int], dtype: str) -> "Placeholder":
        """Return a new input; all of them before the first operation."""
        value = self._value(shape, dtype)
        self.inputs.append(value)
        return Placeholder(self, value)

    def write(
        self, name: str, args: Sequence[Any], shape: Sequence[int], dtype: str, **options: Any
    ) -> "Placeholder":
        """Note an operation, and return its result."""
        values: tuple[Arg, ...] = tuple(arg.value if isinstance(arg, Placeholder) else arg for arg in args)
        out = self._value(shape, dtype)
        self.ops.append(Op(name, values, out, tuple(options.items())))
        return Placeholder(self, out)

    def strides(self, x: "Placeholder") -> views.Strides:
        """Return the strides of an array: of all but views, those of a row-major one."""
        return self._strides.get(x.value, views.contiguous(x.shape))

    def view(
        self, name: str, x: "Placeholder", shape: Sequence[int], strides: views.Strides, **options: Any
    ) -> "Placeholder":
        """Note a view of x."""
        found = self.write(name, [x], shape, x.dtype, **options)
        self._strides[found.value] = strides
        return found


class Limits(NamedTuple):
    """What the standard's finfo and iinfo say of a dtype."""

    dtype: str
    bits: int
    eps: float
    max: float
    min: float
    smallest_normal: float


class Info:
    """What the standard's `__array_namespace_info__` says."""

    def dtypes(self, *, device: Any = None, kind: Any = None) -> dict[str, str]:
        """Return the dtypes of a kind, or of all."""
        return {name: name for name in DTYPES if kind is None or _is_kind(name, kind)}


def _is_kind(dtype: str, kind: Any) -> bool:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    return any(dtype == one or dtype in KINDS.get(one, ()) for one in kinds)


class Placeholder:
    """An array of which the shape and dtype are known."""

    __array_ufunc__ = None  # an array of NumPy's beside it is an error that says so
    device = None

    def __init__(self, tape: Tape, value: Value) -> None:
        self.tape, self.value = tape, value

    shape = property(lambda self: self.value.shape)
    dtype = property(lambda self: self.value.dtype)
    ndim = property(lambda self: len(self.value.shape))
    size = property(lambda self: self.value.size)
    mT = property(lambda self: self.tape.xp.matrix_transpose(self))  # noqa: N815  # the standard's name

    @property
    def T(self) -> "Placeholder":
        """The transpose."""
        return self.tape.xp.permute_dims(self, tuple(range(self.ndim))[::-1])

    def __array_namespace__(self, api_version: str | None = None) -> "Namespace":
        return self.tape.xp

    def __getitem__(self, key: Any) -> "Placeholder":
        keys = key if isinstance(key, tuple) else (key,)
        at = next((at for at, k in enumerate(keys) if k is ...), None)
        if at is not None:
            missing = self.ndim - sum(k is not None for k in keys) + 1
            keys = keys[:at] + (slice(None),) * missing + keys[at + 1 :]
        shape: list[int] = []
        strides: list[int] = []
        normal: list[Any] = []
        axes = iter(zip(self.shape, self.tape.strides(self), strict=True))
        for k in keys:
            if k is None:
                shape.append(1)
                strides.append(0)
                normal.append(None)
                continue
            if type(k) is not int and not isinstance(k, slice):
                raise RecordingError(
                    f"an index of type {type(k).__name__}: only slices and integers are views"
                )
            n, stride = next(axes)
            if isinstance(k, int):
                normal.append(operator.index(k) + (n if k < 0 else 0))
                continue
            part = range(*k.indices(n))
            shape.append(len(part))
            strides.append(stride * part.step)
            stop = None if part.step < 0 and part.stop < 0 else part.stop
            normal.append(slice(part.start, stop, part.step))
        for n, stride in axes:
            shape.append(n)
            strides.append(stride)
            normal.append(slice(0, n, 1))
        return self.tape.view("slice", self, shape, tuple(strides), key=tuple(normal))

    def __setitem__(self, key: Any, value: Any) -> None:
        raise NotPortableError("an array is written into: a function that is recorded must be pure")


def _forbidden(name: str) -> Callable[..., Any]:
    def read(self: Any, *args: Any) -> Any:
        raise NotPortableError(f"{name}() of an array: its numbers are not there when a function is recorded")

    return read


for _name in ("bool", "int", "float", "complex", "index", "array", "dlpack", "iter", "len", "contains"):
    setattr(Placeholder, f"__{_name}__", _forbidden(_name))

_OPERATORS = {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "floordiv": "floor_divide",
    "mod": "remainder", "pow": "pow", "matmul": "matmul", "and": "bitwise_and", "or": "bitwise_or",
    "xor": "bitwise_xor", "lshift": "bitwise_left_shift", "rshift": "bitwise_right_shift",
}  # fmt: skip
_UNARY = {"neg": "negative", "pos": "positive", "abs": "abs", "invert": "bitwise_invert"}
_COMPARISONS = {
    "eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal",
}  # fmt: skip


def _define(dunder: str, function: str, reflected: bool = False) -> None:
    def operate(self: Placeholder, *others: Any) -> Any:
        args = (*others, self) if reflected else (self, *others)
        return getattr(self.tape.xp, function)(*args)

    setattr(Placeholder, f"__{dunder}__", operate)


for _name, _function in {**_OPERATORS, **_UNARY, **_COMPARISONS}.items():
    _define(_name, _function)
for _name, _function in _OPERATORS.items():
    _define(f"r{_name}", _function, reflected=True)
Placeholder.__hash__ = object.__hash__  # type: ignore[method-assign]


class Namespace:
    """The standard's functions on placeholders."""

    __name__ = "nnx.compiler"
    pi, e, inf, nan, newaxis = math.pi, math.e, math.inf, math.nan, None

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        for name in DTYPES:
            setattr(self, name, name)

    def __getattr__(self, name: str) -> Any:
        if name in ARITY:
            return lambda *args: self._elementwise(name, *args)
        if name.startswith("__"):
            raise AttributeError(name)
        raise RecordingError(f"the function {name!r} of the standard cannot be recorded")

    def _elementwise(self, name: str, *given: Any) -> Placeholder:
        if len(given) != ARITY[name]:
            raise RecordingError(f"{name} takes {ARITY[name]} arguments; given {len(given)}")
        args, dtype = self._together(name, given)
        if name in OF_FLOATS and dtype not in FLOATS:
            raise RecordingError(f"{name} of a {dtype} array: the standard has it for floating ones only")
        if dtype == "bool":  # the same on bools
            name = {"bitwise_and": "logical_and", "bitwise_or": "logical_or", "bitwise_xor": "logical_xor",
                    "bitwise_invert": "logical_not"}.get(name, name)  # fmt: skip
        if name == "pow" and isinstance(args[1], float) and args[1] in (2.0, 0.5):
            name, args = ("square" if args[1] == 2.0 else "sqrt"), args[:1]  # as NumPy does it, too
        shape = views.broadcast(*(arg.shape for arg in args if isinstance(arg, Placeholder)))
        return self._tape.write(name, args, shape, "bool" if name in TO_BOOL else dtype)

    def _together(self, name: str, args: Sequence[Any]) -> tuple[list[Any], str]:
        """Return the arguments, numbers as those of the arrays' dtype, and this dtype."""
        arrays = [arg for arg in args if isinstance(arg, Placeholder)]
        if not arrays:
            raise NotPortableError(
                f"{name} of {', '.join(type(arg).__name__ for arg in args)}: no recorded array"
            )
        for arg in args:
            if hasattr(arg, "shape") and not isinstance(arg, Placeholder):
                raise NotPortableError(f"{name} of a recorded array and a {type(arg).__name__} that is none")
        dtype = promoted(name, [x.dtype for x in arrays])
        return [x if isinstance(x, Placeholder) else scalar(name, x, dtype) for x in args], dtype

    # What looks at dtypes.

    def isdtype(self, dtype: str, kind: Any) -> bool:
        return _is_kind(dtype, kind)

    def result_type(self, *args: Any) -> str:
        return promoted("result_type", [getattr(arg, "dtype", arg) for arg in args])

    def finfo(self, x: Any) -> Limits:
        dtype = getattr(x, "dtype", x)
        bits, digits, top = (32, 23, 128) if dtype == "float32" else (64, 52, 1024)
        largest = math.ldexp(2 - 2.0**-digits, top - 1)
        return Limits(dtype, bits, 2.0**-digits, largest, -largest, 2.0 ** (2 - top))

    def iinfo(self, x: Any) -> Limits:
        dtype = getattr(x, "dtype", x)
        bits = int(dtype.lstrip("uint"))
        low, high = (
            (0, 2**bits - 1)
            if dtype in KINDS["unsigned integer"]
            else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        )
        return Limits(dtype, bits, 1, high, low, 1)

    def astype(self, x: Placeholder, dtype: str, *, copy: bool = True, device: Any = None) -> Placeholder:
        if dtype not in DTYPES:
            raise RecordingError(f"astype to {dtype!r}, which is no dtype of the standard's")
        return x if dtype == x.dtype else self._tape.write("astype", [x], x.shape, dtype)

    def __array_namespace_info__(self) -> Info:
        return Info()

    # What is chosen.

    def where(self, condition: Placeholder, x1: Any, x2: Any) -> Placeholder:
        (x1, x2), dtype = self._together("where", (x1, x2))
        shape = views.broadcast(*(arg.shape for arg in (condition, x1, x2) if isinstance(arg, Placeholder)))
        return self._tape.write("where", [condition, x1, x2], shape, dtype)

    def clip(self, x: Placeholder, min: Any = None, max: Any = None) -> Placeholder:
        x = x if min is None else self.maximum(x, min)
        return x if max is None else self.minimum(x, max)

    # Views.

    def reshape(self, x: Placeholder, shape: Sequence[int], *, copy: bool | None = None) -> Placeholder:
        shape = views.wanted(x.shape, (shape,) if isinstance(shape, int) else shape)
        strides = views.reshaped(x.shape, self._tape.strides(x), shape)
        if strides is None:
            x = self._tape.write("copy", [x], x.shape, x.dtype)
            strides = views.contiguous(shape)
        return self._tape.view("reshape", x, shape, strides)

    def permute_dims(self, x: Placeholder, axes: Sequence[int]) -> Placeholder:
        axes = tuple(axis % x.ndim for axis in axes)
        old = self._tape.strides(x)
        return self._tape.view(
            "permute", x, [x.shape[axis] for axis in axes], tuple(old[axis] for axis in axes), axes=axes
        )

    def matrix_transpose(self, x: Placeholder) -> Placeholder:
        *lead, i, j = range(x.ndim)
        return self.permute_dims(x, (*lead, j, i))

    def moveaxis(self, x: Placeholder, source: int, destination: int) -> Placeholder:
        axes = [axis for axis in range(x.ndim) if axis != source % x.ndim]
        axes.insert(destination % x.ndim, source % x.ndim)
        return self.permute_dims(x, axes)

    def expand_dims(self, x: Placeholder, *, axis: int = 0) -> Placeholder:
        axis = axis % (x.ndim + 1)
        return self.reshape(x, (*x.shape[:axis], 1, *x.shape[axis:]))

    def squeeze(self, x: Placeholder, axis: int | tuple[int, ...]) -> Placeholder:
        gone = {a % x.ndim for a in ((axis,) if isinstance(axis, int) else axis)}
        return self.reshape(x, [n for a, n in enumerate(x.shape) if a not in gone])

    def flip(self, x: Placeholder, *, axis: int | tuple[int, ...] | None = None) -> Placeholder:
        axes = range(x.ndim) if axis is None else (axis,) if isinstance(axis, int) else axis
        gone = {a % x.ndim for a in axes}
        return x[tuple(slice(None, None, -1) if a in gone else slice(None) for a in range(x.ndim))]

    def broadcast_to(self, x: Placeholder, shape: Sequence[int]) -> Placeholder:
        shape = tuple(shape)
        if views.broadcast(x.shape, shape) != shape:
            raise RecordingError(f"broadcast_to of {x.shape} to {shape}")
        old = (0,) * (len(shape) - x.ndim) + self._tape.strides(x)
        sizes = (1,) * (len(shape) - x.ndim) + x.shape
        strides = tuple(0 if n == 1 else s for n, s in zip(sizes, old, strict=True))
        return self._tape.view("broadcast", x, shape, strides)

    def broadcast_arrays(self, *arrays: Placeholder) -> list[Placeholder]:
        shape = views.broadcast(*(x.shape for x in arrays))
        return [self.broadcast_to(x, shape) for x in arrays]

    # What is made of nothing.

    def full(self, shape: Any, value: Any, *, dtype: str | None = None, device: Any = None) -> Placeholder:
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        if dtype is None:
            dtype = {bool: "bool", int: "int64", float: "float64"}.get(type(value), "float64")
        return self._tape.write("full", [], shape, dtype, value=scalar("full", value, dtype))

    def zeros(self, shape: Any, *, dtype: str = "float64", device: Any = None) -> Placeholder:
        return self.full(shape, 0 if dtype != "bool" else False, dtype=dtype)

    def ones(self, shape: Any, *, dtype: str = "float64", device: Any = None) -> Placeholder:
        return self.full(shape, 1 if dtype != "bool" else True, dtype=dtype)

    def full_like(
        self, x: Placeholder, value: Any, *, dtype: str | None = None, device: Any = None
    ) -> Placeholder:
        return self.full(x.shape, value, dtype=dtype or x.dtype)

    def zeros_like(self, x: Placeholder, *, dtype: str | None = None, device: Any = None) -> Placeholder:
        return self.zeros(x.shape, dtype=dtype or x.dtype)

    def ones_like(self, x: Placeholder, *, dtype: str | None = None, device: Any = None) -> Placeholder:
        return self.ones(x.shape, dtype=dtype or x.dtype)

    def arange(
        self,
        start: int,
        stop: int | None = None,
        step: int = 1,
        *,
        dtype: str | None = None,
        device: Any = None,
    ) -> Placeholder:
        start, stop = (0, start) if stop is None else (start, stop)
        if {type(start), type(stop), type(step)} != {int}:
            raise RecordingError("arange of other numbers than Python's integers")
        n = len(range(start, stop, step))
        return self._tape.write("arange", [], (n,), dtype or "int64", start=start, step=step)

    def asarray(
        self, x: Any, *, dtype: str | None = None, device: Any = None, copy: Any = None
    ) -> Placeholder:
        if isinstance(x, Placeholder):
            return x if dtype is None else self.astype(x, dtype)
        if type(x) not in (bool, int, float):
            raise RecordingError(f"asarray of {type(x).__name__}: only Python numbers can be recorded")
        return self.full((), x, dtype=dtype)

    # What takes axes together.

    def _reduced(self, name: str, x: Placeholder, axis: Any, keepdims: bool, dtype: str) -> Placeholder:
        every = range(x.ndim) if axis is None else (axis,) if isinstance(axis, int) else axis
        axes = tuple(sorted(a % x.ndim for a in every))
        kept = [1 if a in axes else n for a, n in enumerate(x.shape)]
        shape = kept if keepdims else [n for a, n in enumerate(x.shape) if a not in axes]
        return self._tape.write(name, [x], shape, dtype, axes=axes, keepdims=bool(keepdims))

    def _total(self, name: str, x: Placeholder, axis: Any, keepdims: bool, dtype: str | None) -> Placeholder:
        if x.dtype == "bool":
            raise RecordingError(f"{name} of a bool array: the standard does not have it")
        if dtype is None and x.dtype in INTEGERS:  # the default integer
            dtype = "int64" if x.dtype in KINDS["signed integer"] else "uint64"
        if dtype is not None:
            x = self.astype(x, dtype)
        return self._reduced(name, x, axis, keepdims, x.dtype)

    def sum(
        self, x: Placeholder, *, axis: Any = None, dtype: Any = None, keepdims: bool = False
    ) -> Placeholder:
        return self._total("sum", x, axis, keepdims, dtype)

    def prod(
        self, x: Placeholder, *, axis: Any = None, dtype: Any = None, keepdims: bool = False
    ) -> Placeholder:
        return self._total("prod", x, axis, keepdims, dtype)

    def mean(self, x: Placeholder, *, axis: Any = None, keepdims: bool = False) -> Placeholder:
        return self._reduced("mean", x, axis, keepdims, x.dtype)

    def max(self, x: Placeholder, *, axis: Any = None, keepdims: bool = False) -> Placeholder:
        return self._reduced("max", x, axis, keepdims, x.dtype)

    def min(self, x: Placeholder, *, axis: Any = None, keepdims: bool = False) -> Placeholder:
        return self._reduced("min", x, axis, keepdims, x.dtype)

    def all(self, x: Placeholder, *, axis: Any = None, keepdims: bool = False) -> Placeholder:
        return self._reduced("all", self.astype(x, "bool"), axis, keepdims, "bool")

    def any(self, x: Placeholder, *, axis: Any = None, keepdims: bool = False) -> Placeholder:
        return self._reduced("any", self.astype(x, "bool"), axis, keepdims, "bool")

    def argmax(self, x: Placeholder, *, axis: int | None = None, keepdims: bool = False) -> Placeholder:
        x, axis = (self.reshape(x, (-1,)), 0) if axis is None else (x, axis)
        return self._reduced("argmax", x, axis, keepdims, "int64")

    def argmin(self, x: Placeholder, *, axis: int | None = None, keepdims: bool = False) -> Placeholder:
        x, axis = (self.reshape(x, (-1,)), 0) if axis is None else (x, axis)
        return self._reduced("argmin", x, axis, keepdims, "int64")

    def count_nonzero(self, x: Placeholder, *, axis: Any = None, keepdims: bool = False) -> Placeholder:
        return self.sum(self.astype(self.astype(x, "bool"), "int64"), axis=axis, keepdims=keepdims)

    # Products, and what joins arrays.

    def matmul(self, x1: Placeholder, x2: Placeholder) -> Placeholder:
        for x in (x1, x2):
            if not isinstance(x, Placeholder):
                raise RecordingError(f"matmul of a recorded array and a {type(x).__name__} that is none")
        if x1.ndim < 2 or x2.ndim < 2 or x1.shape[-1] != x2.shape[-2]:
            raise RecordingError(f"matmul of {x1.shape} and {x2.shape}")
        lead = views.broadcast(x1.shape[:-2], x2.shape[:-2])
        dtype = promoted("matmul", [x1.dtype, x2.dtype])
        return self._tape.write("matmul", [x1, x2], (*lead, x1.shape[-2], x2.shape[-1]), dtype)

    def vecdot(self, x1: Placeholder, x2: Placeholder, *, axis: int = -1) -> Placeholder:
        return self.sum(self.multiply(x1, x2), axis=axis)

    def concat(self, arrays: Sequence[Placeholder], *, axis: int | None = 0) -> Placeholder:
        if axis is None:
            arrays, axis = [self.reshape(x, (-1,)) for x in arrays], 0
        axis %= arrays[0].ndim
        shape = list(arrays[0].shape)
        shape[axis] = sum(x.shape[axis] for x in arrays)
        dtype = promoted("concat", [x.dtype for x in arrays])
        return self._tape.write("concat", [self.astype(x, dtype) for x in arrays], shape, dtype, axis=axis)

    def stack(self, arrays: Sequence[Placeholder], *, axis: int = 0) -> Placeholder:
        axis %= arrays[0].ndim + 1
        return self.concat([self.expand_dims(x, axis=axis) for x in arrays], axis=axis)
